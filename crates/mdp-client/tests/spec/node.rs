//! A node of a cluster that echoes requests and answers `mmi.endpoints` with a list of the test's.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::support::{FakeBroker, frames};

/// The endpoints that all nodes of a test list.
pub(crate) type Listed = Arc<Mutex<Vec<String>>>;

pub(crate) struct Node {
    pub(crate) endpoint: String,
    /// Requests of clients so far, without questions.
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn start(listed: &Listed) -> Self {
        Self::run(FakeBroker::start(), listed)
    }

    /// Starts again where a node was.
    pub(crate) fn restart(endpoint: &str, listed: &Listed) -> Self {
        Self::run(FakeBroker::bind(endpoint), listed)
    }

    fn run(broker: FakeBroker, listed: &Listed) -> Self {
        let endpoint = broker.endpoint.clone();
        let (requests, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped, listed) =
            (Arc::clone(&requests), Arc::clone(&stop), Arc::clone(listed));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let Some((peer, mut frames)) = broker.recv_within(Duration::from_millis(5)) else {
                    continue;
                };
                let empty = frames.iter().position(Vec::is_empty).unwrap();
                if frames[empty + 2] == b"mmi.endpoints" {
                    frames.truncate(empty + 3);
                    frames.extend(page(&listed.lock().unwrap()));
                } else {
                    counted.fetch_add(1, Ordering::AcqRel);
                }
                // The client may be gone.
                broker.try_send(&peer, frames).ok();
            }
        });
        Self { endpoint, requests, stop, thread: Some(thread) }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Closes all connections, and returns the endpoint.
    pub(crate) fn stop(mut self) -> String {
        self.end();
        self.endpoint.clone()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

/// The body of an answer to `mmi.endpoints`.
pub(crate) fn page(endpoints: &[String]) -> Vec<Vec<u8>> {
    let nodes = endpoints.iter().map(|e| format!(r#"{{"node":"n","endpoint":"{e}"}}"#));
    let page = format!(r#"{{"endpoints":[{}]}}"#, nodes.collect::<Vec<_>>().join(","));
    frames![b"200", &page]
}

pub(crate) fn list(listed: &Listed, nodes: &[&Node]) {
    *listed.lock().unwrap() = nodes.iter().map(|node| node.endpoint.clone()).collect();
}
