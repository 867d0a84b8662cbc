use super::*;
use crate::network::Weather;

const WINDOW_BYTES: usize = 100;

/// Two nodes with a connection, and when the last thing happened.
fn connected(cuts: Option<Rng>) -> (Wires, WireId, Instant) {
    let millis = Duration::from_millis;
    let weather = Weather { min: millis(1), max: millis(2), slow: 100, lost: 0, twice: 0 };
    let network = Network::new(2, weather, Rng::new(1));
    let none = || ByteWays { window_bytes: 1, cuts: None };
    let relay = ByteWays { window_bytes: WINDOW_BYTES, cuts };
    let mut wires = Wires::new(network, Ways { front: none(), relay, cluster: none() });
    let now = moment();
    let id = wires.open(now, WireKind::Relay, 0, 1);
    assert_eq!(arrivals(&mut wires, Side::Callee, now), [Arrival::Opened]);
    wires.accept(now, id);
    assert_eq!(arrivals(&mut wires, Side::Caller, now), [Arrival::Accepted]);
    (wires, id, now)
}

/// A moment to count from.
fn moment() -> Instant {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::Instant::now().into_std() })
}

/// What arrives within a second, all of it at this end.
fn arrivals(wires: &mut Wires, side: Side, now: Instant) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    while let Some(delivery) = wires.pop_due(now + Duration::from_secs(1)) {
        assert_eq!(delivery.side, side);
        arrivals.push(delivery.arrival);
    }
    arrivals
}

fn bytes(arrivals: &[Arrival]) -> Vec<u8> {
    let pieces = arrivals.iter().map(|arrival| match arrival {
        Arrival::Bytes(bytes) => bytes.as_slice(),
        other => panic!("{other:?} is no bytes"),
    });
    pieces.collect::<Vec<_>>().concat()
}

#[test]
fn what_is_written_at_once_arrives_in_one_piece_or_in_many() {
    for (cuts, is_cut) in [(None, false), (Some(Rng::new(7)), true)] {
        let (mut wires, id, now) = connected(cuts);
        let text: Vec<u8> = (0..90).collect();
        assert_eq!(wires.write(now, id, Side::Caller, &text), Some(90));
        let arrivals = arrivals(&mut wires, Side::Callee, now);
        assert_eq!(bytes(&arrivals), text);
        assert_eq!(arrivals.len() > 1, is_cut);
    }
}

#[test]
fn writer_waits_until_what_it_wrote_was_read() {
    let (mut wires, id, now) = connected(None);
    assert_eq!(wires.write(now, id, Side::Caller, &[1; 130]), Some(WINDOW_BYTES));
    assert_eq!(wires.write(now, id, Side::Caller, &[2; 30]), Some(0));
    assert_eq!(bytes(&arrivals(&mut wires, Side::Callee, now)).len(), WINDOW_BYTES);
    wires.read(now, id, Side::Callee, 20);
    assert_eq!(arrivals(&mut wires, Side::Caller, now), []);
    wires.read(now, id, Side::Callee, 40);
    assert_eq!(arrivals(&mut wires, Side::Caller, now), [Arrival::Writable]);
    assert_eq!(wires.write(now, id, Side::Caller, &[2; 30]), Some(30));
}

#[test]
fn what_is_under_way_is_lost_when_a_connection_breaks() {
    let (mut wires, id, now) = connected(None);
    assert_eq!(wires.write(now, id, Side::Caller, &[1; 30]), Some(30));
    wires.break_off(now, id);
    // The writer does not know it yet.
    assert_eq!(wires.write(now, id, Side::Caller, &[2; 30]), Some(30));
    let ends: Vec<_> = std::iter::from_fn(|| wires.pop_due(now + Duration::from_secs(1)))
        .map(|delivery| (delivery.side, delivery.arrival))
        .collect();
    assert_eq!(ends, [(Side::Caller, Arrival::Closed), (Side::Callee, Arrival::Closed)]);
    assert_eq!(wires.write(now, id, Side::Caller, &[2; 30]), None);
}

#[test]
fn end_that_was_closed_is_told_behind_what_was_written() {
    let (mut wires, id, now) = connected(None);
    assert_eq!(wires.write(now, id, Side::Caller, &[1; 30]), Some(30));
    wires.close(now, id, Side::Caller);
    let arrivals = arrivals(&mut wires, Side::Callee, now);
    assert_eq!(arrivals, [Arrival::Bytes(vec![1; 30]), Arrival::Closed]);
}
