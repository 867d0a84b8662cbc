//! The manifests of `deploy/kubernetes`, enacted with containers of a Docker engine: what a StatefulSet
//! controller, a kubelet, an eviction and a Service would do with them, as far as the fields go that
//! stand in them. A field that nothing here enacts, checks or sets aside by name is an error: what is
//! silently ignored would be a false pass.
//!
//! Each piece of behaviour cites what it mirrors. What is set aside: scheduling, NetworkPolicy,
//! `fsGroup` (a volume takes the owner of the image's folder), and the way of packets to a ClusterIP,
//! for which a small proxy stands in.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a harness stops at the first surprise")]

mod docker;
mod driver;
mod events;
mod fields;
mod kubelet;
mod manifests;
mod pod;
mod probes;
mod registrations;
mod rollout;
mod service;

pub use docker::{engine_answers, has_image};
pub use driver::{Driver, Evicted};
pub use events::{Event, What};
pub use manifests::{ManifestError, Manifests};
pub use registrations::{Disruption, NotFound, Registration, Registrations, by_pod, false_answers};
