//! How the program ends: one code for each kind of end.

use std::{io, process::ExitCode};

use mdp_bench::BenchError;
use mdp_client::{CallError, ConnectError, EndpointError, ServiceNameError, WorkerError};
use mdp_node::{
    AdminFileError, AdminPortError, IdentityFilesError, NodeError, StartError, Stop, StorageError,
};

use crate::{admin::AdminError, settings::Problems};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok,
    /// Something failed.
    Failure,
    /// What was typed or configured is wrong, or the address is in use.
    Usage,
    /// No reply came.
    NoReply,
    /// The data directory cannot be used.
    Storage,
    /// A newer version of the program is needed.
    Version,
    /// The node was removed from its cluster, or another process took over its name.
    Superseded,
}

impl Exit {
    /// The code that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NoReply => 3,
            Self::Storage => 4,
            Self::Version => 5,
            Self::Superseded => 6,
        }
    }

    /// How the program ends after this error.
    pub(crate) fn after(error: &anyhow::Error) -> Self {
        let of_cause = |cause: &(dyn std::error::Error + 'static)| {
            let usage = cause.is::<Problems>()
                || cause.is::<EndpointError>()
                || cause.is::<ServiceNameError>()
                || cause.is::<IdentityFilesError>()
                || cause.is::<AdminFileError>()
                || cause.is::<UsageError>();
            if usage {
                return Some(Self::Usage);
            }
            None.or_else(|| cause.downcast_ref().map(Self::after_call))
                .or_else(|| cause.downcast_ref().map(Self::after_start))
                .or_else(|| cause.downcast_ref().map(Self::after_storage))
                .or_else(|| cause.downcast_ref().map(Self::after_node))
                .or_else(|| cause.downcast_ref().map(Self::after_admin))
                .or_else(|| cause.downcast_ref().map(Self::after_admin_port))
                .or_else(|| cause.downcast_ref().map(Self::after_connect))
                .or_else(|| cause.downcast_ref().map(Self::after_work))
                .or_else(|| cause.downcast_ref().map(Self::after_bench))
        };
        error.chain().find_map(of_cause).unwrap_or(Self::Failure)
    }

    fn after_call(error: &CallError) -> Self {
        match error {
            CallError::NoReply { .. }
            | CallError::MayHaveBeenExecuted { .. }
            | CallError::Unreachable { .. }
            | CallError::NoWorker { .. }
            | CallError::NotAllowed { .. }
            | CallError::Interrupted { .. } => Self::NoReply,
            CallError::InvalidService(_) | CallError::RequestTooLarge { .. } => Self::Usage,
            CallError::ReplyTooLarge { .. }
            | CallError::PartsNotTaken { .. }
            | CallError::Socket(_)
            | CallError::Closed
            | _ => Self::Failure,
        }
    }

    fn after_start(error: &StartError) -> Self {
        match error {
            StartError::Storage(error) => Self::after_storage(error),
            StartError::Address { .. }
            | StartError::BindCount { .. }
            | StartError::AdvertiseNowhere { .. }
            | StartError::AddressInUse(_)
            | StartError::Bind(_)
            | StartError::Security(_)
            | StartError::NodeKeys(_) => Self::Usage,
            StartError::FileLimit { .. } | StartError::Catalog(_) | StartError::System { .. } => {
                Self::Failure
            }
        }
    }

    const fn after_storage(error: &StorageError) -> Self {
        match error {
            StorageError::Newer { .. } => Self::Version,
            StorageError::Locked { .. }
            | StorageError::ForeignNode { .. }
            | StorageError::Corrupt { .. }
            | StorageError::Io { .. } => Self::Storage,
        }
    }

    const fn after_node(error: &NodeError) -> Self {
        match error {
            NodeError::Cluster(Stop::Superseded { .. } | Stop::Removed) => Self::Superseded,
            NodeError::Cluster(Stop::Storage { .. } | Stop::ForeignCluster { .. }) => Self::Storage,
            NodeError::Cluster(Stop::Version { .. }) => Self::Version,
            NodeError::Cluster(Stop::Fatal { .. })
            | NodeError::BrokerThread(_)
            | NodeError::Panicked
            | NodeError::Stopped => Self::Failure,
        }
    }

    fn after_admin(error: &AdminError) -> Self {
        if error.is_usage() {
            Self::Usage
        } else if error.is_no_answer() {
            Self::NoReply
        } else {
            Self::Failure
        }
    }

    fn after_admin_port(error: &AdminPortError) -> Self {
        if error.is_configuration() { Self::Usage } else { Self::Failure }
    }

    fn after_connect(error: &ConnectError) -> Self {
        match error {
            ConnectError::Endpoint(_) | ConnectError::NoAttempts | ConnectError::Keys(_) => {
                Self::Usage
            }
            ConnectError::Thread(_) | _ => Self::Failure,
        }
    }

    fn after_work(error: &WorkerError) -> Self {
        match error {
            WorkerError::Endpoint(_)
            | WorkerError::InvalidService(_)
            | WorkerError::ReservedService { .. }
            | WorkerError::ConcurrencyOutOfRange { .. }
            | WorkerError::Keys(_)
            | WorkerError::NoHeartbeat => Self::Usage,
            WorkerError::Socket(_) | WorkerError::Thread(_) | WorkerError::Panicked | _ => {
                Self::Failure
            }
        }
    }

    fn after_bench(error: &BenchError) -> Self {
        match error {
            BenchError::Zero { .. }
            | BenchError::TooFewWorkers { .. }
            | BenchError::BodyTooShort { .. }
            | BenchError::KeysWithoutLibzmq
            | BenchError::JobTooLong { .. }
            | BenchError::WindowTooLarge => Self::Usage,
            BenchError::Unreachable { .. } => Self::NoReply,
            BenchError::FileLimit { .. }
            | BenchError::NotServing { .. }
            | BenchError::NothingMeasured { .. }
            | BenchError::Lost { .. }
            | BenchError::Socket(_)
            | BenchError::Poll(_)
            | BenchError::Process { .. }
            | BenchError::WorkersGone => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Something typed that the argument parser alone cannot refuse.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Whether the reader of our output has gone away, as `head` does: no reason to complain.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_broken)
}
