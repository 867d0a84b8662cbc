//! Values of flags: read once, with an error that says what is right.

use std::time::Duration;

use clap::{ArgMatches, Command, ValueEnum, error::ErrorKind, parser::ValueSource};

use crate::settings::{parse_client_endpoint, parse_duration, parse_endpoint, parse_size};

/// Below 10 ms the heartbeats of many workers are themselves the load.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);

/// The environment variable that stands for `--endpoint`.
pub(super) const ENDPOINT_VARIABLE: &str = "MAJORDOMO_ENDPOINT";

/// A version of the protocol.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Protocol {
    /// 7/MDP
    #[value(name = "0.1")]
    V01,
    /// 18/MDP
    #[value(name = "0.2")]
    V02,
}

impl From<Protocol> for mdp_wire::Version {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::V01 => Self::V01,
            Protocol::V02 => Self::V02,
        }
    }
}

/// A time with its unit.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "use a time with its unit, such as \"500ms\" or \"5s\"".to_owned())
}

/// The interval of heartbeats.
pub(super) fn heartbeat(text: &str) -> Result<Duration, String> {
    time(text)
        .ok()
        .filter(|time| *time >= HEARTBEAT_MIN)
        .ok_or_else(|| "use a time of at least \"10ms\", such as \"2500ms\"".to_owned())
}

/// A number of bytes.
pub(super) fn size(text: &str) -> Result<usize, String> {
    parse_size(text)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "use a size, such as \"64\" or \"16KiB\"".to_owned())
}

/// An address of a broker for its clients.
pub(super) fn client_endpoint(text: &str) -> Result<String, String> {
    parse_client_endpoint(text).map_err(|wanted| format!("use {wanted}"))
}

/// An address of a node for the others.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    parse_endpoint(text).map_err(|wanted| format!("use {wanted}"))
}

/// Refuses a variable that holds no endpoints, by its name: nothing was typed that an error could
/// repeat.
pub(super) fn check_endpoint_variable(
    program: &mut Command,
    matches: &ArgMatches,
) -> Result<(), clap::Error> {
    let ids: Vec<&str> = matches.ids().map(clap::Id::as_str).collect();
    let is_given =
        ids.contains(&ENDPOINT) && matches.value_source(ENDPOINT) == Some(ValueSource::EnvVariable);
    let values = is_given.then(|| matches.get_raw(ENDPOINT)).flatten();
    for value in values.into_iter().flatten().map(|value| value.to_string_lossy()) {
        if let Err(wanted) = client_endpoint(value.trim()) {
            let reason = format!(
                "the environment variable {ENDPOINT_VARIABLE} has {value:?}, which is not valid: {wanted}; \
                 unset it for the default"
            );
            return Err(program.error(ErrorKind::ValueValidation, reason));
        }
    }
    Ok(())
}

/// The id of `--endpoint`.
const ENDPOINT: &str = "endpoint";
