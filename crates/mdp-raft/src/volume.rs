//! Where a node keeps its files: a directory, or what a simulation puts in its place.

use std::{
    any::Any,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{
        DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _,
        PermissionsExt as _,
    },
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

/// Where `mdp-node` puts the socket of the administration if it is not told otherwise.
const ADMIN_SOCKET: &str = "admin.sock";
/// The file that holds the lock on a directory.
pub(crate) const LOCK_FILE: &str = "raft.watermark";
/// The file that holds everything else.
pub(crate) const DATABASE_FILE: &str = "raft.redb";
/// All files of a node.
const FILES: [&str; 2] = [DATABASE_FILE, LOCK_FILE];

/// What others than the owner may do, as bits of a mode.
const OTHERS: u32 = 0o077;
/// The bit of a directory that several users share, such as `/tmp`.
const STICKY: u32 = 0o1000;
/// The mode of directories that are made here.
const DIRECTORY_MODE: u32 = 0o700;
/// The mode of files that are made here.
const FILE_MODE: u32 = 0o600;

/// A directory of this machine, for its owner alone.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory, made if it is missing.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
            match path.parent() {
                None => {}
                Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new("."))?,
                Some(parent) => sync_directory(parent)?,
            }
        }
        // What others keep there, they shall go on reading.
        if holds_nothing_else(path)? {
            tighten(path)?;
        }
        for name in FILES {
            match tighten(&path.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        options.open(self.path.join(name))
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

/// Whether a directory is a node's alone.
fn holds_nothing_else(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        // The administration's socket is the node's, too: one that was killed leaves it.
        if FILES.iter().chain(&[ADMIN_SOCKET]).all(|own| name != *own) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes from others than the owner what they may do: an earlier version left it to the umask.
fn tighten(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let is_shared = mode & STICKY != 0;
    if is_shared || fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)).is_err() {
        let mode = format!("{:04o}", mode & 0o7777);
        tracing::warn!(
            ?path,
            mode,
            "other users can get at the data of this node, and only its owner can change that: chmod go= PATH"
        );
    }
    Ok(())
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");

        let directory = Directory::make(&path).unwrap();
        drop(directory.open(DATABASE_FILE).unwrap());

        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(DATABASE_FILE)), 0o600);
    }

    #[test]
    fn what_an_earlier_version_left_open_is_closed() {
        let parent = tempfile::tempdir().unwrap();
        let (path, file) = (parent.path().join("data"), parent.path().join("data/raft.redb"));
        fs::create_dir(&path).unwrap();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();

        Directory::make(&path).unwrap();

        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
    }

    #[test]
    fn directory_with_something_else_in_it_stays_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("home");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("letter"), "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();

        Directory::make(&path).unwrap();

        assert_eq!(mode(&path), 0o755);
    }

    #[test]
    fn directory_that_users_share_stays_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("shared");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();

        Directory::make(&path).unwrap();

        assert_eq!(mode(&path), 0o1777);
    }
}
