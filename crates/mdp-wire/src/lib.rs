//! Frames to typed messages of 7/MDP (wire version 0.1) and 18/MDP (0.2), and back.
//!
//! The crate knows bytes only: no socket, no clock, no state. A *frame* is anything that can be
//! seen as bytes ([`Frame`]); bodies are moved from the received message into the typed message
//! and from there to the sink that sends them, and are never copied.
//!
//! | direction | type | decode | encode |
//! |---|---|---|---|
//! | client → broker | [`client::Request`] | [`decode_at_broker`] | [`client::Request::encode`] |
//! | broker → client | [`client::Reply`] | [`client::Reply::decode`] | [`client::Reply::encode`] |
//! | worker → broker | [`worker::ToBroker`] | [`decode_at_broker`] | [`worker::ToBroker::encode`] |
//! | broker → worker | [`worker::FromBroker`] | [`worker::FromBroker::decode`] | [`worker::FromBroker::encode`] |
//!
//! What nodes tell each other about requests is in [`relay`]; what they store, and everything else
//! that they tell each other, is encoded by [`codec`].

pub mod client;
pub mod codec;
mod decode;
mod error;
mod frame;
mod network;
pub mod relay;
mod request_id;
mod service;
mod token;
mod version;
pub mod worker;

pub use decode::{AtBroker, DecodeLimits, decode_at_broker};
pub use error::{DecodeError, Defect, EncodeError, ServiceNameError};
pub use frame::{Body, Frame, FrameSink, Part, Position};
pub use network::{
    CLIENT_NETWORKS_MAX, ClientNetworks, ClientNetworksError, Network, NetworkAddress, NetworkError,
};
pub use request_id::RequestId;
pub use service::{MMI_PREFIX, SERVICE_NAME_BYTES_MAX, ServiceFrame, ServiceName, ServiceNameRef};
pub use token::{TOKEN_BYTES, Token};
pub use version::Version;
