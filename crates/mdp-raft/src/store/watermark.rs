//! How many commits were promised to somebody, in a small file of its own, which is also the lock
//! on the directory.
//!
//! The number stands inside of the database too, so that a database that went back to an earlier
//! commit is found out. It is written here after each commit and before anybody hears of that
//! commit. It is never newer than what the database had made durable, and does not wait for the
//! disk itself, except when the directory is new: after a power loss it may be older than the
//! database, by what the kernel had not written yet, some seconds. Only a commit of those seconds
//! that the same power loss also damaged, after its sync, would not be missed.
//!
//! It is never torn: its bytes have the same length always, lie in one sector, and are written in
//! place, since the file was given its length, and was synced with its directory, before the
//! database was made. For the same reason it is there whenever the database is: a database without
//! it was tampered with.

use std::io;

use mdp_wire::codec;

use crate::{Volume, VolumeFile, stored, volume::LOCK_FILE};

/// In a directory, the file that is locked, too.
pub(super) const WATERMARK_FILE: &str = LOCK_FILE;

/// More than a watermark ever has, so that bytes too many are seen.
const WATERMARK_BYTES_MAX: usize = 64;

/// The open file.
#[derive(Debug)]
pub(super) struct Watermark {
    file: Box<dyn VolumeFile>,
}

/// What the file says.
#[derive(Debug)]
pub(super) enum Mark {
    /// So many commits were promised.
    Commits(u64),
    /// Nothing that can be read.
    Unreadable(String),
}

impl Watermark {
    /// Opens the file, which is made if it is missing.
    pub(super) fn open(volume: &dyn Volume) -> io::Result<Self> {
        Ok(Self { file: volume.open(WATERMARK_FILE)? })
    }

    pub(super) fn read(&self) -> io::Result<Mark> {
        let mut buffer = [0; WATERMARK_BYTES_MAX];
        let length = usize::try_from(self.file.len()?).unwrap_or(usize::MAX);
        let bytes = buffer.get_mut(..length.min(WATERMARK_BYTES_MAX)).unwrap_or_default();
        self.file.read_at(0, bytes)?;
        if bytes.is_empty() {
            return Ok(Mark::Unreadable("it is missing or empty".to_owned()));
        }
        Ok(match codec::unseal(bytes).and_then(stored::decode_commits) {
            Ok(commits) => Mark::Commits(commits),
            Err(error) => Mark::Unreadable(error.to_string()),
        })
    }

    /// Gives a new file its length, for good.
    pub(super) fn make(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.write(0)?;
        self.file.sync()
    }

    /// Writes without waiting for the disk.
    pub(super) fn write(&self, commits: u64) -> io::Result<()> {
        let bytes = stored::encode_commits(commits).map_err(io::Error::other)?;
        self.file.write_at(0, &codec::seal(bytes))
    }

    /// Waits for the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
