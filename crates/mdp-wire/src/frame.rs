//! Frames, bodies, and where encoded frames go.

use smallvec::SmallVec;

/// One frame of a multipart message: opaque bytes that move and can be shared.
///
/// `Clone` should be cheap (a reference count): the broker keeps a request while its worker has
/// it, so that it can be given to another worker.
pub trait Frame: AsRef<[u8]> + Clone + for<'a> From<&'a [u8]> {}

impl<T: AsRef<[u8]> + Clone + for<'a> From<&'a [u8]>> Frame for T {}

/// The body of a request or reply: one frame or more, each of which may be empty.
///
/// One frame is by far the most common case and costs no allocation.
pub type Body<F> = SmallVec<[F; 1]>;

/// One encoded frame on its way out.
#[derive(Debug)]
pub enum Part<'a, F> {
    /// Bytes that the encoder made: headers, commands, names.
    Bytes(&'a [u8]),
    /// A frame that passes unchanged.
    Frame(F),
}

impl<F: AsRef<[u8]>> AsRef<[u8]> for Part<'_, F> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Frame(frame) => frame.as_ref(),
        }
    }
}

/// Whether more frames of the same message follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// More frames follow.
    More,
    /// This frame ends the message.
    Last,
}

/// Takes the frames of one encoded message, in order.
pub trait FrameSink<F> {
    /// Why a frame could not be taken.
    type Error;

    /// Takes one frame.
    ///
    /// # Errors
    /// Whatever the sink reports; encoding stops there.
    fn put(&mut self, part: Part<'_, F>, position: Position) -> Result<(), Self::Error>;
}

/// Collects encoded frames as byte vectors, for tests and tools.
impl<F: AsRef<[u8]>> FrameSink<F> for Vec<Vec<u8>> {
    type Error = std::convert::Infallible;

    fn put(&mut self, part: Part<'_, F>, _position: Position) -> Result<(), Self::Error> {
        self.push(part.as_ref().to_vec());
        Ok(())
    }
}

/// Puts frames that the encoder made, none of which ends the message.
pub(crate) fn put_head<F, S: FrameSink<F> + ?Sized>(
    sink: &mut S,
    head: &[&[u8]],
) -> Result<(), S::Error> {
    head.iter().try_for_each(|bytes| sink.put(Part::Bytes(bytes), Position::More))
}

/// Puts the last frames that the encoder made, the end of the message.
pub(crate) fn put_all<F, S: FrameSink<F> + ?Sized>(
    sink: &mut S,
    frames: &[&[u8]],
) -> Result<(), S::Error> {
    let Some((last, head)) = frames.split_last() else { return Ok(()) };
    put_head(sink, head)?;
    sink.put(Part::Bytes(last), Position::Last)
}

/// Puts a body, the end of the message. An empty body is sent as one empty frame, because every
/// layout of both versions has at least one body frame.
pub(crate) fn put_body<F, S: FrameSink<F> + ?Sized>(
    sink: &mut S,
    body: Body<F>,
) -> Result<(), S::Error> {
    let count = body.len();
    if count == 0 {
        return sink.put(Part::Bytes(b""), Position::Last);
    }
    for (index, frame) in body.into_iter().enumerate() {
        let position = if index + 1 == count { Position::Last } else { Position::More };
        sink.put(Part::Frame(frame), position)?;
    }
    Ok(())
}
