//! Where a node keeps its files: a directory, or what a simulation puts in its place.

use std::{
    any::Any,
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// A place for the few files of one node.
pub trait Volume: fmt::Debug + Send + Sync + 'static {
    /// Locks the volume for one process, until what this returns is dropped.
    ///
    /// # Errors
    /// `WouldBlock`: another one has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// Opens a file, made empty if it is missing.
    ///
    /// # Errors
    /// The volume refuses.
    fn open(&self, name: &str) -> io::Result<Box<dyn VolumeFile>>;

    /// Makes the names of files durable.
    ///
    /// # Errors
    /// The volume refuses.
    fn sync_names(&self) -> io::Result<()>;

    /// How long writing one batch takes in simulated time, beyond the time that it really takes;
    /// asked for each batch. Zero for real disks.
    fn sync_takes(&self) -> Duration {
        Duration::ZERO
    }
}

/// A file that is read and written in any place.
pub trait VolumeFile: fmt::Debug + Send + Sync + 'static {
    /// How many bytes it has.
    ///
    /// # Errors
    /// The volume refuses, as with all of these.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|bytes| bytes == 0)
    }

    /// Cuts it, or makes it longer with zeros.
    ///
    /// # Errors
    /// The volume refuses.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reads all that there is room for.
    ///
    /// # Errors
    /// `UnexpectedEof`: the file is shorter.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of it; the file grows if it must.
    ///
    /// # Errors
    /// The volume refuses.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes what was written durable, and the length.
    ///
    /// # Errors
    /// The volume refuses; what was not durable before may be lost.
    fn sync(&self) -> io::Result<()>;
}

/// The file that holds the lock on a directory.
pub(crate) const LOCK_FILE: &str = "raft.watermark";

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory, made if it is missing.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
            match path.parent() {
                None => {}
                Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new("."))?,
                Some(parent) => sync_directory(parent)?,
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(self.path.join(name))
    }
}

impl Volume for Directory {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = self.file(LOCK_FILE)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn VolumeFile>> {
        Ok(Box::new(self.file(name)?))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

impl VolumeFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
