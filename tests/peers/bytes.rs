//! Peers that do not speak ZMTP, or stop in the middle of it.

use cluster_tests::{NodeProcess, QUIET, RawTcp, zmtp_frame};

use crate::{Noise, assert_serves};

#[test]
fn random_bytes_on_a_tcp_connection_do_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut noise = Noise(0x5eed_0001);

    for _ in 0..300 {
        let mut tcp = RawTcp::connect(&node);
        let length = 1 + noise.below(2_000);
        // The node may close the connection while it is being written to.
        let _taken = tcp.send(&noise.bytes(length));
    }

    assert_serves(&mut node);
}

#[test]
fn old_zmtp_with_random_frames_does_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut noise = Noise(0x5eed_0002);

    for _ in 0..300 {
        let mut tcp = RawTcp::connect(&node);
        // ZMTP 1.0: length, flags, body; the first frame is the routing id.
        let mut bytes = vec![1, 0];
        for _ in 0..noise.below(20) {
            let body = noise.below(30);
            bytes.push(u8::try_from(body + 1).unwrap());
            bytes.push(u8::try_from(noise.below(2)).unwrap());
            bytes.extend(noise.bytes(body));
        }
        let _taken = tcp.send(&bytes);
    }

    assert_serves(&mut node);
}

#[test]
fn random_bytes_after_a_good_handshake_do_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut noise = Noise(0x5eed_0003);

    for _ in 0..300 {
        let mut tcp = RawTcp::dealer(&node);
        let length = 1 + noise.below(500);
        let _taken = tcp.send(&noise.bytes(length));
    }

    assert_serves(&mut node);
}

#[test]
fn random_frames_around_known_ones_do_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut noise = Noise(0x5eed_0004);
    let known: [&[u8]; 14] = [
        b"",
        b"",
        b"MDPC01",
        b"MDPW01",
        b"MDPC02",
        b"MDPW02",
        b"\x01",
        b"\x02",
        b"\x03",
        b"\x04",
        b"\x05",
        b"\x06",
        b"echo",
        b"mmi.service",
    ];

    for _ in 0..100 {
        let mut tcp = RawTcp::dealer(&node);
        for _ in 0..100 {
            let frames = 1 + noise.below(8);
            for index in 0..frames {
                let body = match noise.below(16) {
                    choice if choice < known.len() => known[choice].to_vec(),
                    _ => noise.bytes(20),
                };
                let _taken = tcp.send(&zmtp_frame(&body, index + 1 < frames));
            }
        }
    }

    assert_serves(&mut node);
}

#[test]
fn connection_that_breaks_in_every_byte_of_the_handshake_does_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut greeting = [0_u8; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");

    for length in 0..=greeting.len() {
        let mut tcp = RawTcp::connect(&node);
        assert!(tcp.send(&greeting[..length]));
    }

    assert_serves(&mut node);
}
