//! CURVE (26/CURVEZMQ and 25/ZMTP-CURVE, as libzmq speaks them): each connection has short-term keys of its
//! own, the server is known by its long-term key before, the client shows its own in the third command.
//!
//! ```text
//! dialling side, with C and c'                accepting side, with S
//! HELLO     C', box(c', S)                 -> which of the keys S?  (a job)
//!           opens the box                  <- WELCOME  box(S, C')[S', cookie = C' and s']
//! INITIATE  cookie, box(c', S')[C, vouch]  -> cookie, box, vouch    (a job)
//!                                             Authenticate { C }, and the owner's answer
//!           opens the box                  <- READY    box(s', C')[properties]
//! MESSAGE   box(c', S')[flags, frame]     <-> MESSAGE  box(s', C')[flags, frame]
//! ```
//!
//! | what | is in |
//! |---|---|
//! | keys, Z85 | `keys.rs`, `z85.rs` |
//! | boxes of NaCl, nonces | `boxes.rs` |
//! | the four commands as bytes | `wire.rs` |
//! | either side's part | `server.rs`, `cookie.rs`, `client.rs`, `job.rs` |
//! | traffic | `messages.rs` |
//! | randomness of a seed | `entropy.rs` |

mod boxes;
mod client;
mod cookie;
mod entropy;
mod error;
mod job;
mod keys;
mod messages;
mod server;
mod wire;
mod z85;

pub use error::CurveError;
pub use job::{CurveJob, CurveJobResult};
pub use keys::{ClientKeys, KeyPair, NotAKey, PublicKey, SecretKey, ServerKeys};

pub(crate) use client::{AwaitedReady, ClientHandshake};
pub(crate) use cookie::Ticket;
pub(crate) use entropy::{Entropy, LABEL_BYTES};
pub(crate) use job::{CurveOutcome, JobKind, JobPlace, PendingCommand, PortMark, Server};
pub(crate) use messages::{Opener, SEALED_OVERHEAD_BYTES, SealedHead, Sealer};
pub(crate) use server::Established;
pub(crate) use wire::{HELLO_BYTES, INITIATE_BYTES_MAX};

/// How long a key is, secret or public, of a box or a generator.
pub(crate) const KEY_BYTES: usize = 32;
