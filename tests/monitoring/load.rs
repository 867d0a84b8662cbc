//! Workers at two of three nodes, one that comes and goes at the third, and a client of each node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use cluster_tests::{NODES, RawClient, RawWorker, TestCluster, Version};

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(10);

/// Ends when it is dropped.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(cluster: &TestCluster) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut spawn = |work: Box<dyn FnOnce(&AtomicBool) + Send>| {
            let is_over = Arc::clone(&is_over);
            threads.push(thread::spawn(move || work(&is_over)));
        };
        for node in [0, 1] {
            let worker = RawWorker::register(cluster.node(node), Version::V02, "echo");
            spawn(Box::new(move |is_over| serve(&worker, is_over)));
        }
        let worker = RawWorker::connect(cluster.node(2), Version::V01);
        spawn(Box::new(move |is_over| come_and_go(&worker, is_over)));
        for node in 0..NODES {
            let client = RawClient::connect(cluster.node(node), Version::V01);
            spawn(Box::new(move |is_over| ask(&client, is_over)));
        }
        Self { is_over, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that stopped has said why.
            drop(thread.join());
        }
    }
}

/// Gives each body back, and says now and then that it lives.
fn serve(worker: &RawWorker, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if let Some(request) = worker.recv_command(Duration::from_millis(300)) {
            // 18/MDP: empty frame, header and command, address, empty frame, body.
            let (address, body) = (request.get(2).unwrap(), request.last().unwrap());
            worker.answer(address, body);
        }
        worker.heartbeat();
    }
}

/// Registers again and again, so that nodes have something to agree on and to write.
fn come_and_go(worker: &RawWorker, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        worker.ready("comes-and-goes");
        worker.expect_heartbeat();
        worker.disconnect();
        thread::sleep(PAUSE * 30);
    }
}

/// Calls, asks who serves, and says something that is no message.
fn ask(client: &RawClient, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        client.request("echo", "hello");
        client.expect_reply("echo", "hello");
        assert_eq!(client.ask("mmi.service", "echo"), "200");
        client.socket.send(&[b"nonsense".to_vec()]);
        thread::sleep(PAUSE);
    }
}
