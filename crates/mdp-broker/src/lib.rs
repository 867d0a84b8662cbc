//! One node's Majordomo broker as a state machine: workers, queues, management interface.
//!
//! It does no I/O: the shell gives it time, messages and answers, and carries out what it decides.
//!
//! 1. After one call of `handle_*`, or a small batch of them, the shell takes effects with
//!    [`Broker::poll_effect`] until `None` and runs them in that order. It executes and never
//!    decides.
//! 2. A `now` older than an earlier one counts as the earlier one. When a deadline is overdue
//!    by more than one heartbeat interval and nothing was called meanwhile, the process stood
//!    still: that time does not count, and nobody expires for it.
//! 3. Same inputs, same effects: ordered maps, counted ids, random bits from the seed only.
//! 4. [`Effect::Propose`] says what *should be* true; losing or repeating it is harmless, for the
//!    engine proposes again until [`Input::Committed`] agrees.
//! 5. [`Input::LookedUp`] may be late or missing: the engine has its own deadline and ignores
//!    answers to questions that it no longer has.
//! 6. Counters are read ([`Broker::counters`]), not emitted; every dropped message is counted with
//!    its reason.

mod access;
mod broker;
mod clients;
mod contract;
mod counters;
mod drops;
mod pattern;
mod peer;
mod queue;
mod refusals;
mod request;
mod service;
mod settings;
mod time;
mod timers;
mod tokens;
mod usage;
mod worker;

pub use access::{
    Access, AccessError, Decision, Enforcement, Grants, Identity, IdentityId, IdentityKey,
    IdentityName, IdentityNameError, Operation, Question, Quotas, Subject,
};
pub use broker::{Broker, PeerStatus, ServiceStatus, WorkerActivity, WorkerStatus};
pub use contract::{
    Denial, Effect, HeldRequest, Input, LinkId, LinkRole, LookupOutcome, LookupPurpose, Note,
    Outgoing, Page, PeerSource, QueryId, Receipt, RegistrationRefusal, WorkerEnd,
};
pub use counters::{Counters, DropReason, Gauges};
pub use drops::DROPPED_SERVICES_MAX;
pub use pattern::Patterns;
pub use peer::{PeerBytes, PeerId};
pub use refusals::REFUSAL_BURST;
pub use settings::{
    Delivery, Extensions, Minority, OnNoQuorum, ServicePolicy, ServiceRule, Settings,
};
pub use tokens::Seed;
