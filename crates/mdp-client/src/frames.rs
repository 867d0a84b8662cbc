//! What can be given as a body.

use std::borrow::Cow;

use bytes::Bytes;

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

impl IntoFrames for &String {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.as_bytes().to_vec()]
    }
}

impl IntoFrames for &Vec<u8> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.clone()]
    }
}

impl IntoFrames for Cow<'_, str> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.into_owned().into_bytes()]
    }
}

impl IntoFrames for Cow<'_, [u8]> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.into_owned()]
    }
}

impl IntoFrames for Bytes {
    fn into_frames(self) -> Vec<Vec<u8>> {
        vec![self.into()]
    }
}

/// Several frames.
impl IntoFrames for Vec<String> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        self.into_iter().map(String::into_bytes).collect()
    }
}

/// Several frames.
impl IntoFrames for Vec<Bytes> {
    fn into_frames(self) -> Vec<Vec<u8>> {
        self.into_iter().map(Vec::from).collect()
    }
}

/// Several frames.
impl IntoFrames for &[Vec<u8>] {
    fn into_frames(self) -> Vec<Vec<u8>> {
        self.to_vec()
    }
}

/// Several frames.
impl<T: AsRef<[u8]>, const N: usize> IntoFrames for [T; N] {
    fn into_frames(self) -> Vec<Vec<u8>> {
        self.iter().map(|frame| frame.as_ref().to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_have_at_hand_is_a_body_of_one_frame() {
        let text = "hello".to_owned();
        let bodies = [
            (&text).into_frames(),
            text.clone().into_frames(),
            text.as_str().into_frames(),
            Cow::Borrowed("hello").into_frames(),
            Cow::Borrowed(&b"hello"[..]).into_frames(),
            Bytes::from_static(b"hello").into_frames(),
            (&b"hello".to_vec()).into_frames(),
        ];

        assert!(bodies.iter().all(|body| *body == [b"hello"]), "{bodies:?}");
    }

    #[test]
    fn lists_are_bodies_of_several_frames() {
        let expected = vec![b"a".to_vec(), b"b".to_vec()];

        assert_eq!(vec!["a".to_owned(), "b".to_owned()].into_frames(), expected);
        assert_eq!(
            vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")].into_frames(),
            expected
        );
        assert_eq!(expected.as_slice().into_frames(), expected);
        assert_eq!(["a", "b"].into_frames(), expected);
    }
}
