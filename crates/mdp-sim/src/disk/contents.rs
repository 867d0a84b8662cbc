//! The bytes of a disk: as processes see them, and as they are after a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::Unsynced;
use crate::Rng;

/// So much is written at once or not at all.
const SECTOR_BYTES: usize = 512;
/// A disk that is said to be full takes no file beyond its length then.
const BITS_FLIPPED_MAX: u64 = 3;

/// All files.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: BTreeMap<String, File>,
}

/// One file, twice.
#[derive(Debug, Default)]
struct File {
    /// As processes see it.
    current: Vec<u8>,
    /// As it would be after a crash that loses all.
    durable: Vec<u8>,
    /// Sectors that may differ.
    dirty: BTreeSet<usize>,
    /// Whether its name survives a crash.
    is_named: bool,
}

impl Contents {
    pub(super) fn open(&mut self, name: &str) {
        self.files.entry(name.to_owned()).or_default();
    }

    pub(super) fn sync_names(&mut self) {
        for file in self.files.values_mut() {
            file.is_named = true;
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn len(&mut self, name: &str) -> io::Result<usize> {
        Ok(self.file(name)?.current.len())
    }

    pub(super) fn set_len(&mut self, name: &str, len: usize) -> io::Result<()> {
        let file = self.file(name)?;
        let (from, to) = (file.current.len().min(len), file.current.len().max(len));
        file.current.resize(len, 0);
        file.mark(from, to);
        Ok(())
    }

    pub(super) fn read_at(&mut self, name: &str, at: usize, out: &mut [u8]) -> io::Result<()> {
        let file = self.file(name)?;
        let found = file.current.get(at..at.saturating_add(out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write_at(&mut self, name: &str, at: usize, data: &[u8]) -> io::Result<()> {
        let file = self.file(name)?;
        let end = at + data.len();
        if file.current.len() < end {
            file.current.resize(end, 0);
        }
        file.current[at..end].copy_from_slice(data);
        file.mark(at, end);
        Ok(())
    }

    pub(super) fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.keep_all();
        Ok(())
    }

    /// The system gives up writing these sectors, and takes them for clean.
    pub(super) fn fail_to_sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.dirty.clear();
        Ok(())
    }

    pub(super) fn crash(&mut self, unsynced: Unsynced, rng: &mut Rng) {
        for file in self.files.values_mut() {
            match unsynced {
                Unsynced::Lost => {}
                Unsynced::Torn => file.keep_some(rng),
                Unsynced::Kept => file.keep_all(),
            }
            file.dirty.clear();
            file.current.clone_from(&file.durable);
        }
        self.files.retain(|_, file| {
            file.is_named |=
                unsynced == Unsynced::Kept || (unsynced == Unsynced::Torn && rng.chance(500));
            file.is_named
        });
    }

    pub(super) fn corrupt(&mut self, rng: &mut Rng) -> Option<String> {
        let mut files: Vec<_> =
            self.files.iter_mut().filter(|(_, f)| !f.durable.is_empty()).collect();
        let at = rng.below(files.len());
        let (name, file) = files.get_mut(at)?;
        let mut places = Vec::new();
        for _ in 0..rng.between(1, BITS_FLIPPED_MAX) {
            let (byte, bit) = (rng.below(file.durable.len()), rng.below(8));
            file.durable[byte] ^= 1 << bit;
            places.push(byte.to_string());
        }
        file.current.clone_from(&file.durable);
        Some(format!("{name} at {}", places.join(", ")))
    }
}

impl File {
    fn mark(&mut self, from: usize, to: usize) {
        if from < to {
            self.dirty.extend(from / SECTOR_BYTES..=(to - 1) / SECTOR_BYTES);
        }
    }

    fn keep_all(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }

    /// Each sector by itself, and the length.
    fn keep_some(&mut self, rng: &mut Rng) {
        let share = u32::try_from(rng.between(0, 1_000)).unwrap_or(0);
        if rng.chance(500) {
            self.durable.resize(self.current.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if rng.chance(share) {
                self.keep(sector);
            }
        }
    }

    fn keep(&mut self, sector: usize) {
        let from = sector * SECTOR_BYTES;
        let to = (from + SECTOR_BYTES).min(self.current.len()).min(self.durable.len());
        if from < to {
            self.durable[from..to].copy_from_slice(&self.current[from..to]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Contents {
        let mut contents = Contents::default();
        contents.open("a");
        contents.sync_names();
        contents.write_at("a", 0, &[1; 1_024]).unwrap();
        contents.sync("a").unwrap();
        contents.write_at("a", 0, &[2; 1_024]).unwrap();
        contents
    }

    fn read(contents: &mut Contents) -> Vec<u8> {
        let mut bytes = vec![0; contents.len("a").unwrap()];
        contents.read_at("a", 0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn crash_loses_what_was_not_synced() {
        let mut contents = written();
        contents.crash(Unsynced::Lost, &mut Rng::new(1));
        assert_eq!(read(&mut contents), [1; 1_024]);
    }

    #[test]
    fn torn_write_keeps_whole_sectors() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let mut contents = written();
            contents.crash(Unsynced::Torn, &mut Rng::new(seed));
            let bytes = read(&mut contents);
            assert!(bytes[..512].iter().all(|byte| *byte == bytes[0]));
            assert!(bytes[512..].iter().all(|byte| *byte == bytes[512]));
            seen.insert((bytes[0], bytes[512]));
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn what_a_failed_sync_gave_up_is_not_kept_by_the_next() {
        let mut contents = written();
        contents.fail_to_sync("a").unwrap();
        contents.sync("a").unwrap();
        contents.crash(Unsynced::Lost, &mut Rng::new(1));
        assert_eq!(read(&mut contents), [1; 1_024]);
    }

    #[test]
    fn name_that_was_not_synced_is_lost() {
        let mut contents = Contents::default();
        contents.open("a");
        contents.crash(Unsynced::Lost, &mut Rng::new(1));
        assert!(contents.len("a").is_err());
    }
}
