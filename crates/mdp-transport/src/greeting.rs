//! The first 64 bytes of each side (23/ZMTP, "Version Negotiation" and "Mechanism").
//!
//! ```text
//! 0         1        9     10     11     12                32         33
//! ff  | 8 ignored | 7f | major | minor | mechanism, zeros | as-server | zeros up to 64
//! ```

use crate::Mechanism;

/// How long a greeting is.
pub const GREETING_BYTES: usize = 64;
/// How much of its greeting the accepting side sends before it knows anything of the peer:
/// signature and major version. The rest depends on the mechanism that the peer asks for.
pub(crate) const FIRST_BYTES: usize = 11;
/// How much of the peer's greeting names its mechanism.
const MECHANISM_END: usize = 32;
const MECHANISM_START: usize = 12;
const AS_SERVER: usize = 32;

/// What the other side said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerGreeting {
    /// The minor version of ZMTP 3 that both know: 0 or 1.
    pub(crate) minor: u8,
    /// Its mechanism, if it is a known one.
    pub(crate) mechanism: Option<Mechanism>,
    /// Whether it takes the role of the server: means nothing to NULL.
    pub(crate) as_server: bool,
}

/// What was sent instead of a greeting of ZMTP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotZmtp3 {
    /// ZMTP 1 or 2: libzmq before 4.0.
    OlderZmtp,
    /// A request of HTTP.
    Http,
    /// The beginning of TLS.
    Tls,
    /// The line of a proxy that names the address of its client (PROXY protocol).
    ProxyLine,
    /// Something else.
    Unknown,
}

/// What the beginning of a greeting says so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The mechanism is known; more bytes are needed.
    MechanismKnown(Option<Mechanism>),
    /// All of it has come.
    Complete(PeerGreeting),
    /// It is none.
    Refused(NotZmtp3),
}

/// Reads what has come of a greeting, at most [`GREETING_BYTES`] of it.
pub(crate) fn parse(bytes: &[u8]) -> Progress {
    if let Some(refused) = not_zmtp3(bytes) {
        return Progress::Refused(refused);
    }
    let Some(name) = bytes.get(MECHANISM_START..MECHANISM_END) else { return Progress::Incomplete };
    let mechanism = Mechanism::from_name(name);
    if bytes.len() < GREETING_BYTES {
        return Progress::MechanismKnown(mechanism);
    }
    let minor = bytes.get(FIRST_BYTES).copied().unwrap_or(0).min(1);
    let as_server = bytes.get(AS_SERVER) == Some(&1);
    Progress::Complete(PeerGreeting { minor, mechanism, as_server })
}

/// What the bytes are, once they show that they are no greeting of ZMTP 3.
fn not_zmtp3(bytes: &[u8]) -> Option<NotZmtp3> {
    let first = *bytes.first()?;
    if first != 0xff {
        return other_protocol(bytes);
    }
    // An older peer's long identity may begin with ff as well; it lacks the last bit of the signature.
    match bytes.get(9) {
        Some(end) if end & 1 == 0 => return Some(NotZmtp3::OlderZmtp),
        _ => {}
    }
    // libzmq 2 and 3 send their revision here: 0 or 1.
    match bytes.get(10) {
        Some(major) if *major < 3 => Some(NotZmtp3::OlderZmtp),
        _ => None,
    }
}

/// The first bytes of each protocol that is known to come to a wrong port.
const OTHERS: [(&[u8], NotZmtp3); 11] = [
    (b"PROXY ", NotZmtp3::ProxyLine),
    (b"\r\n\r\n\0\r\nQUIT\n", NotZmtp3::ProxyLine),
    (b"GET ", NotZmtp3::Http),
    (b"HEAD ", NotZmtp3::Http),
    (b"POST ", NotZmtp3::Http),
    (b"PUT ", NotZmtp3::Http),
    (b"DELETE ", NotZmtp3::Http),
    (b"OPTIONS ", NotZmtp3::Http),
    (b"CONNECT ", NotZmtp3::Http),
    (b"PRI * HTTP/2", NotZmtp3::Http),
    (b"\x16\x03", NotZmtp3::Tls),
];

/// `None` while several protocols can still follow.
fn other_protocol(bytes: &[u8]) -> Option<NotZmtp3> {
    for (start, protocol) in OTHERS {
        if bytes.starts_with(start) {
            return Some(protocol);
        }
        if start.starts_with(bytes) {
            return None;
        }
    }
    // ZMTP 1.0: the length of the identity with its flags, which are zero. What the first byte alone
    // can not tell must not depend on where the network cuts.
    Some(match bytes {
        [1..=0xfe, 0, ..] => NotZmtp3::OlderZmtp,
        [1..=0xfe] => return None,
        _ => NotZmtp3::Unknown,
    })
}

/// A whole greeting of ours.
pub(crate) fn encode(mechanism: Mechanism, as_server: bool) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    let name = mechanism.name().as_bytes();
    let head = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    let filled = head.iter().chain(name);
    bytes.iter_mut().zip(filled).for_each(|(byte, value)| *byte = *value);
    if let Some(byte) = bytes.get_mut(AS_SERVER) {
        *byte = u8::from(as_server);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_greeting_is_understood_at_every_cut() {
        let bytes = encode(Mechanism::Null, true);
        for cut in 0..GREETING_BYTES {
            let expected = match cut {
                0..MECHANISM_END => Progress::Incomplete,
                _ => Progress::MechanismKnown(Some(Mechanism::Null)),
            };
            assert_eq!(parse(&bytes[..cut]), expected, "{cut}");
        }
        let greeting = PeerGreeting { minor: 1, mechanism: Some(Mechanism::Null), as_server: true };
        assert_eq!(parse(&bytes), Progress::Complete(greeting));
    }

    #[test]
    fn what_newer_peers_may_say_is_understood() {
        let mut bytes = encode(Mechanism::Null, false);
        bytes[1..9].fill(0xaa);
        bytes[10] = 9;
        bytes[11] = 7;
        let greeting =
            PeerGreeting { minor: 1, mechanism: Some(Mechanism::Null), as_server: false };
        assert_eq!(parse(&bytes), Progress::Complete(greeting));
        bytes[11] = 0;
        assert_eq!(parse(&bytes), Progress::Complete(PeerGreeting { minor: 0, ..greeting }));
        bytes[12..18].copy_from_slice(b"GSSAPI");
        let unknown = PeerGreeting { minor: 0, mechanism: None, as_server: false };
        assert_eq!(parse(&bytes), Progress::Complete(unknown));
    }

    #[test]
    fn other_protocols_are_named() {
        for (bytes, expected) in [
            (b"GET / HTTP/1.1\r\n".as_slice(), NotZmtp3::Http),
            (b"PRI * HTTP/2.0\r\n", NotZmtp3::Http),
            (b"\x16\x03\x01\x02\x00", NotZmtp3::Tls),
            (b"PROXY TCP4 192.0.2.1 ", NotZmtp3::ProxyLine),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", NotZmtp3::ProxyLine),
            // Anonymous, and with an identity of four bytes.
            (b"\x01\x00", NotZmtp3::OlderZmtp),
            (b"\x05\x00abcd", NotZmtp3::OlderZmtp),
            // An identity of 144 bytes; the fuzzer cut behind the first one.
            (b"\x91\x00", NotZmtp3::OlderZmtp),
            // libzmq 3: signature, revision 1, socket type.
            (b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x06", NotZmtp3::OlderZmtp),
            (b"SSH-2.0-OpenSSH", NotZmtp3::Unknown),
            (b"\0\0\0\0", NotZmtp3::Unknown),
        ] {
            assert_eq!(parse(bytes), Progress::Refused(expected), "{bytes:?}");
            // Never named as another one by a part of it.
            for cut in 0..bytes.len() {
                let progress = parse(&bytes[..cut]);
                let allowed = [Progress::Incomplete, Progress::Refused(expected)];
                assert!(allowed.contains(&progress), "{bytes:?} {cut}: {progress:?}");
            }
        }
    }
}
