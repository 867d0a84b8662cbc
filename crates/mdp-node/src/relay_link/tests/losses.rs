//! Links that end.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;

#[test]
fn owner_that_ends_is_noticed_and_found_again_at_another_port() {
    let (mut one, mut other) = pair();
    let link = one.to_owner().unwrap();
    drop(other);

    let begun = Instant::now();
    until("the loss", &mut [&mut one], |ends| ends[0].to_owner().is_none());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());

    other = End::new("node-2", 13);
    let nodes = [one.address(), other.address()];
    other.join(&nodes);
    one.join(&nodes);
    until("another link", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| end.to_owner().is_some() && end.to_origin().is_some())
    });
    assert!(one.to_owner().unwrap() > link);
}

#[test]
fn owner_that_starts_again_at_the_same_port_is_found_again() {
    let (mut one, other) = pair();
    let (nodes, bind) = ([other.address()], other.links.endpoint().to_string());
    drop(other);
    until("the loss", &mut [&mut one], |ends| ends[0].to_owner().is_none());
    go_on(&mut [&mut one], Duration::from_millis(300));

    let mut other = End::at("node-2", 13, &bind, WIRE);
    other.join(&nodes);

    let begun = Instant::now();
    until("another link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn origin_that_ends_is_noticed_by_a_sign_of_life() {
    let (one, mut other) = pair();
    let link = other.to_origin().unwrap();
    drop(one);

    let begun = Instant::now();
    until("the loss", &mut [&mut other], |ends| ends[0].to_origin().is_none());

    assert!(begun.elapsed() < PING_INTERVAL + Duration::from_millis(500), "{:?}", begun.elapsed());
    assert!(other.downs().contains(&(link, Vec::new())));
}

#[test]
fn requests_for_a_link_that_is_gone_are_certainly_not_sent() {
    let (mut one, other) = pair();
    let link = one.to_owner().unwrap();
    drop(other);
    let begun = Instant::now();
    // The engine does not know yet, and goes on.
    let mut id = 0;
    while !one.links.ledger.has_inputs() {
        assert!(begun.elapsed() < DEADLINE);
        id += 1;
        one.send(link, forward(id, 10));
    }
    for later in [id + 1, id + 2] {
        one.send(link, forward(later, 10));
    }
    one.send(link, ToOwner::Cancel(ForwardId(1)));

    one.take_inputs();

    assert!(one.downs().contains(&(link, vec![id, id + 1, id + 2])), "{:?}", one.downs());
}

#[test]
fn nothing_stale_reaches_a_later_link() {
    let (mut one, mut other) = pair();
    let (owner, origin) = (one.to_owner().unwrap(), other.to_origin().unwrap());
    for id in 0..500 {
        one.send(owner, forward(id, 100_000));
        other.answer(origin, reply(id, 1_000));
    }
    // Both sides have much on its way when the link ends.
    one.links.peers.iter_mut().for_each(|peer| peer.end(LinkLoss::Left, &mut one.links.ledger));
    one.links.peers.clear();
    one.take_inputs();
    assert_eq!(one.to_owner(), None);
    one.join(&[other.address()]);
    until("another link", &mut [&mut one, &mut other], |ends| {
        ends[0].to_owner().is_some() && ends[1].to_origin().is_some_and(|link| link > origin)
    });
    assert!(one.answers().is_empty());

    one.send(one.to_owner().unwrap(), forward(1_000, 10));
    let newer = other.to_origin().unwrap();
    until("a request", &mut [&mut one, &mut other], |ends| {
        ends[1].requests().contains(&(newer, 1_000))
    });
    other.answer(newer, returned(1_000));
    until("an answer", &mut [&mut one, &mut other], |ends| !ends[0].answers().is_empty());

    assert_eq!(one.answers(), [1_000]);
    let of_newer = other.requests().into_iter().filter(|(link, _)| *link == newer);
    assert_eq!(of_newer.map(|(_, id)| id).collect::<Vec<_>>(), [1_000]);
}

#[test]
fn origin_for_which_too_much_waits_is_given_up() {
    let (one, mut other) = pair();
    let origin = other.to_origin().unwrap();
    let bytes = 64 << 10;
    let mut id = 0;
    // The kernel and both libzmqs take some; then it waits here, up to the limit.
    while other.links.totals().lost.is_empty() {
        assert!(id < 20_000, "{:?}", other.links.totals());
        id += 1;
        other.answer(origin, reply(id, bytes));
        assert!(other.links.totals().waiting_bytes <= LINK_BYTES_MAX);
    }
    other.take_inputs();

    assert_eq!(other.lost(LinkLoss::Overflowed), 1);
    assert!(other.downs().contains(&(origin, Vec::new())));
    assert_eq!((other.links.totals().waiting_messages, other.links.totals().waiting_bytes), (0, 0));
    drop(one);
}

#[test]
fn what_waits_for_an_origin_arrives_in_order_when_it_reads_again() {
    let (mut one, mut other) = pair();
    let origin = other.to_origin().unwrap();
    let mut count = 0;
    while other.links.totals().waiting_messages < 5 {
        count += 1;
        other.answer(origin, reply(count, 10_000));
    }

    until("all comes", &mut [&mut one, &mut other], |ends| {
        ends[0].answers().len() == usize::try_from(count).unwrap()
    });

    assert_eq!(one.answers(), (1..=count).collect::<Vec<_>>());
    assert!(other.downs().is_empty());
    assert_eq!(other.links.totals().waiting_bytes, 0);
}

#[test]
fn turn_that_comes_late_ends_no_link() {
    let (mut one, mut other) = pair();
    go_on(&mut [&mut one, &mut other], Duration::from_millis(50));

    // Longer than an owner may be silent; libzmq's threads live on meanwhile.
    thread::sleep(OWNER_SILENT_MAX + Duration::from_millis(200));
    go_on(&mut [&mut one, &mut other], Duration::from_millis(100));

    assert_eq!((one.downs(), other.downs()), (Vec::new(), Vec::new()));
}

#[test]
fn owner_whose_broker_thread_stands_still_is_given_up() {
    let (mut one, other) = pair();

    let begun = Instant::now();
    until("it is given up", &mut [&mut one], |ends| ends[0].to_owner().is_none());

    assert!(begun.elapsed() >= OWNER_SILENT_MAX - PING_INTERVAL, "{:?}", begun.elapsed());
    assert_eq!(one.lost(LinkLoss::Silent), 1);
    drop(other);
}

/// Passes bytes on, both ways, until it is cut; then the connections stay and nothing passes.
struct Cable {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Cable {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bound = listener.local_addr().unwrap().port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_cut);
        thread::spawn(move || {
            // One connection: whoever connects later waits in the queue of the kernel.
            let (near, _) = listener.accept().unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (back, forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            let other = Arc::clone(&flag);
            let there = thread::spawn(move || pass(near, far, &other));
            pass(back, forth, &flag);
            there.join().unwrap();
        });
        Self { port: bound, is_cut }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut bytes = [0; 4_096];
    from.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    loop {
        let read = from.read(&mut bytes);
        if is_cut.load(Ordering::Relaxed) {
            // Nobody may notice a close: it is kept open until both sides have given up.
            return thread::sleep(DEADLINE);
        }
        match read {
            Ok(0) => return,
            Ok(count) if to.write_all(&bytes[..count]).is_ok() => {}
            Ok(_) => return,
            Err(_) => {}
        }
    }
}

#[test]
fn network_that_is_cut_is_noticed_by_both_sides() {
    let (mut one, mut other, cable) = cabled_pair();

    cable.is_cut.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    until("both notice", &mut [&mut one, &mut other], |ends| {
        ends[0].to_owner().is_none() && ends[1].to_origin().is_none()
    });

    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn origin_that_takes_nothing_is_tried_with_pauses_and_given_up() {
    let (one, mut other, cable) = cabled_pair();
    cable.is_cut.store(true, Ordering::Relaxed);
    let origin = other.to_origin().unwrap();
    let mut id = 0;
    while other.links.totals().waiting_messages == 0 {
        id += 1;
        other.answer(origin, reply(id, 100_000));
    }

    let begun = Instant::now();
    other.turn();
    assert!(other.links.poll_timeout().unwrap() > begun, "it is tried without a pause");
    until("it is given up", &mut [&mut other], |ends| ends[0].to_origin().is_none());

    assert!(begun.elapsed() < LINK_STALLED_AFTER * 3, "{:?}", begun.elapsed());
    drop(one);
}

/// Two nodes, and a link from the first to the second by a cable.
fn cabled_pair() -> (End, End, Cable) {
    let (mut one, mut other) = (End::new("node-1", 11), End::new("node-2", 12));
    let cable = Cable::to(other.links.endpoint().port());
    other.join(&[]);
    one.join(&[(name("node-2"), format!("tcp://127.0.0.1:{}", cable.port))]);
    until("a link", &mut [&mut one, &mut other], |ends| {
        ends[0].to_owner().is_some() && ends[1].to_origin().is_some()
    });
    (one, other, cable)
}
