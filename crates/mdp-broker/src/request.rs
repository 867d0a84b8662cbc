//! One accepted request, from its arrival to its last reply.

use mdp_wire::{Body, Frame, ServiceFrame, Version, client};

use crate::{PeerId, time::Moment};

/// What one request costs besides its frames: the request itself, its places in the queue's maps
/// and libzmq's share of the receive buffer. Measured at 420 to 480 bytes.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 512;

/// Larger frames are not copied: they are most of the buffer that they keep alive.
const DETACHED_BYTES_MAX: usize = 4_096;

/// The order of arrival at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival(pub(crate) u64);

/// One accepted request.
#[derive(Debug)]
pub(crate) struct Request<F> {
    pub(crate) arrival: Arrival,
    pub(crate) client: PeerId,
    pub(crate) version: Version,
    /// Given back in front of every reply (AM-12).
    pub(crate) envelope: Vec<F>,
    pub(crate) body: Body<F>,
    /// What it counts against the byte budget.
    pub(crate) bytes: usize,
    /// When it has waited long enough (MDP7-17).
    pub(crate) deadline: Moment,
    /// How many workers it was handed to.
    pub(crate) attempts: u32,
    /// A part of the reply has reached the client: nobody else may answer it now.
    pub(crate) is_partly_answered: bool,
    /// Partial replies kept for a 0.1 client, which knows only one reply.
    pub(crate) kept_partials: Vec<F>,
    pub(crate) kept_partial_bytes: usize,
}

impl<F: Frame> Request<F> {
    pub(crate) fn new(
        client: PeerId,
        message: client::Request<ServiceFrame<F>, F>,
        arrival: Arrival,
        deadline: Moment,
    ) -> Box<Self> {
        let frames = message.body.iter().chain(&message.envelope);
        let frame_bytes = frames.fold(0_usize, |sum, f| sum.saturating_add(f.as_ref().len()));
        Box::new(Self {
            arrival,
            client,
            version: message.version,
            envelope: message.envelope,
            body: message.body,
            bytes: frame_bytes.saturating_add(REQUEST_OVERHEAD_BYTES),
            deadline,
            attempts: 0,
            is_partly_answered: false,
            kept_partials: Vec::new(),
            kept_partial_bytes: 0,
        })
    }

    /// Copies small frames out of the transport's receive buffer, which they would keep alive as
    /// a whole: libzmq's frames of up to 8 KiB are slices of one buffer of that size.
    pub(crate) fn detach(&mut self) {
        for frame in self.body.iter_mut().chain(&mut self.envelope) {
            if frame.as_ref().len() <= DETACHED_BYTES_MAX {
                *frame = F::from(frame.as_ref());
            }
        }
    }
}
