//! Short forms for every day, full numbers for a soak.

use std::env;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much a test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The everyday form.
    Short,
    /// The full numbers: `MAJORDOMO_SOAK=1`.
    Full,
}

impl Scale {
    /// The number for this scale.
    #[must_use]
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// The scale of this run.
#[must_use]
pub fn scale() -> Scale {
    match env::var("MAJORDOMO_SOAK") {
        Ok(value) if value == "1" => Scale::Full,
        _ => Scale::Short,
    }
}

/// Raises the limit of open files, which a child inherits, and stops the test if that is not
/// enough.
pub fn raise_file_limit(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let wanted = limit.maximum.map_or(needed, |maximum| needed.min(maximum));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    assert!(
        wanted >= needed,
        "this test needs {needed} open files and may have only {wanted}: raise the hard limit \
         (ulimit -Hn) and run it again"
    );
}
