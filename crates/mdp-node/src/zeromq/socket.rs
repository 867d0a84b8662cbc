//! [`Context`] and [`Socket`].
#![expect(unsafe_code, reason = "libzmq's contexts and sockets are reached by pointer only")]

use std::{
    ffi::{CString, c_int, c_void},
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::Arc,
};

use mdp_wire::Position;

use super::{Frame, SocketError};

/// A libzmq context: one per node.
#[derive(Debug)]
pub(crate) struct Context {
    raw: NonNull<c_void>,
}

// SAFETY: a context may be used by any number of threads at once, says zmq_ctx_new(3).
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// A context with so many threads for I/O.
    pub(crate) fn new(io_threads: i32) -> Result<Self, SocketError> {
        // SAFETY: no preconditions.
        let raw = NonNull::new(unsafe { zmq_sys::zmq_ctx_new() }).ok_or_else(SocketError::last)?;
        let context = Self { raw };
        context.set(option_number(zmq_sys::ZMQ_IO_THREADS), io_threads)?;
        Ok(context)
    }

    fn set(&self, option: c_int, value: c_int) -> Result<(), SocketError> {
        // SAFETY: the context lives as long as `self`.
        SocketError::check(unsafe { zmq_sys::zmq_ctx_set(self.raw.as_ptr(), option, value) })
            .map(drop)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        loop {
            // SAFETY: the last owner of the context; every socket keeps it alive and is closed.
            let code = unsafe { zmq_sys::zmq_ctx_term(self.raw.as_ptr()) };
            if SocketError::check(code) != Err(SocketError::INTERRUPTED) {
                return;
            }
        }
    }
}

/// Which of a context's threads do a socket's I/O: bit 0 stands for the first, no bit for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoThreads(u64);

impl IoThreads {
    /// The second, for the traffic between nodes: heartbeats must not wait behind requests.
    pub(crate) const CLUSTER: Self = Self(0b10);
}

/// An option of a socket that takes a number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketOption {
    /// Sending to a peer that is not there, or that is full, is an error.
    RouterMandatory,
    /// How long unsent messages live after the socket is closed, in milliseconds.
    Linger,
    /// How many messages may wait for each peer.
    SendHighWaterMark,
    /// How many messages of each peer may wait for us.
    ReceiveHighWaterMark,
    /// How long a peer may take to introduce itself, in milliseconds.
    HandshakeInterval,
    /// How often a peer is pinged, in milliseconds.
    HeartbeatInterval,
    /// How long a pinged peer may be silent, in milliseconds.
    HeartbeatTimeout,
    /// How long a peer should wait for a sign of life of ours, in milliseconds.
    HeartbeatTtl,
    /// How many connections the kernel keeps before they are accepted.
    Backlog,
    /// Whether addresses may be of version 6.
    Ipv6,
    /// Messages are only taken for peers that are connected.
    Immediate,
    /// How long making a connection may take, in milliseconds.
    ConnectTimeout,
    /// How long to wait before a lost connection is made anew, in milliseconds.
    ReconnectInterval,
    /// What that wait grows to while it fails, in milliseconds.
    ReconnectIntervalMax,
}

impl SocketOption {
    fn number(self) -> c_int {
        option_number(match self {
            Self::RouterMandatory => zmq_sys::ZMQ_ROUTER_MANDATORY,
            Self::Linger => zmq_sys::ZMQ_LINGER,
            Self::SendHighWaterMark => zmq_sys::ZMQ_SNDHWM,
            Self::ReceiveHighWaterMark => zmq_sys::ZMQ_RCVHWM,
            Self::HandshakeInterval => zmq_sys::ZMQ_HANDSHAKE_IVL,
            Self::HeartbeatInterval => zmq_sys::ZMQ_HEARTBEAT_IVL,
            Self::HeartbeatTimeout => zmq_sys::ZMQ_HEARTBEAT_TIMEOUT,
            Self::HeartbeatTtl => zmq_sys::ZMQ_HEARTBEAT_TTL,
            Self::Backlog => zmq_sys::ZMQ_BACKLOG,
            Self::Ipv6 => zmq_sys::ZMQ_IPV6,
            Self::Immediate => zmq_sys::ZMQ_IMMEDIATE,
            Self::ConnectTimeout => zmq_sys::ZMQ_CONNECT_TIMEOUT,
            Self::ReconnectInterval => zmq_sys::ZMQ_RECONNECT_IVL,
            Self::ReconnectIntervalMax => zmq_sys::ZMQ_RECONNECT_IVL_MAX,
        })
    }
}

/// The C interface takes its own unsigned constants as signed numbers; all are small.
const fn option_number(option: u32) -> c_int {
    option.cast_signed()
}

/// Whether a call to [`Socket`] took or brought a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFlow {
    /// It did.
    Done,
    /// It would have to wait, or the peer is full.
    WouldWait,
}

/// What a socket can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// A message can be received.
    pub(crate) can_receive: bool,
    /// A message can be sent.
    pub(crate) can_send: bool,
}

/// A ROUTER or DEALER socket. It may move between threads but not be shared.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: NonNull<c_void>,
    /// Declared last: the context must outlive the socket.
    _context: Arc<Context>,
}

// SAFETY: zmq_socket(3) allows a socket to move to another thread with a full memory barrier, which
// every safe way of moving it in Rust has.
unsafe impl Send for Socket {}

impl Socket {
    /// A ROUTER, bound to nothing.
    pub(crate) fn router(context: &Arc<Context>) -> Result<Self, SocketError> {
        Self::open(context, zmq_sys::ZMQ_ROUTER)
    }

    /// A DEALER, connected to nothing.
    pub(crate) fn dealer(context: &Arc<Context>) -> Result<Self, SocketError> {
        Self::open(context, zmq_sys::ZMQ_DEALER)
    }

    fn open(context: &Arc<Context>, kind: u32) -> Result<Self, SocketError> {
        let kind = option_number(kind);
        // SAFETY: the context is alive.
        let raw = unsafe { zmq_sys::zmq_socket(context.raw.as_ptr(), kind) };
        let raw = NonNull::new(raw).ok_or_else(SocketError::last)?;
        Ok(Self { raw, _context: Arc::clone(context) })
    }

    /// Sets an option.
    pub(crate) fn set(&self, option: SocketOption, value: c_int) -> Result<(), SocketError> {
        // SAFETY: all of these options are of type int.
        unsafe { self.set_raw(option.number(), &value) }
    }

    /// Sets the size of the largest frame that is accepted from a peer, in bytes.
    pub(crate) fn set_frame_bytes_max(&self, bytes: i64) -> Result<(), SocketError> {
        // SAFETY: this option is of type int64_t.
        unsafe { self.set_raw(option_number(zmq_sys::ZMQ_MAXMSGSIZE), &bytes) }
    }

    /// Chooses the threads that do this socket's I/O, for connections made from now on.
    pub(crate) fn set_io_threads(&self, threads: IoThreads) -> Result<(), SocketError> {
        // SAFETY: this option is of type uint64_t.
        unsafe { self.set_raw(option_number(zmq_sys::ZMQ_AFFINITY), &threads.0) }
    }

    /// # Safety
    /// The option must be of type `T`.
    unsafe fn set_raw<T: Copy>(&self, option: c_int, value: &T) -> Result<(), SocketError> {
        let pointer: *const T = value;
        // SAFETY: the socket is open and the pointer is valid for the size given; the type is the
        // caller's word.
        SocketError::check(unsafe {
            zmq_sys::zmq_setsockopt(self.raw.as_ptr(), option, pointer.cast(), size_of::<T>())
        })
        .map(drop)
    }

    /// Accepts connections at an address of libzmq.
    pub(crate) fn bind(&self, address: &str) -> Result<(), SocketError> {
        let address = CString::new(address).unwrap_or_default();
        // SAFETY: the socket is open and the text ends with a zero.
        SocketError::check(unsafe { zmq_sys::zmq_bind(self.raw.as_ptr(), address.as_ptr()) })
            .map(drop)
    }

    /// Connects to an address of libzmq, sooner or later: it is tried for ever.
    pub(crate) fn connect(&self, address: &str) -> Result<(), SocketError> {
        let address = CString::new(address).unwrap_or_default();
        // SAFETY: the socket is open and the text ends with a zero.
        SocketError::check(unsafe { zmq_sys::zmq_connect(self.raw.as_ptr(), address.as_ptr()) })
            .map(drop)
    }

    /// The address that was bound last, with its real port.
    pub(crate) fn last_endpoint(&self) -> Result<String, SocketError> {
        const ADDRESS_BYTES_MAX: usize = 1_024;
        let mut buffer = [0_u8; ADDRESS_BYTES_MAX];
        let mut length = ADDRESS_BYTES_MAX;
        // SAFETY: the socket is open and the buffer has the length given.
        SocketError::check(unsafe {
            zmq_sys::zmq_getsockopt(
                self.raw.as_ptr(),
                option_number(zmq_sys::ZMQ_LAST_ENDPOINT),
                buffer.as_mut_ptr().cast(),
                &raw mut length,
            )
        })?;
        let text = buffer.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Whether a message can be received now. It must be asked between the last call to this
    /// socket and waiting for [`Socket::descriptor`], which tells of changes only.
    pub(crate) fn is_readable(&self) -> Result<bool, SocketError> {
        self.readiness().map(|readiness| readiness.can_receive)
    }

    /// What can be done now; to be asked like [`Socket::is_readable`].
    pub(crate) fn readiness(&self) -> Result<Readiness, SocketError> {
        let events = self.option_i32(zmq_sys::ZMQ_EVENTS)?;
        Ok(Readiness {
            can_receive: events & option_number(zmq_sys::ZMQ_POLLIN) != 0,
            can_send: events & option_number(zmq_sys::ZMQ_POLLOUT) != 0,
        })
    }

    /// Becomes readable when the state of the socket may have changed.
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>, SocketError> {
        let descriptor = self.option_i32(zmq_sys::ZMQ_FD)?;
        // SAFETY: the descriptor belongs to the socket and is open as long as the socket is.
        Ok(unsafe { BorrowedFd::borrow_raw(descriptor) })
    }

    fn option_i32(&self, option: u32) -> Result<i32, SocketError> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>();
        let option = option_number(option);
        loop {
            let pointer = (&raw mut value).cast();
            // SAFETY: the socket is open, and the options asked for are of type int.
            let code = unsafe {
                zmq_sys::zmq_getsockopt(self.raw.as_ptr(), option, pointer, &raw mut length)
            };
            match SocketError::check(code) {
                Ok(_) => return Ok(value),
                Err(SocketError::INTERRUPTED) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives one frame into `frame`, whose old bytes are let go.
    pub(crate) fn receive(&mut self, frame: &mut Frame) -> Result<FrameFlow, SocketError> {
        let flags = option_number(zmq_sys::ZMQ_DONTWAIT);
        // SAFETY: the socket is open, is used by this thread only (`&mut self` of a `!Sync` type),
        // and the message is initialised; it stays so whatever the outcome.
        flow(|| unsafe { zmq_sys::zmq_msg_recv(frame.as_mut_ptr(), self.raw.as_ptr(), flags) })
    }

    /// Sends bytes as one frame; they are copied.
    pub(crate) fn send_bytes(
        &mut self,
        bytes: &[u8],
        position: Position,
    ) -> Result<FrameFlow, SocketError> {
        let flags = send_flags(position);
        // SAFETY: the socket is open and used by this thread only; the bytes are valid and copied.
        flow(|| unsafe {
            zmq_sys::zmq_send(self.raw.as_ptr(), bytes.as_ptr().cast(), bytes.len(), flags)
        })
    }

    /// Sends a frame. Its bytes are not copied; it is lost unless the outcome is
    /// [`FrameFlow::Done`].
    pub(crate) fn send(
        &mut self,
        mut frame: Frame,
        position: Position,
    ) -> Result<FrameFlow, SocketError> {
        let flags = send_flags(position);
        // SAFETY: the socket is open and used by this thread only. On success libzmq takes the
        // bytes and leaves an empty message; otherwise the message is as before.
        let sent = flow(|| unsafe {
            zmq_sys::zmq_msg_send(frame.as_mut_ptr(), self.raw.as_ptr(), flags)
        })?;
        if sent == FrameFlow::Done {
            frame.forget_sent();
        }
        Ok(sent)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the socket is open and is not used again.
        unsafe { zmq_sys::zmq_close(self.raw.as_ptr()) };
    }
}

const fn send_flags(position: Position) -> c_int {
    option_number(match position {
        Position::More => zmq_sys::ZMQ_DONTWAIT | zmq_sys::ZMQ_SNDMORE,
        Position::Last => zmq_sys::ZMQ_DONTWAIT,
    })
}

/// Repeats a call that a signal interrupted, and takes "would wait" for an outcome.
fn flow(mut call: impl FnMut() -> c_int) -> Result<FrameFlow, SocketError> {
    loop {
        match SocketError::check(call()) {
            Ok(_) => return Ok(FrameFlow::Done),
            Err(SocketError::WOULD_WAIT) => return Ok(FrameFlow::WouldWait),
            Err(SocketError::INTERRUPTED) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The version of the libzmq that runs.
pub(crate) fn library_version() -> (i32, i32, i32) {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid pointers.
    unsafe { zmq_sys::zmq_version(&raw mut major, &raw mut minor, &raw mut patch) };
    (major, minor, patch)
}

/// Whether the libzmq that runs can encrypt.
pub(crate) fn library_has_curve() -> bool {
    // SAFETY: the text ends with a zero.
    unsafe { zmq_sys::zmq_has(c"curve".as_ptr()) == 1 }
}
