//! Small files that hold secrets: read with a limit, and refused where every user could read them.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};
use thiserror::Error;
use zeroize::Zeroizing;

/// What users without any relation to a file may do with it, as bits of its mode.
const WORLD: u32 = 0o007;

/// The part of it by which they may change it.
const WORLD_WRITES: u32 = 0o002;

/// A file of a secret cannot be used. No error shows what the file has.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It is a folder, a pipe or a device.
    #[error("it is not a file")]
    NotAFile,
    /// Every user of the machine can get at it.
    #[error(
        "every user of this machine can get at it (mode {mode:04o}): chmod o= {}, or defaultMode: 0440 of \
         the volume of a Kubernetes Secret",
        path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Every user of the machine can change it.
    #[error("every user of this machine can change it (mode {mode:04o}): chmod o-w {}", path.display())]
    Writable {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no file of this kind.
    #[error("it has more than {bytes_max} bytes")]
    TooLong {
        /// How many it may have.
        bytes_max: u64,
    },
    /// What it has is something else.
    #[error("{0}")]
    Content(String),
}

/// Reads a file that all may read, such as one of certificates.
///
/// # Errors
/// It cannot be read, is no file, or has more bytes than these.
pub fn read_public_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, SecretFileError> {
    read(path, Visibility::Public, bytes_max).map(|content| content.to_vec())
}

/// Who may be able to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    Secret,
    /// All may read it, and not every user may change it.
    Protected,
    Public,
}

/// Reads a file whole.
pub(crate) fn read(
    path: &Path,
    visibility: Visibility,
    bytes_max: u64,
) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    // A pipe without a writer is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        open(path, flags, Mode::empty()).map_err(|error| SecretFileError::Read(error.into()))?;
    let file = File::from(file);
    // Of the open file: the name may lead to another one by now.
    let metadata = file.metadata().map_err(SecretFileError::Read)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if visibility == Visibility::Secret && mode & WORLD != 0 {
        return Err(SecretFileError::Open { path: path.to_owned(), mode });
    }
    if visibility == Visibility::Protected && mode & WORLD_WRITES != 0 {
        return Err(SecretFileError::Writable { path: path.to_owned(), mode });
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(SecretFileError::Read)?;
    if u64::try_from(content.len()).is_ok_and(|bytes| bytes > bytes_max) {
        return Err(SecretFileError::TooLong { bytes_max });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn file_that_every_user_can_read_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "x").unwrap();
        for (mode, is_secret) in [(0o600, true), (0o440, true), (0o644, false), (0o601, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();

            let secret = read(&path, Visibility::Secret, 1);

            assert_eq!(secret.is_ok(), is_secret, "{mode:o}");
            assert!(read(&path, Visibility::Public, 1).is_ok());
            if let Err(error) = secret {
                let text = error.to_string();
                assert!(text.contains(&format!("chmod o= {}", path.display())), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_small_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let refused = |name| read(&path(name), Visibility::Secret, 3).unwrap_err();
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, path("pipe"), FileType::Fifo, mode, 0).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("long"), "1234").unwrap();
        fs::set_permissions(path("long"), Permissions::from_mode(0o600)).unwrap();

        assert!(matches!(refused("pipe"), SecretFileError::NotAFile));
        assert!(matches!(refused("folder"), SecretFileError::NotAFile));
        assert!(matches!(refused("long"), SecretFileError::TooLong { bytes_max: 3 }));
        assert!(matches!(refused("missing"), SecretFileError::Read(_)));
    }
}
