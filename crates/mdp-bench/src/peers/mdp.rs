//! Clients and workers of 7/MDP and 18/MDP over any [`FrameSockets`].

use std::{marker::PhantomData, os::fd::RawFd, time::Duration};

use mdp_wire::{Body, Part, Version};

use super::{Peers, Received, Sent};
use crate::{BenchError, PeerKeys, sockets::FrameSockets};

const READY: u8 = 0x01;
const REQUEST: u8 = 0x02;
/// Command of a 0.2 request (MDP18-01).
const REQUEST_OF_CLIENT_02: &[u8] = &[0x01];
/// Command of a 0.2 reply that is the last one (MDP18-03).
const FINAL: &[u8] = &[0x03];

/// Command bytes that differ between the versions (MDP7-18 to 22, MDP18-07 to 12).
#[derive(Clone, Copy, Debug)]
struct Commands {
    reply: u8,
    heartbeat: u8,
    disconnect: u8,
}

impl Commands {
    const fn of(version: Version) -> Self {
        match version {
            Version::V01 => Self { reply: 0x03, heartbeat: 0x04, disconnect: 0x05 },
            Version::V02 => Self { reply: 0x04, heartbeat: 0x05, disconnect: 0x06 },
        }
    }
}

/// Peers that speak one version of MDP.
pub(crate) struct MdpPeers<S: FrameSockets> {
    sockets: S,
    codec: Codec<S::Frame>,
    messages: Vec<S::Message>,
}

struct Codec<F> {
    version: Version,
    commands: Commands,
    frame: PhantomData<fn() -> F>,
}

impl<F: AsRef<[u8]>> Codec<F> {
    fn decode(&self, message: impl IntoIterator<Item = F>) -> Received<F> {
        self.parse(message.into_iter()).unwrap_or(Received::Other)
    }

    fn parse(&self, mut frames: impl Iterator<Item = F>) -> Option<Received<F>> {
        if self.version == Version::V01 && !frames.next()?.as_ref().is_empty() {
            return None;
        }
        let header = frames.next()?;
        if header.as_ref() == self.version.client_header() {
            return self.parse_reply(frames);
        }
        if header.as_ref() != self.version.worker_header() {
            return None;
        }
        let &[command] = frames.next()?.as_ref() else { return None };
        if command == REQUEST {
            let from = frames.next()?;
            let empty = frames.next()?;
            let body: Body<F> = frames.collect();
            return empty.as_ref().is_empty().then_some(Received::Request { from, body });
        }
        (command == self.commands.disconnect).then_some(Received::Disconnect)
    }

    fn parse_reply(&self, mut frames: impl Iterator<Item = F>) -> Option<Received<F>> {
        if self.version == Version::V02 && frames.next()?.as_ref() != FINAL {
            return None;
        }
        let service = Some(frames.next()?);
        let body = frames.next()?;
        // Each request here has one frame, and so has its reply.
        frames.next().is_none().then_some(Received::Reply { service, body })
    }

    /// Hands out the frames of a message in order.
    fn encode<E>(
        &self,
        message: Sent<'_, F>,
        mut put: impl FnMut(Part<'_, F>, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.version == Version::V01 {
            put(Part::Bytes(b""), false)?;
        }
        let mut head = |header: &[u8], command: Option<u8>, is_last: bool| {
            put(Part::Bytes(header), is_last && command.is_none())?;
            command.map_or(Ok(()), |command| put(Part::Bytes(&[command]), is_last))
        };
        let worker = self.version.worker_header();
        match message {
            Sent::Request { service, body } => {
                head(self.version.client_header(), None, false)?;
                if self.version == Version::V02 {
                    put(Part::Bytes(REQUEST_OF_CLIENT_02), false)?;
                }
                put(Part::Bytes(service), false)?;
                put(Part::Bytes(body), true)
            }
            Sent::Ready { service } => {
                head(worker, Some(READY), false)?;
                put(Part::Bytes(service), true)
            }
            Sent::Reply { to, body } => {
                head(worker, Some(self.commands.reply), false)?;
                put(Part::Frame(to), false)?;
                let count = body.len();
                put(Part::Bytes(b""), count == 0)?;
                let numbered = body.into_iter().enumerate();
                numbered
                    .into_iter()
                    .try_for_each(|(at, frame)| put(Part::Frame(frame), at + 1 == count))
            }
            Sent::Heartbeat => head(worker, Some(self.commands.heartbeat), true),
            Sent::Disconnect => head(worker, Some(self.commands.disconnect), true),
        }
    }
}

impl<S: FrameSockets> Peers for MdpPeers<S> {
    type Frame = S::Frame;

    fn connect(
        endpoint: &str,
        count: usize,
        version: Version,
        keys: Option<&PeerKeys>,
    ) -> Result<Self, BenchError> {
        let sockets = S::connect(endpoint, count, keys)?;
        let codec = Codec { version, commands: Commands::of(version), frame: PhantomData };
        Ok(Self { sockets, codec, messages: Vec::new() })
    }

    fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError> {
        self.sockets.watch(index, descriptor)
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> Result<(), BenchError> {
        self.sockets.wait(timeout, ready)
    }

    fn receive(
        &mut self,
        index: usize,
        inbox: &mut Vec<Received<S::Frame>>,
    ) -> Result<(), BenchError> {
        let is_open = self.sockets.receive(index, &mut self.messages)?;
        inbox.extend(self.messages.drain(..).map(|message| self.codec.decode(message)));
        if !is_open {
            inbox.push(Received::Closed);
        }
        Ok(())
    }

    fn send(&mut self, index: usize, message: Sent<'_, S::Frame>) -> Result<(), BenchError> {
        let codec = &self.codec;
        self.sockets.send(index, |writer| {
            codec.encode(message, |part, is_last| S::put(writer, part, is_last))
        })
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        self.sockets.flush()
    }

    fn settle(&mut self) -> Result<(), BenchError> {
        // A broker keeps requests until a worker registers.
        self.flush()
    }

    fn linger(&mut self) -> Result<(), BenchError> {
        self.sockets.linger()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(version: Version) -> Codec<Vec<u8>> {
        Codec { version, commands: Commands::of(version), frame: PhantomData }
    }

    fn encoded(version: Version, message: Sent<'_, Vec<u8>>) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut lasts = Vec::new();
        let put = |part: Part<'_, Vec<u8>>, is_last| {
            frames.push(part.as_ref().to_vec());
            lasts.push(is_last);
            Ok::<(), ()>(())
        };
        codec(version).encode(message, put).unwrap();
        assert!(lasts.pop().unwrap() && !lasts.contains(&true), "{frames:?}");
        frames
    }

    #[test]
    fn requests_and_registrations_have_the_frames_of_their_version() {
        let request = || Sent::Request { service: b"echo", body: b"hi" };
        assert_eq!(encoded(Version::V01, request()), [b"".as_slice(), b"MDPC01", b"echo", b"hi"]);
        assert_eq!(
            encoded(Version::V02, request()),
            [b"MDPC02", b"\x01".as_slice(), b"echo", b"hi"]
        );
        let ready = || Sent::Ready { service: b"echo" };
        assert_eq!(encoded(Version::V01, ready()), [b"".as_slice(), b"MDPW01", b"\x01", b"echo"]);
        assert_eq!(encoded(Version::V02, ready()), [b"MDPW02", b"\x01".as_slice(), b"echo"]);
        assert_eq!(encoded(Version::V01, Sent::Heartbeat), [b"".as_slice(), b"MDPW01", b"\x04"]);
        assert_eq!(encoded(Version::V02, Sent::Disconnect), [b"MDPW02", b"\x06".as_slice()]);
    }

    #[test]
    fn reply_goes_where_the_request_came_from_with_its_body() {
        for version in [Version::V01, Version::V02] {
            let skipped = usize::from(version == Version::V02);
            let frames = [b"".as_slice(), version.worker_header(), b"\x02", b"c", b"", b"1", b"2"];
            let request = frames.iter().skip(skipped).map(|frame| frame.to_vec());

            let Received::Request { from, body } = codec(version).decode(request) else {
                panic!("no request")
            };
            let reply = encoded(version, Sent::Reply { to: from, body });

            let command = [Commands::of(version).reply];
            let frames = [b"".as_slice(), version.worker_header(), &command, b"c", b"", b"1", b"2"];
            assert_eq!(reply, frames[skipped..]);
        }
    }

    #[test]
    fn only_whole_replies_are_replies() {
        let decode = |version, frames: &[&[u8]]| {
            codec(version).decode(frames.iter().map(|frame| frame.to_vec()))
        };
        let reply = decode(Version::V01, &[b"", b"MDPC01", b"echo", b"hi"]);
        assert!(matches!(reply, Received::Reply { body, .. } if body == b"hi"));
        let reply = decode(Version::V02, &[b"MDPC02", b"\x03", b"echo", b"hi"]);
        assert!(matches!(reply, Received::Reply { body, .. } if body == b"hi"));
        for other in [
            decode(Version::V01, &[]),
            decode(Version::V01, &[b"x", b"MDPC01", b"echo", b"hi"]),
            decode(Version::V01, &[b"", b"MDPC01", b"echo"]),
            decode(Version::V01, &[b"", b"MDPC01", b"echo", b"hi", b"more"]),
            decode(Version::V02, &[b"MDPC02", b"\x02", b"echo", b"partial"]),
            decode(Version::V01, &[b"", b"MDPW01", b"\x04"]),
        ] {
            assert!(matches!(other, Received::Other), "{other:?}");
        }
        let disconnect = decode(Version::V01, &[b"", b"MDPW01", b"\x05"]);
        assert!(matches!(disconnect, Received::Disconnect));
    }
}
