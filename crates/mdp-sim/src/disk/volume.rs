//! The disk as one process sees it.

use std::{any::Any, io, time::Duration};

use mdp_raft::{Volume, VolumeFile};

use super::{Disk, SyncTimes};

/// The volume of one process: it ends with the process, whoever still holds it.
#[derive(Clone, Debug)]
pub(crate) struct MachineVolume {
    disk: Disk,
    process: u64,
}

/// A file of such a volume.
#[derive(Debug)]
struct MachineFile {
    volume: MachineVolume,
    name: String,
}

/// Unlocks the volume when it is dropped.
#[derive(Debug)]
struct Lock(MachineVolume);

impl MachineVolume {
    pub(super) const fn new(disk: Disk, process: u64) -> Self {
        Self { disk, process }
    }
}

impl Volume for MachineVolume {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.disk.with(self.process, |state| {
            if std::mem::replace(&mut state.is_locked, true) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        })?;
        Ok(Box::new(Lock(self.clone())))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn VolumeFile>> {
        self.disk.with(self.process, |state| {
            state.contents.open(name);
            Ok(())
        })?;
        Ok(Box::new(MachineFile { volume: self.clone(), name: name.to_owned() }))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.with(self.process, |state| {
            if state.trouble.fails_to_sync {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            state.contents.sync_names();
            Ok(())
        })
    }

    fn sync_takes(&self) -> Duration {
        let times = self.disk.with(self.process, |state| {
            let SyncTimes { min, max } = state.times;
            Ok(state.rng.duration(min, max) + state.trouble.slow_by)
        });
        times.unwrap_or_default()
    }
}

/// The errors of a disk.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl VolumeFile for MachineFile {
    fn len(&self) -> io::Result<u64> {
        let len =
            self.volume.disk.with(self.volume.process, |state| state.contents.len(&self.name));
        Ok(len? as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.volume.disk.with(self.volume.process, |state| {
            let len = offset(len)?;
            if state.trouble.is_full && len > state.contents.len(&self.name)? {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            state.contents.set_len(&self.name, len)
        })
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.volume
            .disk
            .with(self.volume.process, |state| state.contents.read_at(&self.name, offset(at)?, out))
    }

    fn write_at(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.volume.disk.with(self.volume.process, |state| {
            // A file system that copies on write needs room for every write.
            if state.trouble.is_full {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            state.contents.write_at(&self.name, offset(at)?, data)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.volume.disk.with(self.volume.process, |state| {
            if state.trouble.fails_to_sync {
                state.contents.fail_to_sync(&self.name)?;
                return Err(io::Error::from_raw_os_error(EIO));
            }
            state.syncs += 1;
            state.contents.sync(&self.name)
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let unlocked = self.0.disk.with(self.0.process, |state| {
            state.is_locked = false;
            Ok(())
        });
        // A later process may have it by now.
        match unlocked {
            Ok(()) | Err(_) => {}
        }
    }
}

fn offset(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
