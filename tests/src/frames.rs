//! Messages of 7/MDP (0.1) and 18/MDP (0.2), written by hand from the layouts of the documents.

/// One message as a DEALER sees it.
pub type Message = Vec<Vec<u8>>;

/// A [`Message`] from anything that can be seen as bytes.
#[macro_export]
macro_rules! frames {
    ($($frame:expr),+ $(,)?) => {
        Vec::from([$(AsRef::<[u8]>::as_ref(&$frame).to_vec()),+])
    };
}

/// A wire version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 7/MDP.
    V01,
    /// 18/MDP.
    V02,
}

impl Version {
    /// Both versions, for what holds in each of them.
    pub const BOTH: [Self; 2] = [Self::V01, Self::V02];

    fn worker_command(self, v01: u8, v02: u8) -> Message {
        match self {
            Self::V01 => frames![b"", b"MDPW01", [v01]],
            Self::V02 => frames![b"MDPW02", [v02]],
        }
    }

    fn addressed(self, (v01, v02): (u8, u8), address: &[u8], body: &[&[u8]]) -> Message {
        let mut message = self.worker_command(v01, v02);
        message.push(address.to_vec());
        message.push(Vec::new());
        message.extend(body.iter().map(|frame| frame.to_vec()));
        message
    }

    /// READY.
    #[must_use]
    pub fn ready(self, service: impl AsRef<[u8]>) -> Message {
        let mut message = self.worker_command(1, 1);
        message.push(service.as_ref().to_vec());
        message
    }

    /// HEARTBEAT, either way.
    #[must_use]
    pub fn heartbeat(self) -> Message {
        self.worker_command(4, 5)
    }

    /// DISCONNECT, either way.
    #[must_use]
    pub fn disconnect(self) -> Message {
        self.worker_command(5, 6)
    }

    /// REQUEST to a worker.
    #[must_use]
    pub fn work(self, address: &[u8], body: &[&[u8]]) -> Message {
        self.addressed((2, 2), address, body)
    }

    /// The worker's REPLY (0.1) or FINAL (0.2).
    #[must_use]
    pub fn answer(self, address: &[u8], body: &[&[u8]]) -> Message {
        self.addressed((3, 4), address, body)
    }

    /// A worker's PARTIAL, which 0.1 does not have.
    #[must_use]
    pub fn partial(self, address: &[u8], body: &[&[u8]]) -> Message {
        assert_eq!(self, Self::V02, "0.1 has no PARTIAL");
        self.addressed((3, 3), address, body)
    }

    /// A client's REQUEST.
    #[must_use]
    pub fn request(self, service: impl AsRef<[u8]>, body: &[&[u8]]) -> Message {
        let head = match self {
            Self::V01 => frames![b"", b"MDPC01", service],
            Self::V02 => frames![b"MDPC02", b"\x01", service],
        };
        head.into_iter().chain(body.iter().map(|frame| frame.to_vec())).collect()
    }

    /// The last reply to a client: REPLY (0.1) or FINAL (0.2).
    #[must_use]
    pub fn reply(self, service: impl AsRef<[u8]>, body: &[&[u8]]) -> Message {
        let head = match self {
            Self::V01 => frames![b"", b"MDPC01", service],
            Self::V02 => frames![b"MDPC02", b"\x03", service],
        };
        head.into_iter().chain(body.iter().map(|frame| frame.to_vec())).collect()
    }
}
