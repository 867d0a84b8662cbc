//! The shapes of load that are compared.

use serde::{Deserialize, Serialize};

use crate::BenchOptions;

/// One shape of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// How many services.
    pub services: usize,
    /// How many workers over all services.
    pub workers: usize,
    /// How many requests are outstanding.
    pub window: usize,
    /// The length of each body in bytes.
    pub body_bytes: usize,
}

const KIB_16: usize = 16 << 10;

/// One worker and one request at a time: latency, and the cost of waking up.
pub const ONE_AT_A_TIME: Scenario = small(1, 1);

/// All workers busy, as many requests waiting.
pub const BUSY: Scenario = small(32, 64);

/// All workers busy, many requests waiting.
pub const CROWDED: Scenario = small(32, 256);

/// As many requests waiting as the Guide's asynchronous client sends before it reads.
pub const QUEUED: Scenario = small(32, 100_000);

/// Many services with one worker each.
pub const MANY_SERVICES: Scenario =
    Scenario { services: 1_000, workers: 1_000, window: 256, body_bytes: 64 };

/// Every shape, in the order of the table.
pub const SCENARIOS: [Scenario; 8] = [
    ONE_AT_A_TIME,
    Scenario { body_bytes: KIB_16, ..ONE_AT_A_TIME },
    BUSY,
    Scenario { body_bytes: KIB_16, ..BUSY },
    CROWDED,
    Scenario { body_bytes: KIB_16, ..CROWDED },
    QUEUED,
    MANY_SERVICES,
];

const fn small(workers: usize, window: usize) -> Scenario {
    Scenario { services: 1, workers, window, body_bytes: 64 }
}

impl Scenario {
    /// The options that make this load.
    pub(crate) fn options(self) -> BenchOptions {
        let Self { services, workers, window, body_bytes } = self;
        BenchOptions { services, workers, window, body_bytes, ..BenchOptions::default() }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { services, workers, window, body_bytes } = self;
        if *services > 1 {
            write!(f, "{services} services, ")?;
        }
        let plural = if *workers == 1 { "" } else { "s" };
        write!(f, "{workers} worker{plural}, window {window}, ")?;
        match body_bytes.is_multiple_of(1_024) {
            true => write!(f, "{} KiB", body_bytes / 1_024),
            false => write!(f, "{body_bytes} B"),
        }
    }
}
