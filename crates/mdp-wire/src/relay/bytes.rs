//! Numbers and short texts, to bytes and back.

use smallvec::SmallVec;

use super::{FORMAT, LOAD_ENTRIES_MAX, RelayDecodeError, WireRange, encode::HEAD_BYTES_MAX};
use crate::codec::Kind;

/// The longest text: its length is one byte.
const TEXT_BYTES_MAX: usize = u8::MAX as usize;

/// A head that is being written. Those of requests and replies need no allocation.
pub(super) struct Writer(SmallVec<[u8; HEAD_BYTES_MAX]>);

/// What every head of the next wire version has and none of the first: whoever takes one for the
/// other reads nonsense.
#[cfg(feature = "test-next")]
const MARK_OF_VERSION_2: u8 = 0x4e;

impl Writer {
    /// A greeting, whose format never changes.
    pub(super) fn greeting(kind: Kind) -> Self {
        let mut writer = Self(SmallVec::new());
        writer.u8(kind as u8);
        writer.u16(FORMAT);
        writer
    }

    /// A message of a link that has this wire version.
    pub(super) fn message(kind: Kind, wire: u16) -> Self {
        match wire {
            #[cfg(feature = "test-next")]
            2 => {
                let mut writer = Self(SmallVec::new());
                writer.u8(kind as u8);
                writer.u16(2);
                writer.u8(MARK_OF_VERSION_2);
                writer
            }
            _ => Self::greeting(kind),
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A text; what is beyond [`TEXT_BYTES_MAX`] is cut off.
    pub(super) fn text(&mut self, text: &str) {
        self.short(
            text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().as_bytes(),
        );
    }

    /// At most [`TEXT_BYTES_MAX`] bytes; the rest is cut off.
    pub(super) fn short(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
        self.u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// A text that may be longer than [`TEXT_BYTES_MAX`]: its length is two bytes.
    pub(super) fn long_text(&mut self, text: &str) {
        let end = text.floor_char_boundary(u16::MAX.into());
        let bytes = text.get(..end).unwrap_or_default().as_bytes();
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// Bytes whose number the reader knows.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// How many entries follow.
    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A head that is being read.
pub(super) struct Reader<'a> {
    word: Word,
    kind: Kind,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the kind and checks the format: that of a wire version in the range, or of greetings.
    pub(super) fn open(head: &'a [u8], wire: WireRange) -> Result<Self, RelayDecodeError> {
        let too_short = RelayDecodeError::NoHead { got: head.len() };
        let Some(([kind, low, high], rest)) = head.split_first_chunk::<3>() else {
            return Err(too_short);
        };
        let unknown = RelayDecodeError::UnknownKind { got: *kind };
        let word = Word::of(*kind).ok_or(unknown)?;
        let kind = word.kind();
        let is_greeting = matches!(word, Word::Hello | Word::Welcome | Word::Refusal);
        match u16::from_le_bytes([*low, *high]) {
            FORMAT if is_greeting || wire.contains(FORMAT) => Ok(Self { word, kind, rest }),
            #[cfg(feature = "test-next")]
            2 if !is_greeting && wire.contains(2) => {
                let mut head = Self { word, kind, rest };
                match head.u8()? {
                    MARK_OF_VERSION_2 => Ok(head),
                    got => Err(RelayDecodeError::UnknownValue { kind, got }),
                }
            }
            got => Err(RelayDecodeError::UnknownFormat { kind, got }),
        }
    }

    /// What is being read.
    pub(super) const fn word(&self) -> Word {
        self.word
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RelayDecodeError> {
        let cut_off = RelayDecodeError::CutOff { kind: self.kind };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(cut_off)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, RelayDecodeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, RelayDecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RelayDecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RelayDecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn short(&mut self) -> Result<&'a [u8], RelayDecodeError> {
        let length = usize::from(self.u8()?);
        self.bytes(length)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], RelayDecodeError> {
        let cut_off = RelayDecodeError::CutOff { kind: self.kind };
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn text(&mut self) -> Result<String, RelayDecodeError> {
        let bytes = self.short()?;
        self.as_text(bytes)
    }

    pub(super) fn long_text(&mut self) -> Result<String, RelayDecodeError> {
        let length = usize::from(self.u16()?);
        let bytes = self.bytes(length)?;
        self.as_text(bytes)
    }

    fn as_text(&self, bytes: &[u8]) -> Result<String, RelayDecodeError> {
        let text = str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| RelayDecodeError::NotText { kind: self.kind })
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RelayDecodeError> {
        self.take()
    }

    /// Whether nothing is left.
    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What a value that stands for nothing is refused with.
    pub(super) const fn unknown(&self, got: u8) -> RelayDecodeError {
        RelayDecodeError::UnknownValue { kind: self.kind, got }
    }

    /// How many entries follow, each of at least so many bytes.
    pub(super) fn count(&mut self, entry_bytes_min: usize) -> Result<usize, RelayDecodeError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > LOAD_ENTRIES_MAX {
            return Err(RelayDecodeError::TooManyEntries { got: count });
        }
        // A forged count allocates nothing that is not there.
        if count.saturating_mul(entry_bytes_min) > self.rest.len() {
            return Err(RelayDecodeError::CutOff { kind: self.kind });
        }
        Ok(count)
    }

    /// Nothing may follow.
    pub(super) const fn end(&self) -> Result<(), RelayDecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(RelayDecodeError::TrailingBytes { kind: self.kind, count }),
        }
    }
}

/// The kinds of things that nodes say on links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Forward,
    Cancel,
    Load,
    Reply,
    Return,
    Hello,
    Welcome,
    Refusal,
    Ping,
    Bye,
}

impl Word {
    const ALL: [Self; 10] = [
        Self::Forward,
        Self::Cancel,
        Self::Load,
        Self::Reply,
        Self::Return,
        Self::Hello,
        Self::Welcome,
        Self::Refusal,
        Self::Ping,
        Self::Bye,
    ];

    fn of(kind: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.kind() as u8 == kind)
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Forward => Kind::Forward,
            Self::Cancel => Kind::Cancel,
            Self::Load => Kind::Load,
            Self::Reply => Kind::Reply,
            Self::Return => Kind::Return,
            Self::Hello => Kind::Hello,
            Self::Welcome => Kind::Welcome,
            Self::Refusal => Kind::Refusal,
            Self::Ping => Kind::Ping,
            Self::Bye => Kind::Bye,
        }
    }
}
