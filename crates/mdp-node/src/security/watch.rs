//! [`IdentityWatch`]: reads the files of identities again and again, and tells the broker thread what is new.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use mdp_broker::{Access, IdentityName};

use crate::{
    IdentityChanges, IdentityFiles, IdentityFilesError, Reload,
    inbox::{Message, Postbox},
};

/// How often the files are read: Kubernetes swaps a link, which no watch of a file tells.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How soon they are read again when something is different, which counts if it is so twice.
const SETTLES_IN: Duration = Duration::from_millis(100);
/// How often it is said that files are broken.
const COMPLAINS_EVERY: Duration = Duration::from_secs(60);
/// How many names of a kind a line of the log has.
const NAMES_TOLD_MAX: usize = 10;

/// What is known of the files of identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityStatus {
    /// Equal at two nodes if their files are.
    pub digest: String,
    /// How often files were different and could be used.
    pub reloads: u64,
    /// How often they could not be used.
    pub errors: u64,
    /// What is wrong with them now; `None`: nothing, they count.
    pub problem: Option<String>,
}

/// What other threads see of the watch.
#[derive(Clone, Debug)]
pub(crate) struct IdentityReader {
    status: Arc<Mutex<IdentityStatus>>,
    /// One place: asked twice is asked once.
    asked: SyncSender<()>,
}

impl IdentityReader {
    /// What is known of the files.
    pub(crate) fn status(&self) -> IdentityStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the files read now (SIGHUP).
    pub(crate) fn read_now(&self) {
        // A full channel has the same wish; a closed one belongs to a node that ends.
        match self.asked.try_send(()) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// Reads the files of identities until it is dropped.
#[derive(Debug)]
pub(crate) struct IdentityWatch {
    reader: IdentityReader,
    /// Its end is what the thread waits for.
    _life: SyncSender<()>,
}

impl IdentityWatch {
    /// Starts a thread that reads them.
    pub(crate) fn start(files: IdentityFiles, postbox: Postbox) -> io::Result<Self> {
        let status = IdentityStatus { digest: files.digest(), ..IdentityStatus::default() };
        let status = Arc::new(Mutex::new(status));
        let (asked, wishes) = sync_channel(1);
        let (life, alive) = sync_channel::<()>(0);
        let reading = Reading {
            files,
            postbox,
            status: Arc::clone(&status),
            unsent: None,
            is_settling: false,
            complained_at: None,
        };
        thread::Builder::new()
            .name("mdp-identities".to_owned())
            .spawn(move || reading.run(&wishes, &alive))?;
        Ok(Self { reader: IdentityReader { status, asked }, _life: life })
    }

    /// For other threads.
    pub(crate) fn reader(&self) -> IdentityReader {
        self.reader.clone()
    }
}

struct Reading {
    files: IdentityFiles,
    postbox: Postbox,
    status: Arc<Mutex<IdentityStatus>>,
    /// What the broker thread had no room for.
    unsent: Option<Arc<Access>>,
    is_settling: bool,
    /// When it was last said that files are broken.
    complained_at: Option<Instant>,
}

impl Reading {
    fn run(mut self, wishes: &Receiver<()>, alive: &Receiver<()>) {
        loop {
            let wait = if self.is_settling { SETTLES_IN } else { READ_EVERY };
            match wishes.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if alive.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let reload = self.files.reload();
        self.is_settling = reload.as_ref().is_ok_and(|reload| reload.is_settling);
        let problem = match reload {
            Ok(Reload { changes, problems, .. }) => {
                if let Some(changes) = changes {
                    self.on_changed(&changes);
                }
                let problem = IdentityFilesError::Files(problems);
                (!problem.is_empty()).then(|| problem.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        match problem {
            None => self.on_right(),
            Some(problem) => self.on_broken(problem),
        }
        if let Some(access) = self.unsent.take()
            && self.postbox.post(Message::Access(Arc::clone(&access))).is_err()
        {
            self.unsent = Some(access);
        }
    }

    fn on_right(&mut self) {
        self.complained_at = None;
        if self.change(|status| status.problem.take().is_some()) {
            tracing::info!("all files of identities can be used again");
        }
    }

    fn on_changed(&mut self, changes: &IdentityChanges) {
        let digest = self.files.digest();
        self.change(|status| {
            status.reloads += 1;
            status.digest.clone_from(&digest);
        });
        self.unsent = Some(self.files.access());
        let IdentityChanges { added, removed, changed, anonymous } = changes;
        tracing::info!(
            added = names(added),
            removed = names(removed),
            changed = names(changed),
            anonymous,
            digest,
            "identities were read again"
        );
    }

    /// Says it when it is news, and now and then as long as it is so.
    fn on_broken(&mut self, problem: String) {
        let is_news = self.change(|status| status.problem.as_ref() != Some(&problem));
        let is_due = self.complained_at.is_none_or(|at| at.elapsed() >= COMPLAINS_EVERY);
        if is_news || is_due {
            self.complained_at = Some(Instant::now());
            tracing::error!(
                "files of identities can not be used, and count as they were before: {problem}"
            );
        }
        self.change(|status| {
            status.errors += u64::from(is_news);
            status.problem = Some(problem);
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut IdentityStatus) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Some names for a line.
fn names(names: &[IdentityName]) -> Option<String> {
    let told = names.iter().take(NAMES_TOLD_MAX).map(IdentityName::as_str);
    let more = (names.len() > NAMES_TOLD_MAX).then_some("..");
    (!names.is_empty()).then(|| told.chain(more).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use mdp_broker::Enforcement;

    use super::*;
    use crate::inbox::{Inbox, inbox};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn write(directory: &Path, name: &str, text: &str) {
        fs::write(directory.join(name), text).unwrap();
    }

    fn watch(directory: &Path) -> (IdentityWatch, Inbox) {
        write(directory, "a.toml", "call = [\"x\"]\n");
        let files = IdentityFiles::load(directory, Enforcement::Enforce).unwrap();
        let (postbox, inbox) = inbox().unwrap();
        (IdentityWatch::start(files, postbox).unwrap(), inbox)
    }

    /// Waits until this is so, and has the files read meanwhile.
    fn wait<T>(watch: &IdentityWatch, mut found: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            watch.reader().read_now();
            if let Some(found) = found() {
                return found;
            }
            assert!(Instant::now() < deadline, "{:?}", watch.reader().status());
            thread::yield_now();
        }
    }

    #[test]
    fn files_that_change_are_told_and_a_broken_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (watch, inbox) = watch(directory.path());
        let before = watch.reader().status().digest;

        write(directory.path(), "b.toml", "call = [\"y\"]\n");
        let access = wait(&watch, || {
            let Some(Message::Access(access)) = inbox.take() else { return None };
            Some(access)
        });
        assert_eq!(access.identities().count(), 2);
        let status = watch.reader().status();
        assert_ne!(status.digest, before);
        assert_eq!((status.reloads, status.errors, status.problem), (1, 0, None));

        write(directory.path(), "b.toml", "cal = 1\n");
        let problem = wait(&watch, || watch.reader().status().problem);
        assert!(problem.contains("b.toml"), "{problem}");
        wait(&watch, || (watch.reader().status().errors == 1).then_some(()));
        assert!(inbox.take().is_none());

        write(directory.path(), "b.toml", "call = [\"y\"]\n");
        wait(&watch, || watch.reader().status().problem.is_none().then_some(()));
        assert_eq!(watch.reader().status().errors, 1);
    }
}
