//! Whether a ZMTP peer has another mechanism than this side, where it closed the connection before libzmq
//! saw that: two libzmq that greet each other both close at once, and either may be first.

use std::io::{self, Read, Write};

use mdp_transport::{GREETING_BYTES, Mechanism};

use crate::ConnectFailure;

/// Signature and version of a greeting, which libzmq answers with all of its own (23/ZMTP).
const START: [u8; 11] = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3];
/// Where the name of the mechanism stands, padded with zeros.
const NAME: std::ops::Range<usize> = 12..32;

/// What is wrong, if the peer names another mechanism than this one.
pub(super) fn compare(
    mut stream: impl Read + Write,
    offered: Mechanism,
) -> io::Result<Option<ConnectFailure>> {
    // Minor version, mechanism, and zeros for all that NULL and CURVE say nothing of.
    let mut rest = vec![1];
    rest.extend_from_slice(offered.name().as_bytes());
    rest.resize(GREETING_BYTES - START.len(), 0);
    stream.write_all(&START)?;
    let mut come = Vec::with_capacity(GREETING_BYTES);
    if !read(&mut stream, &mut come) {
        // It waits for our mechanism before it names its own.
        stream.write_all(&rest)?;
        read(&mut stream, &mut come);
    }
    let is_it = |name: &[u8]| {
        name.strip_prefix(offered.name().as_bytes())
            .is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    };
    let is_other = come.get(NAME).is_some_and(|name| !is_it(name));
    Ok(is_other.then_some(ConnectFailure::WrongMechanism { offered }))
}

/// Reads until the name of the mechanism is there; false if it does not come.
fn read(stream: &mut impl Read, come: &mut Vec<u8>) -> bool {
    let mut buffer = [0; GREETING_BYTES];
    while come.len() < NAME.end {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(count) => come.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    true
}
