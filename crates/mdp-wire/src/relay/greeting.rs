//! What nodes say when a link begins.

use super::{
    RelayDecodeError,
    bytes::{Reader, Writer},
    networks,
};
use crate::{ClientNetworks, FrameSink, Position, codec::Kind, frame::Part};

/// A range of wire versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl WireRange {
    /// The range of one version.
    #[must_use]
    pub const fn only(version: u16) -> Self {
        Self { min: version, max: version }
    }

    /// The newest version in both ranges.
    #[must_use]
    pub fn newest_common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }

    /// Whether the version is in the range.
    #[must_use]
    pub const fn contains(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl std::fmt::Display for WireRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// The first message on a link: the origin says who it is, and whom it wants.
///
/// Texts have at most 255 bytes; what is beyond is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The wire versions that it knows.
    pub wire: WireRange,
    /// The version of its program.
    pub version: String,
    /// The id of its cluster.
    pub cluster: String,
    /// Its name.
    pub node: String,
    /// Its current life.
    pub epoch: u64,
    /// The name of the node that it wants.
    pub wanted: String,
    /// Rises with each link that a process tries to make: of two links of one life, the one with
    /// the higher number is the newer.
    pub session: u64,
}

/// The owner takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The wire version of everything that follows, in both directions.
    pub wire: u16,
    /// The version of its program.
    pub version: String,
    /// Its name.
    pub node: String,
    /// Its current life.
    pub epoch: u64,
    /// The addresses that its clients are told by their network. Nodes of 0.1.0 say nothing of them, and
    /// do not read what is said.
    pub networks: ClientNetworks,
}

/// The owner does not take part, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The version of its program.
    pub version: String,
    /// Its name.
    pub node: String,
}

/// Why there is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    /// No wire version is known to both.
    WrongVersion {
        /// The oldest that the refusing node knows.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// The refusing node belongs to another cluster.
    WrongCluster,
    /// The refusing node has another name.
    WrongNode,
    /// The refusing node has a newer link with this one.
    Superseded,
    /// The refusing node does not take part in a cluster yet.
    NotReady,
    /// The refusing node has too many links.
    TooManyLinks,
    /// The refusing node has given this link up, or never had it.
    NotLinked,
    /// The refusing node does not understand a message.
    Malformed,
    /// A reason that only newer versions know.
    Unknown,
}

impl RefusalReason {
    /// The value of the metric label `reason` for every reason, by its code.
    pub const LABELS: [&str; 9] = [
        Self::Unknown.label(),
        Self::WrongVersion { min: 0, max: 0 }.label(),
        Self::WrongCluster.label(),
        Self::WrongNode.label(),
        Self::Superseded.label(),
        Self::NotReady.label(),
        Self::TooManyLinks.label(),
        Self::NotLinked.label(),
        Self::Malformed.label(),
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::WrongVersion { .. } => "wrong_version",
            Self::WrongCluster => "wrong_cluster",
            Self::WrongNode => "wrong_node",
            Self::Superseded => "superseded",
            Self::NotReady => "not_ready",
            Self::TooManyLinks => "too_many_links",
            Self::NotLinked => "not_linked",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::WrongVersion { .. } => 1,
            Self::WrongCluster => 2,
            Self::WrongNode => 3,
            Self::Superseded => 4,
            Self::NotReady => 5,
            Self::TooManyLinks => 6,
            Self::NotLinked => 7,
            Self::Malformed => 8,
        }
    }

    const fn of(code: u8, min: u16, max: u16) -> Self {
        match code {
            1 => Self::WrongVersion { min, max },
            2 => Self::WrongCluster,
            3 => Self::WrongNode,
            4 => Self::Superseded,
            5 => Self::NotReady,
            6 => Self::TooManyLinks,
            7 => Self::NotLinked,
            8 => Self::Malformed,
            _ => Self::Unknown,
        }
    }

    const fn range(self) -> WireRange {
        match self {
            Self::WrongVersion { min, max } => WireRange { min, max },
            Self::WrongCluster
            | Self::WrongNode
            | Self::Superseded
            | Self::NotReady
            | Self::TooManyLinks
            | Self::NotLinked
            | Self::Malformed
            | Self::Unknown => WireRange { min: 0, max: 0 },
        }
    }
}

impl Hello {
    /// Encodes the message: one frame.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<F, K: FrameSink<F> + ?Sized>(&self, sink: &mut K) -> Result<(), K::Error> {
        let mut head = Writer::greeting(Kind::Hello);
        head.u16(self.wire.min);
        head.u16(self.wire.max);
        head.u64(self.epoch);
        head.u64(self.session);
        for text in [&self.version, &self.cluster, &self.node, &self.wanted] {
            head.text(text);
        }
        sink.put(Part::Bytes(head.as_bytes()), Position::Last)
    }

    pub(super) fn read(head: &mut Reader<'_>) -> Result<Self, RelayDecodeError> {
        Ok(Self {
            wire: WireRange { min: head.u16()?, max: head.u16()? },
            epoch: head.u64()?,
            session: head.u64()?,
            version: head.text()?,
            cluster: head.text()?,
            node: head.text()?,
            wanted: head.text()?,
        })
    }
}

impl Welcome {
    /// Encodes the message: one frame.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<F, K: FrameSink<F> + ?Sized>(&self, sink: &mut K) -> Result<(), K::Error> {
        let mut head = Writer::greeting(Kind::Welcome);
        head.u16(self.wire);
        head.u64(self.epoch);
        head.text(&self.version);
        head.text(&self.node);
        networks::write(&mut head, &self.networks);
        sink.put(Part::Bytes(head.as_bytes()), Position::Last)
    }

    pub(super) fn read(head: &mut Reader<'_>) -> Result<Self, RelayDecodeError> {
        Ok(Self {
            wire: head.u16()?,
            epoch: head.u64()?,
            version: head.text()?,
            node: head.text()?,
            networks: networks::read(head),
        })
    }
}

impl Refusal {
    /// Encodes the message: one frame.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<F, K: FrameSink<F> + ?Sized>(&self, sink: &mut K) -> Result<(), K::Error> {
        let mut head = Writer::greeting(Kind::Refusal);
        let range = self.reason.range();
        head.u8(self.reason.code());
        head.u16(range.min);
        head.u16(range.max);
        head.text(&self.version);
        head.text(&self.node);
        sink.put(Part::Bytes(head.as_bytes()), Position::Last)
    }

    pub(super) fn read(head: &mut Reader<'_>) -> Result<Self, RelayDecodeError> {
        let (code, min, max) = (head.u8()?, head.u16()?, head.u16()?);
        let reason = RefusalReason::of(code, min, max);
        Ok(Self { reason, version: head.text()?, node: head.text()? })
    }
}
