//! Why a handshake with keys did not succeed, where the broker did not say so: says HELLO once more and looks
//! whether a WELCOME comes that this key of the broker opens. This side's own key is not shown.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use mdp_transport::{
    Ending, Flow, GREETING_BYTES, Loss, NotZmtp3, Transport, TransportEvent, TransportLimits,
};

use super::Held;
use crate::{ConnectFailure, keys::LinkKeys};

/// A greeting and a WELCOME come in one or two reads.
const READ_BYTES: usize = 4_096;
/// A broker needs no more reads than this for them, unless it sends single bytes.
const READS_MAX: usize = 16;

/// What the broker at the other end of this stream thinks of its key; `held`: how long it thought about ours.
pub(super) fn ask(
    mut stream: impl Read + Write,
    keys: &LinkKeys,
    held: Held,
) -> io::Result<ConnectFailure> {
    let now = Instant::now();
    let mut port = Transport::<()>::new(now, TransportLimits::default());
    port.seed(b"examined", &random()?);
    // Only its counters by network would ask where the peer is.
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
    let Some(id) = port.dialled_curve(now, nowhere, keys.client_keys()) else {
        // The key is one of the few that are no good for anything.
        return Ok(ConnectFailure::WrongServerKey);
    };
    let mut buffer = [0; READ_BYTES];
    let mut come = 0;
    for _ in 0..READS_MAX {
        write(&mut stream, &mut port)?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(after_close(come)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(after_close(come));
            }
            Err(_) if come == 0 => return Ok(ConnectFailure::NotZmtp),
            Err(_) => return Ok(ConnectFailure::Handshake),
        };
        come += count;
        let read = buffer.get(..count).unwrap_or_default();
        port.received(Instant::now(), id, read, |_, _| Flow::Continue);
        while let Some(event) = port.poll_event() {
            if let TransportEvent::Refused { why, .. } = event {
                return Ok(failure_of(&why));
            }
        }
        // The answer to the WELCOME, which is not sent: the broker is the right one.
        if come > GREETING_BYTES && port.output_bytes(id) > 0 {
            return Ok(match held {
                Held::Long => ConnectFailure::NotAdmitted,
                Held::Short => ConnectFailure::Handshake,
            });
        }
    }
    Ok(ConnectFailure::Handshake)
}

/// A broker that cannot open the HELLO has another key, and can say nothing to one that does not know it.
const fn after_close(come: usize) -> ConnectFailure {
    match come {
        0 => ConnectFailure::NotZmtp,
        1..GREETING_BYTES => ConnectFailure::Handshake,
        GREETING_BYTES.. => ConnectFailure::WrongServerKey,
    }
}

fn failure_of(why: &Loss) -> ConnectFailure {
    match why {
        Loss::Ended(Ending::Mechanism(_)) => {
            ConnectFailure::WrongMechanism { offered: mdp_transport::Mechanism::Curve }
        }
        Loss::Ended(Ending::NotZmtp3(NotZmtp3::Http)) => ConnectFailure::Http,
        Loss::Ended(Ending::NotZmtp3(_)) => ConnectFailure::NotZmtp,
        Loss::Ended(Ending::Curve(_)) => ConnectFailure::WrongServerKey,
        Loss::Ended(Ending::NotAdmitted) => ConnectFailure::NotAdmitted,
        Loss::Ended(_)
        | Loss::Closed
        | Loss::Overflow
        | Loss::Stalled
        | Loss::Greedy
        | Loss::Crowded
        | Loss::Kicked
        | Loss::Revoked => ConnectFailure::Handshake,
    }
}

fn write(stream: &mut impl Write, port: &mut Transport<()>) -> io::Result<()> {
    while let Some(id) = port.poll_writable() {
        while port.output_bytes(id) > 0 {
            let count = stream.write_vectored(&port.output(id))?;
            port.transmitted(Instant::now(), id, count);
        }
    }
    Ok(())
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
