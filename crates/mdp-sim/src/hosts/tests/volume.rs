//! A volume in memory.

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mdp_raft::{Volume, VolumeFile};

use crate::shared::Shared;

/// Files that outlive the process that wrote them, and are gone with the test.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryVolume {
    files: Arc<Shared<BTreeMap<String, MemoryFile>>>,
    is_locked: Arc<AtomicBool>,
    sync_nanoseconds: Arc<AtomicU64>,
}

impl MemoryVolume {
    pub(super) fn set_sync_takes(&self, time: Duration) {
        self.sync_nanoseconds.store(u64::try_from(time.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

/// Unlocks the volume.
#[derive(Debug)]
struct Locked(Arc<AtomicBool>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Volume for MemoryVolume {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        if self.is_locked.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Locked(Arc::clone(&self.is_locked))))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn VolumeFile>> {
        Ok(Box::new(self.files.lock().entry(name.to_owned()).or_default().clone()))
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_takes(&self) -> Duration {
        Duration::from_nanos(self.sync_nanoseconds.load(Ordering::Relaxed))
    }
}

#[derive(Clone, Debug, Default)]
struct MemoryFile(Arc<Shared<Vec<u8>>>);

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

impl VolumeFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(size(len), 0);
        Ok(())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock();
        let range = size(offset)..size(offset) + out.len();
        out.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let end = size(offset) + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[size(offset)..end].copy_from_slice(data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
