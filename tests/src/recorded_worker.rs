//! Workers in processes of their own, which are killed and frozen, and what they wrote down.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;

use crate::{Execution, Parting, SubmissionId, process::Process};

/// How often such a worker shows that it lives; the node should do the same.
pub const RECORDED_HEARTBEAT: Duration = Duration::from_millis(500);

/// How long a node may be silent until such a worker leaves it.
pub const RECORDED_SILENCE_MAX: Duration = Duration::from_secs(2);

/// A worker's place: when its process is killed, another one follows.
#[derive(Debug)]
pub struct RecordedWorker {
    program: PathBuf,
    record: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

/// What a worker wrote down, over all its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What it executed.
    pub executions: Vec<Execution>,
    /// Its registrations that it saw end.
    pub partings: Vec<Parting>,
    /// How many registrations were acknowledged.
    pub registrations: usize,
}

impl RecordedWorker {
    /// Starts a worker. `program`: the `recording-worker` of this package; `record`: the file to
    /// write to; a job takes at most `job_max`; node n is the n-th of the endpoints.
    #[must_use]
    pub fn start(
        program: &str,
        record: &Path,
        service: &str,
        job_max: Duration,
        endpoints: &[String],
    ) -> Self {
        let mut arguments =
            vec![record.display().to_string(), service.to_owned(), job_max.as_millis().to_string()];
        arguments.extend(endpoints.iter().cloned());
        let record = record.to_owned();
        let mut worker = Self { program: program.into(), record, arguments, process: None };
        worker.restart();
        worker
    }

    /// Kills the process, if there is one.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts a process in the place of the last one.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(&self.program);
        self.process = Some(Process::spawn("worker", command.args(&self.arguments)));
    }

    /// Stops the process in its tracks.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap_or_else(|| panic!("no process")).signal(signal);
    }

    /// Kills the process and reads what was written down by worker number `worker`.
    #[must_use]
    pub fn finish(mut self, worker: usize) -> Record {
        let mut process = self.process.take().unwrap_or_else(|| panic!("no process"));
        assert!(process.is_alive(), "worker {worker} ended by itself: {:?}", process.log());
        drop(process);
        Record::read(&fs::read_to_string(&self.record).unwrap_or_default(), worker)
    }
}

impl Record {
    fn read(text: &str, worker: usize) -> Self {
        let mut record = Self::default();
        // Half a line: the process was killed while it wrote, and another one may follow it.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        for line in lines {
            let fields: Vec<&str> = line.split(' ').collect();
            let number = |field: &str| field.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
            let node = |field| usize::try_from(number(field)).unwrap();
            match fields.as_slice() {
                ["executes", id, at_node, at] => record.executions.push(Execution {
                    id: SubmissionId::parse(id).unwrap_or_else(|| panic!("{line}")),
                    worker,
                    node: node(at_node),
                    at: number(at),
                    answered_at: None,
                }),
                ["sent-away" | "silent", at_node, at] => {
                    record.partings.push(Parting { worker, node: node(at_node), at: number(at) });
                }
                ["registered", _, _] => record.registrations += 1,
                ["answered", id, _, at] => {
                    // It executes one at a time, and its last process may not have answered.
                    let id = SubmissionId::parse(id).unwrap_or_else(|| panic!("{line}"));
                    let last = record.executions.last_mut().filter(|last| last.id == id);
                    let last = last.unwrap_or_else(|| panic!("not executed: {line}"));
                    last.answered_at = Some(number(at));
                }
                _ => panic!("no line of a worker: {line}"),
            }
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_read() {
        let text = "registered 1 5\nexecutes 3/4/0 1 6\nanswered 3/4/0 1 7\nsent-away 1 8\nexec";

        let record = Record::read(text, 9);

        let id = SubmissionId { client: 3, request: 4, round: 0 };
        let expected = Record {
            executions: vec![Execution { id, worker: 9, node: 1, at: 6, answered_at: Some(7) }],
            partings: vec![Parting { worker: 9, node: 1, at: 8 }],
            registrations: 1,
        };
        assert_eq!(record, expected);
    }
}
