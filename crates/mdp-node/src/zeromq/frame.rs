//! [`Frame`]: one libzmq message.
#![expect(unsafe_code, reason = "libzmq's messages are reached by pointer only")]

use std::{cell::UnsafeCell, fmt, mem, slice};

use zmq_sys::zmq_msg_t;

/// One frame of a multipart message.
pub(crate) struct Frame {
    /// Always an initialised message. In a cell because libzmq's calls that only read take a pointer
    /// that may write, which also makes the type `!Sync`.
    message: UnsafeCell<zmq_msg_t>,
}

// SAFETY: a message owns its bytes or shares them by an atomic count of references, nothing in it
// is tied to a thread, and libzmq itself hands messages from its threads to ours.
unsafe impl Send for Frame {}

impl Frame {
    /// A frame without bytes.
    pub(crate) fn new() -> Self {
        let mut message = zmq_msg_t::default();
        // SAFETY: the pointer is valid and `zmq_msg_init` may be given any memory; it cannot fail.
        unsafe { zmq_sys::zmq_msg_init(&raw mut message) };
        Self { message: UnsafeCell::new(message) }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the message is initialised; the call only reads.
        unsafe { zmq_sys::zmq_msg_size(self.message.get()) }
    }

    /// Whether more frames of the same received message follow.
    pub(crate) fn has_more(&self) -> bool {
        // SAFETY: as in `len`.
        unsafe { zmq_sys::zmq_msg_more(self.message.get()) == 1 }
    }

    /// The message, for a call that may change it but leaves it initialised.
    pub(super) fn as_mut_ptr(&mut self) -> *mut zmq_msg_t {
        self.message.get_mut()
    }

    /// Forgets a message that libzmq emptied when it took the bytes: an empty message owns nothing,
    /// and closing it costs as much as any other call.
    pub(super) fn forget_sent(self) {
        mem::forget(self);
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: the message is initialised and is not used again.
        unsafe { zmq_sys::zmq_msg_close(self.as_mut_ptr()) };
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the message is initialised; its bytes stay where they are as long as it is
        // neither moved nor changed, and a small message's bytes, which lie inside it, are borrowed
        // together with it. `zmq_msg_data` is never null, not even for an empty message.
        unsafe {
            let data = zmq_sys::zmq_msg_data(self.message.get()).cast::<u8>();
            slice::from_raw_parts(data, self.len())
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_frame_has_no_bytes_and_comes_from_nowhere() {
        let frame = Frame::new();
        assert_eq!((frame.len(), frame.as_ref(), frame.has_more()), (0, [].as_slice(), false));
        assert_eq!(format!("{frame:?}"), "Frame(0 bytes)");
    }
}
