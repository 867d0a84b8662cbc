//! The limit of open files, for commands that use sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a client or a worker opens at least, with some to spare; with fewer libzmq aborts.
const NEEDED: u64 = 48;

/// Raises the limit, if it may, so far that this many files can be opened besides what is always
/// needed.
///
/// # Errors
/// Not even that can be opened.
pub(crate) fn provide(wanted: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return Ok(()) };
    let wanted = NEEDED.saturating_add(wanted);
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)).max(current);
    let raised = Rlimit { current: Some(reachable), maximum: limit.maximum };
    let provided = if setrlimit(Resource::Nofile, raised).is_ok() { reachable } else { current };
    if provided < NEEDED {
        anyhow::bail!(
            "the limit of open files is {provided}, and at least {NEEDED} are needed: raise it \
             (ulimit -n)"
        );
    }
    Ok(())
}
