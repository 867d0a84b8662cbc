//! The file of a Unix socket: made, taken over from a process that is gone, removed at the end.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{BindError, binding::is_no_room};

/// How long another program may be busy making its own socket in the same folder.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOCK_LOOK: Duration = Duration::from_millis(5);

/// Where a Unix socket listens, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketPlace<'a> {
    /// The key that it was configured by.
    pub(crate) key: &'static str,
    /// As the key has it.
    pub(crate) address: &'a str,
    pub(crate) path: &'a Path,
    /// Who may connect.
    pub(crate) mode: u32,
    /// How many connections may wait to be accepted.
    pub(crate) backlog_connections: i32,
}

/// A file that is removed when this is dropped, unless another one has come in its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// A socket that listens at this path. A file that a process left there when it was killed is
    /// removed; one at which a program listens is not.
    pub(crate) fn bind(place: &SocketPlace<'_>) -> Result<(UnixListener, Self), BindError> {
        let SocketPlace { key, path, .. } = *place;
        let address = || place.address.to_owned();
        let path_error = |error: io::Error| {
            if is_no_room(&error) {
                BindError::NoSocket { key, address: address(), error }
            } else {
                BindError::Path { key, address: address(), error }
            }
        };
        // Two nodes that start at once must not each remove what the other one has just made. But every
        // program that may read the folder can lock it, and none must keep a node from starting.
        let _lock = match lock_folder(path) {
            Ok(folder) => Some(folder),
            Err(error) if is_no_folder(&error) => return Err(path_error(error)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot lock the folder of a Unix socket");
                None
            }
        };
        match holder_of(path).map_err(path_error)? {
            Holder::Absent => {}
            Holder::Gone => fs::remove_file(path).map_err(path_error)?,
            Holder::Program => {
                return Err(BindError::SocketInUse { key, address: address() });
            }
            Holder::OtherFile => {
                return Err(BindError::NotASocket { key, address: address() });
            }
            Holder::Unknown(error) => {
                return Err(BindError::UnknownSocket { key, address: address(), error });
            }
        }
        listen(place).map_err(path_error)
    }

    /// Whether it is the file at this path.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = self.is_at(&self.path);
        if let Some(Err(error)) = is_own.then(|| fs::remove_file(&self.path)) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

/// Nothing can connect before it listens, and then it has its mode.
fn listen(place: &SocketPlace<'_>) -> io::Result<(UnixListener, SocketFile)> {
    let SocketPlace { path, mode, backlog_connections, .. } = *place;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog_connections)?;
    Ok((socket.into(), file))
}

/// Takes a connection without asking for the peer's address. A peer that bound its own socket to a path of
/// 108 bytes has one that is longer than its structure (unix(7), BUGS), and mio's `accept` panics on it.
pub(crate) fn accept(socket: &impl AsFd) -> io::Result<UnixStream> {
    let stream = accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    Ok(stream.into())
}

/// Who has a path.
enum Holder {
    /// There is no file.
    Absent,
    /// A process that does not listen any more.
    Gone,
    Program,
    OtherFile,
    /// A socket, and the system does not say whose.
    Unknown(io::Error),
}

fn holder_of(path: &Path) -> io::Result<Holder> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Absent),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return Ok(Holder::OtherFile),
        Ok(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Whose queue of connections is full listens, and is not waited for.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(Holder::Program),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Holder::Program),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Holder::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Holder::Absent),
        Err(error) => Ok(Holder::Unknown(error)),
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The folder of a path, which may be the one that this process is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// Holds the folder of a path until what is returned is dropped.
fn lock_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(folder_of(path), flags, Mode::empty())?;
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() > deadline {
                    return Err(io::Error::other("another program holds a lock on it"));
                }
                thread::sleep(LOCK_LOOK);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use rustix::fs::{CWD, FileType, mknodat};
    use tempfile::TempDir;

    use super::*;

    const MODE: u32 = 0o640;

    fn place() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients");
        (folder, path)
    }

    fn bind(
        backlog_connections: i32,
        path: &Path,
    ) -> Result<(UnixListener, SocketFile), BindError> {
        let address = &format!("ipc://{}", path.display());
        let place =
            SocketPlace { key: "broker.bind", address, path, mode: MODE, backlog_connections };
        SocketFile::bind(&place)
    }

    #[test]
    fn file_has_its_mode_and_goes_with_the_listener() {
        let (_folder, path) = place();

        let (listener, file) = bind(1, &path).unwrap();

        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, MODE);
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!fs::exists(&path).unwrap());
    }

    #[test]
    fn file_of_a_process_that_is_gone_is_taken_over() {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());

        let (_listener, _file) = bind(1, &path).unwrap();

        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn file_that_came_in_the_place_of_another_stays() {
        let (folder, path) = place();
        let (_old_listener, old) = bind(1, &path).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let (_listener, _file) = bind(1, &path).unwrap();

        drop(old);

        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn file_at_which_a_program_listens_is_left_alone() {
        let (_folder, path) = place();
        let (_listener, _file) = bind(0, &path).unwrap();
        for _ in 0..3 {
            // Also with a full queue of connections.
            let error = bind(1, &path).unwrap_err();
            assert!(matches!(error, BindError::SocketInUse { .. }), "{error}");
        }
        assert!(fs::exists(&path).unwrap());
    }

    #[test]
    fn file_of_another_kind_is_left_alone() {
        let (_folder, path) = place();
        fs::write(&path, "mine").unwrap();
        let error = bind(1, &path).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

        fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        let error = bind(1, &path).unwrap_err();
        assert!(matches!(error, BindError::UnknownSocket { .. }), "{error}");
        assert!(fs::exists(&path).unwrap());
    }

    #[test]
    fn folder_that_another_program_has_locked_is_used_all_the_same() {
        let (folder, path) = place();
        let locked = fs::File::open(folder.path()).unwrap();
        flock(&locked, FlockOperation::LockShared).unwrap();

        let (_listener, _file) = bind(1, &path).unwrap();

        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn pipe_in_the_place_of_the_folder_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

        let error = bind(1, &pipe.join("clients")).unwrap_err().to_string();

        assert!(error.contains("Not a directory"), "{error}");
    }

    #[test]
    fn missing_folder_is_said() {
        let error = bind(1, Path::new("/no/such/folder/x")).unwrap_err().to_string();
        assert!(error.contains("ipc:///no/such/folder/x"), "{error}");
        assert!(error.contains("No such file") && error.contains("folder must exist"), "{error}");
    }
}
