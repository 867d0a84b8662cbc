//! [`Frame`]: one libzmq message, whose bytes can be shared without a copy.
#![expect(unsafe_code, reason = "libzmq's messages are reached by pointer only")]

use std::{cell::UnsafeCell, ffi::CStr, fmt, mem, net::IpAddr, ptr, slice};

use zmq_sys::zmq_msg_t;

/// One frame of a multipart message.
///
/// A clone shares the bytes (`zmq_msg_copy`): it costs a reference count, whatever the size.
/// Nothing writes into a frame after it was made, so shared bytes never change.
pub(crate) struct Frame {
    /// Always an initialised message. In a cell because `zmq_msg_copy` marks its source as shared,
    /// which also makes the type `!Sync`.
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

    /// Where the peer that sent the frame connects from. Only of a received frame that is not the
    /// first of its message: the routing id loses this knowledge on its way (libzmq 4.3.4).
    pub(crate) fn peer_address(&self) -> Option<IpAddr> {
        // SAFETY: the message is initialised and the property's name ends with a zero.
        let address =
            unsafe { zmq_sys::zmq_msg_gets(self.message.get(), c"Peer-Address".as_ptr()) };
        if address.is_null() {
            return None;
        }
        // SAFETY: a property is a string that ends with a zero and lives as long as the message.
        let address = unsafe { CStr::from_ptr(address) }.to_str().ok()?;
        address.trim_matches(['[', ']']).parse().ok()
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

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Self {
        let mut message = zmq_msg_t::default();
        // SAFETY: the pointer is valid and may point to any memory.
        let code = unsafe { zmq_sys::zmq_msg_init_size(&raw mut message, bytes.len()) };
        // Rust's own containers end the process when there is no memory, too.
        assert_eq!(code, 0, "libzmq has no memory for {} bytes", bytes.len());
        // SAFETY: the message was just made with room for exactly these bytes, which nobody else
        // has seen yet.
        unsafe {
            let room = zmq_sys::zmq_msg_data(&raw mut message).cast::<u8>();
            ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
        }
        Self { message: UnsafeCell::new(message) }
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        let copy = Self::new();
        // SAFETY: both messages are initialised and different; the source is only marked as shared
        // and counted, behind a cell that no other thread can see (`!Sync`). It fails for messages
        // that are not initialised, and for no other reason.
        unsafe { zmq_sys::zmq_msg_copy(copy.message.get(), self.message.get()) };
        copy
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

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inside the message, in shared memory, larger than libzmq's receive buffer.
    const SIZES: [usize; 5] = [0, 29, 33, 64, 16 * 1024];

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn frame_holds_the_bytes_it_was_made_of() {
        for size in SIZES {
            assert_eq!(Frame::from(bytes(size).as_slice()).as_ref(), bytes(size), "{size}");
        }
        assert_eq!(Frame::new().len(), 0);
    }

    #[test]
    fn clone_outlives_the_original() {
        for size in SIZES {
            let original = Frame::from(bytes(size).as_slice());
            let clone = original.clone();
            let clone_of_clone = clone.clone();
            drop(original);
            drop(clone);

            assert_eq!(clone_of_clone.as_ref(), bytes(size), "{size}");
        }
    }

    #[test]
    fn clone_of_a_large_frame_shares_its_bytes() {
        let original = Frame::from(bytes(64).as_slice());

        assert_eq!(original.clone().as_ref().as_ptr(), original.as_ref().as_ptr());
    }

    #[test]
    fn frame_moves_with_its_bytes() {
        for size in SIZES {
            let moved = Box::new(Frame::from(bytes(size).as_slice()));
            let moved = std::thread::spawn(move || *moved).join().unwrap();

            assert_eq!(moved.as_ref(), bytes(size), "{size}");
        }
    }

    #[test]
    fn debug_shows_no_bytes() {
        assert_eq!(format!("{:?}", Frame::from(b"secret".as_slice())), "Frame(6 bytes)");
    }
}
