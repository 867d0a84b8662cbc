//! Back-pressure is not loss.

use std::{
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use cluster_tests::{NodeProcess, PATIENCE, QUIET, RawClient, RawWorker, Version};

use crate::{MIB, machine};

use Version::{V01, V02};

const REQUESTS: u32 = 100_000;

/// How long a worker waits for more before it takes its job as done.
const NO_MORE_AFTER: Duration = Duration::from_secs(3);

/// The client begins to read when this many were served, far more than fit into its connection.
const SERVED_BEFORE_READING: u32 = 10_000;

/// Answers every request with its own body until no more come; how many there were.
fn echo(worker: &RawWorker, many_served: &Sender<()>) -> u32 {
    let mut served = 0;
    while let Some(work) = worker.recv_command(NO_MORE_AFTER) {
        let at = work.len() - 3;
        worker.answer(&work[at], &work[at + 2]);
        served += 1;
        if served == SERVED_BEFORE_READING {
            many_served.send(()).unwrap();
        }
    }
    served
}

fn all_replies_come_in_order(version: Version, workers: RegisterAt) {
    let _machine = machine();
    let node = NodeProcess::start(&[QUIET, ("broker.request_ttl", "10m")]);
    let client = RawClient::connect_narrow(&node, version);
    let early = (workers == RegisterAt::Start).then(|| RawWorker::register(&node, version, "echo"));
    let (many_served, many_were_served) = channel();

    let served = thread::scope(|scope| {
        let run = |worker: RawWorker| scope.spawn(move || echo(&worker, &many_served));
        let worker = match early {
            Some(worker) => {
                let worker = run(worker);
                send_all(&client);
                worker
            }
            None => {
                send_all(&client);
                client.settle();
                run(RawWorker::register(&node, version, "echo"))
            }
        };
        many_were_served.recv_timeout(PATIENCE).unwrap();
        for number in 0..REQUESTS {
            client.expect_reply("echo", number.to_be_bytes());
        }
        worker.join().unwrap()
    });

    assert_eq!(served, REQUESTS);
    client.settle();
    println!("peak {} MiB", node.peak_rss_bytes() / MIB);
    assert!(node.peak_rss_bytes() < 300 * MIB, "{} bytes", node.peak_rss_bytes());
}

fn send_all(client: &RawClient) {
    for number in 0..REQUESTS {
        client.request("echo", number.to_be_bytes());
    }
}

/// When the worker comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RegisterAt {
    /// Before the first request.
    Start,
    /// Behind the last request.
    End,
}

#[test]
fn hundred_thousand_requests_before_the_first_read_get_all_replies_in_order() {
    all_replies_come_in_order(V01, RegisterAt::Start);
}

#[test]
fn hundred_thousand_waiting_requests_get_all_replies_in_order() {
    all_replies_come_in_order(V02, RegisterAt::End);
}

#[test]
fn many_workers_answer_hundred_thousand_requests_once_each() {
    const WORKERS: usize = 16;
    let _machine = machine();
    let node = NodeProcess::start(&[QUIET, ("broker.request_ttl", "10m")]);
    let client = RawClient::connect(&node, V01);
    let workers: Vec<_> = (0..WORKERS).map(|_| RawWorker::register(&node, V01, "echo")).collect();

    let (many_served, _many_were_served) = channel();

    let served: u32 = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let many_served = many_served.clone();
                scope.spawn(move || echo(&worker, &many_served))
            })
            .collect();
        send_all(&client);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });

    assert_eq!(served, REQUESTS);
    let mut numbers: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let reply = client.socket.recv();
            u32::from_be_bytes(reply.last().unwrap()[..].try_into().unwrap())
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..REQUESTS), "a reply is missing or came twice");
}
