//! A disk that keeps what was synced, and of the rest what it likes.

mod contents;
mod volume;

use std::{io, sync::Arc, time::Duration};

use self::contents::Contents;
pub(crate) use self::volume::MachineVolume;
use crate::{Rng, shared::Shared};

/// How long a sync takes, from and to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncTimes {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskTrouble {
    /// Writes that make a file longer fail.
    pub(crate) is_full: bool,
    /// Syncs fail, and what they should have kept is not kept by a later one.
    pub(crate) fails_to_sync: bool,
    /// Each sync takes this long on top.
    pub(crate) slow_by: Duration,
}

/// What a crash does to writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// All are lost.
    Lost,
    /// Some sectors are kept, others not: writes are torn.
    Torn,
    /// All happen to be kept: only the process died.
    Kept,
}

/// The disk of one machine, which outlives the machine's processes.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    state: Arc<Shared<State>>,
}

#[derive(Debug)]
struct State {
    contents: Contents,
    trouble: DiskTrouble,
    times: SyncTimes,
    rng: Rng,
    /// Rises with each process: those before can not write any more.
    process: u64,
    is_locked: bool,
    syncs: u64,
}

impl Disk {
    pub(crate) fn new(times: SyncTimes, rng: Rng) -> Self {
        let state = State {
            contents: Contents::default(),
            trouble: DiskTrouble::default(),
            times,
            rng,
            process: 0,
            is_locked: false,
            syncs: 0,
        };
        Self { state: Arc::new(Shared::new(state)) }
    }

    /// The volume as a new process sees it; processes before lose it.
    pub(crate) fn mount(&self) -> MachineVolume {
        let mut state = self.state.lock();
        state.process += 1;
        state.is_locked = false;
        MachineVolume::new(self.clone(), state.process)
    }

    /// The process is gone, and with it what was not synced, as far as `unsynced` says.
    pub(crate) fn crash(&self, unsynced: Unsynced) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.process += 1;
        state.is_locked = false;
        state.contents.crash(unsynced, &mut state.rng);
    }

    /// Everything is gone.
    pub(crate) fn wipe(&self) {
        self.state.lock().contents = Contents::default();
    }

    /// Flips bits of what is durable; says where. No process must have the disk.
    pub(crate) fn corrupt(&self) -> Option<String> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.contents.corrupt(&mut state.rng)
    }

    pub(crate) fn set_trouble(&self, trouble: DiskTrouble) {
        self.state.lock().trouble = trouble;
    }

    pub(crate) fn trouble(&self) -> DiskTrouble {
        self.state.lock().trouble
    }

    fn with<T>(
        &self,
        process: u64,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.process != process {
            return Err(io::Error::other("this process is dead"));
        }
        act(&mut state)
    }
}
