use std::thread::{self, JoinHandle};

use zmq::{Context, SocketType};

use super::*;

/// Answers `200` to all but each so many-th question, which gets `404`, until its context ends.
struct Answerer {
    context: Context,
    endpoint: String,
    thread: Option<JoinHandle<()>>,
}

impl Answerer {
    fn start(wrong_every: usize) -> Self {
        let context = Context::new();
        let router = context.socket(SocketType::ROUTER).unwrap();
        router.set_linger(0).unwrap();
        router.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = router.get_last_endpoint().unwrap().unwrap();
        let thread = thread::spawn(move || {
            for count in 1.. {
                let Ok(mut frames) = router.recv_multipart(0) else { return };
                let code = if count % wrong_every == 0 { b"404" } else { b"200" };
                *frames.last_mut().unwrap() = code.to_vec();
                router.send_multipart(frames, 0).unwrap();
            }
        });
        Self { context, endpoint, thread: Some(thread) }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.context.destroy().unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn questions(answerer: &Answerer) -> Questions {
    Questions {
        endpoint: answerer.endpoint.clone(),
        service: "mmi.service".into(),
        bodies: vec!["a".into(), "b".into()],
        answer: "200".into(),
        window: 16,
        connections: 3,
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(200),
        pids: vec![std::process::id()],
    }
}

#[test]
fn every_question_is_answered_once() {
    let answerer = Answerer::start(usize::MAX);

    let answers = ask(&questions(&answerer)).unwrap();

    assert!(answers.answers > 16 && answers.answers_per_second > 80.0, "{answers:?}");
    assert_eq!(answers.errors, 0);
    assert!(answers.latency.p50_us > 0.0 && answers.latency.p50_us <= answers.latency.max_us);
    assert!(answers.cpu_us() > 0.0 && answers.generator_cpu_us > 0.0, "{answers:?}");
}

#[test]
fn wrong_answers_are_counted_and_the_window_stays_full() {
    let answerer = Answerer::start(10);

    let answers = ask(&questions(&answerer)).unwrap();

    assert!(answers.errors > 10 && answers.answers > answers.errors, "{answers:?}");
}
