//! [`SharedFrame`]: the bytes of one frame, which clones share.

use std::{fmt, sync::Arc};

/// One frame of a message. A clone costs a reference count, whatever the size.
///
/// The frames of a small message lie in one allocation, as they came from the network; a large
/// frame has one of its own ([`LARGE_FRAME_BYTES`](crate::LARGE_FRAME_BYTES)).
#[derive(Clone, Default)]
pub struct SharedFrame(Storage);

#[derive(Clone, Default)]
enum Storage {
    #[default]
    Empty,
    /// A part of what was read together.
    Part { region: Arc<[u8]>, start: u32, end: u32 },
    /// A buffer that was filled as the bytes came, from a byte on; not copied again.
    Whole { bytes: Arc<Vec<u8>>, start: u32 },
}

impl SharedFrame {
    /// The bytes `start..end` of a region; `None` if it has no such bytes.
    pub(crate) fn part(region: &Arc<[u8]>, start: usize, end: usize) -> Option<Self> {
        let length = region.get(start..end)?.len();
        if length == 0 {
            return Some(Self::default());
        }
        let start = u32::try_from(start).ok()?;
        let end = u32::try_from(end).ok()?;
        Some(Self(Storage::Part { region: Arc::clone(region), start, end }))
    }

    /// The bytes of a buffer from `start` on, which it keeps whole.
    pub(crate) fn suffix(bytes: Vec<u8>, start: u32) -> Self {
        Self(Storage::Whole { bytes: Arc::new(bytes), start })
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Its bytes; copied unless the frame has an allocation of its own and no clone shares it.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Storage::Whole { bytes, start: 0 } => {
                Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec())
            }
            Storage::Empty | Storage::Part { .. } | Storage::Whole { .. } => self.as_ref().to_vec(),
        }
    }

    /// Whether it has at least half of the bytes that it keeps in memory.
    pub(crate) fn is_most_of_its_memory(&self) -> bool {
        let kept = match &self.0 {
            Storage::Empty => 0,
            Storage::Part { region, .. } => region.len(),
            Storage::Whole { bytes, .. } => bytes.capacity(),
        };
        kept <= self.len().saturating_mul(2)
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_ref().is_empty()
    }
}

impl From<Vec<u8>> for SharedFrame {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() { Self::default() } else { Self::suffix(bytes, 0) }
    }
}

impl From<&[u8]> for SharedFrame {
    fn from(bytes: &[u8]) -> Self {
        let region = Arc::from(bytes);
        // Too long for a part: four GiB.
        Self::part(&region, 0, bytes.len()).unwrap_or_else(|| bytes.to_vec().into())
    }
}

impl AsRef<[u8]> for SharedFrame {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Storage::Empty => &[],
            Storage::Part { region, start, end } => {
                let start = usize::try_from(*start).unwrap_or(usize::MAX);
                let end = usize::try_from(*end).unwrap_or(usize::MAX);
                region.get(start..end).unwrap_or_default()
            }
            Storage::Whole { bytes, start } => {
                bytes.get(usize::try_from(*start).unwrap_or(usize::MAX)..).unwrap_or_default()
            }
        }
    }
}

impl PartialEq for SharedFrame {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for SharedFrame {}

impl fmt::Debug for SharedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedFrame({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_with_an_allocation_of_its_own_becomes_that() {
        let bytes = vec![7; 100];
        let address = bytes.as_ptr();
        let frame = SharedFrame::from(bytes);
        let shared = frame.clone();
        let copied = shared.into_vec();
        assert_ne!(copied.as_ptr(), address);
        let taken = frame.into_vec();
        assert_eq!(taken.as_ptr(), address);
        assert_eq!(taken, copied);
        assert_eq!(SharedFrame::from([7, 8].as_slice()).into_vec(), [7, 8]);
        assert_eq!(SharedFrame::default().into_vec(), []);
    }
}
