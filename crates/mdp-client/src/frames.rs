//! What can be given as a body.

/// Something that can be the body of a request or reply: one frame or several, opaque bytes.
///
/// A body without any frame is sent as one empty frame, for both versions ask for one.
pub trait IntoFrames {
    /// The frames of the body.
    fn into_frames(self) -> Vec<Vec<u8>>;
}

impl IntoFrames for Vec<Vec<u8>> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        self
    }
}

impl IntoFrames for Vec<u8> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self]
    }
}

impl IntoFrames for String {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.into_bytes()]
    }
}

impl IntoFrames for &[u8] {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.to_vec()]
    }
}

impl<const N: usize> IntoFrames for &[u8; N] {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.to_vec()]
    }
}

impl IntoFrames for &str {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.as_bytes().to_vec()]
    }
}

/// Several frames.
impl<T: AsRef<[u8]>, const N: usize> IntoFrames for [T; N] {
    fn into_frames(self) -> Vec<Vec<u8>> {
        self.iter().map(|frame| frame.as_ref().to_vec()).collect()
    }
}
