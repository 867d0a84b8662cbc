//! Errors of libzmq, by number.
#![expect(unsafe_code, reason = "asks libzmq for the number and the text of its last error")]

use std::{ffi::CStr, fmt};

use zmq_sys::errno;

/// An operation on a socket failed; it holds libzmq's error number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SocketError(i32);

impl SocketError {
    /// The operation would have to wait.
    pub(crate) const WOULD_WAIT: Self = Self(errno::EAGAIN);
    /// The peer is not connected.
    pub(crate) const UNREACHABLE: Self = Self(errno::EHOSTUNREACH);
    /// A signal came in between.
    pub(crate) const INTERRUPTED: Self = Self(errno::EINTR);
    /// Another socket is bound to the address.
    pub(crate) const ADDRESS_IN_USE: Self = Self(errno::EADDRINUSE);
    /// This process may not bind to the address.
    pub(crate) const FORBIDDEN: Self = Self(errno::EACCES);

    /// The error of the call to libzmq that this thread made last.
    pub(crate) fn last() -> Self {
        // SAFETY: no preconditions; it reads a thread-local number.
        Self(unsafe { zmq_sys::zmq_errno() })
    }

    /// The result of a call that returns -1 on failure.
    pub(crate) fn check(code: i32) -> Result<i32, Self> {
        if code == -1 { Err(Self::last()) } else { Ok(code) }
    }
}

impl From<rustix::io::Errno> for SocketError {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: any number is allowed, and the returned text is static and ends with a zero.
        let text = unsafe { CStr::from_ptr(zmq_sys::zmq_strerror(self.0)) };
        write!(f, "{}", text.to_string_lossy())
    }
}

impl fmt::Debug for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketError({}: {self})", self.0)
    }
}

impl std::error::Error for SocketError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_says_what_libzmq_says() {
        assert_eq!(SocketError::UNREACHABLE.to_string(), "Host unreachable");
        assert!(SocketError(0x7fff_ffff).to_string().contains("Unknown error"));
    }
}
