//! What the administration port asks for and shows: tokens and a certificate, from files that are read again
//! when they change.
//!
//! They are looked at again and again, for Kubernetes changes a Secret by a link to another folder.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    tls::Certificate,
    token::{self, Tokens},
};
use crate::secret_file::SecretFileError;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

const TOKEN_FILE: &str = "admin.token_file";
const READ_TOKEN_FILE: &str = "admin.read_token_file";
pub(super) const CERT_FILE: &str = "admin.cert_file";
pub(super) const KEY_FILE: &str = "admin.key_file";

/// A file of the administration port cannot be used.
#[derive(Debug, Error)]
#[error("{key} = \"{}\" cannot be used: {error}", path.display())]
pub struct AdminFileError {
    key: &'static str,
    path: PathBuf,
    error: SecretFileError,
}

impl AdminFileError {
    pub(super) fn new(key: &'static str, path: &Path, error: SecretFileError) -> Self {
        Self { key, path: path.to_owned(), error }
    }
}

/// The files, by their keys; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminFiles {
    /// `admin.token_file`.
    pub token: Option<PathBuf>,
    /// `admin.read_token_file`.
    pub read_token: Option<PathBuf>,
    /// `admin.cert_file` and `admin.key_file`.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// What was read from the files. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AdminSecrets(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    files: AdminFiles,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    token: Watched<Tokens>,
    read_token: Watched<Tokens>,
    certificate: Watched<Certificate>,
}

/// What a file said when it could be used last, and why it cannot be used now.
#[derive(Clone, Debug)]
struct Watched<T> {
    value: Option<T>,
    complaint: Option<String>,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self { value: None, complaint: None }
    }
}

/// What a request may do by what it presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Change,
    Read {
        /// Whether it presents a token for that; else pages need none.
        by_token: bool,
    },
    Nothing,
}

impl AdminSecrets {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(files: AdminFiles) -> Result<Self, AdminFileError> {
        let state = State {
            token: Watched::of(tokens(TOKEN_FILE, files.token.as_deref())?),
            read_token: Watched::of(tokens(READ_TOKEN_FILE, files.read_token.as_deref())?),
            certificate: Watched::of(certificate(&files, None)?),
        };
        Ok(Self(Arc::new(Shared { files, state: Mutex::new(state) })))
    }

    /// Whether there is a certificate, which then is there for good.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.0.files.certificate.is_some()
    }

    /// How many files cannot be used as they are now, so that what they said before counts.
    pub(super) fn stale(&self) -> usize {
        let state = self.lock();
        let complaints =
            [&state.token.complaint, &state.read_token.complaint, &state.certificate.complaint];
        complaints.into_iter().filter(|complaint| complaint.is_some()).count()
    }

    /// What a handshake needs; `None`: there is no certificate.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.lock().certificate.value.as_ref().map(|certificate| Arc::clone(&certificate.config))
    }

    /// What a request with these headers may do. What needs no token, it may do in any case.
    pub(super) fn permission(&self, headers: &HeaderMap) -> Permission {
        let presented = token::presented(headers);
        let state = self.lock();
        let (change, read) = (state.token.value.clone(), state.read_token.value.clone());
        drop(state);
        let is_in = |tokens: &Option<Tokens>| {
            let both = tokens.as_ref().zip(presented);
            both.is_some_and(|(tokens, presented)| tokens.contain(presented))
        };
        // Both are compared in any case: how long it takes says nothing.
        let (may_change, may_read) = (is_in(&change), is_in(&read));
        if change.is_none() || may_change {
            Permission::Change
        } else if may_read {
            Permission::Read { by_token: true }
        } else if read.is_none() {
            Permission::Read { by_token: false }
        } else {
            Permission::Nothing
        }
    }

    /// Looks at the files again and again. Must be run inside of a tokio runtime with time.
    pub(super) async fn watch(self) {
        if self.0.files == AdminFiles::default() {
            return std::future::pending().await;
        }
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let secrets = self.clone();
            // A file system may take its time, and the runtime has more to do.
            if let Err(error) = tokio::task::spawn_blocking(move || secrets.look()).await {
                tracing::error!(%error, "the files of the administration port cannot be looked at");
            }
        }
    }

    /// Looks at the files once.
    pub(super) fn look(&self) {
        let files = &self.0.files;
        let token = tokens(TOKEN_FILE, files.token.as_deref());
        let read_token = tokens(READ_TOKEN_FILE, files.read_token.as_deref());
        let before = self.lock().certificate.value.clone();
        let certificate = certificate(files, before.as_ref());
        let mut state = self.lock();
        state.token.update(TOKEN_FILE, token);
        state.read_token.update(READ_TOKEN_FILE, read_token);
        state.certificate.update(CERT_FILE, certificate);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: PartialEq> Watched<T> {
    const fn of(value: Option<T>) -> Self {
        Self { value, complaint: None }
    }

    /// A file that cannot be used is logged once, and what it said before counts on.
    fn update(&mut self, key: &'static str, read: Result<Option<T>, AdminFileError>) {
        match read {
            Ok(value) => {
                if self.value != value {
                    tracing::info!(
                        key,
                        "a file of the administration port is another one: it counts now"
                    );
                }
                *self = Self::of(value);
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(key, "{complaint}; what it said before counts on");
                }
                self.complaint = Some(complaint);
            }
        }
    }
}

fn tokens(key: &'static str, path: Option<&Path>) -> Result<Option<Tokens>, AdminFileError> {
    let Some(path) = path else { return Ok(None) };
    let tokens = Tokens::read(path).map_err(|error| AdminFileError::new(key, path, error))?;
    Ok(Some(tokens))
}

fn certificate(
    files: &AdminFiles,
    before: Option<&Certificate>,
) -> Result<Option<Certificate>, AdminFileError> {
    let Some((certificates, key)) = &files.certificate else { return Ok(None) };
    Certificate::read((certificates, key), before).map(Some)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use axum::http::header;
    use tempfile::TempDir;

    use super::*;

    const CHANGE: &str = "change-change-change";
    const READ: &str = "read-read-read-read";

    fn folder() -> (TempDir, AdminFiles) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        let files =
            AdminFiles { token: path("token"), read_token: path("read_token"), certificate: None };
        write(files.token.as_ref().unwrap(), CHANGE);
        write(files.read_token.as_ref().unwrap(), READ);
        (folder, files)
    }

    fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn permission(secrets: &AdminSecrets, token: &str) -> Permission {
        let value = format!("Bearer {token}").parse().unwrap();
        secrets.permission(&[(header::AUTHORIZATION, value)].into_iter().collect())
    }

    #[test]
    fn token_for_changes_reads_and_that_for_pages_does_not_change() {
        let (_folder, files) = folder();

        let secrets = AdminSecrets::load(files).unwrap();

        assert_eq!(permission(&secrets, CHANGE), Permission::Change);
        assert_eq!(permission(&secrets, READ), Permission::Read { by_token: true });
        assert_eq!(permission(&secrets, "wrong-wrong-wrong"), Permission::Nothing);
        assert_eq!(secrets.permission(&HeaderMap::new()), Permission::Nothing);
    }

    #[test]
    fn pages_are_open_with_a_token_for_changes_alone_and_all_is_without_any() {
        let (_folder, files) = folder();

        let secrets = AdminSecrets::load(AdminFiles { read_token: None, ..files }).unwrap();

        assert_eq!(secrets.permission(&HeaderMap::new()), Permission::Read { by_token: false });
        assert_eq!(permission(&secrets, CHANGE), Permission::Change);
        assert_eq!(AdminSecrets::default().permission(&HeaderMap::new()), Permission::Change);
    }

    #[test]
    fn another_token_counts_from_the_next_look_on() {
        let (_folder, files) = folder();
        let path = files.token.clone().unwrap();
        let secrets = AdminSecrets::load(files).unwrap();

        write(&path, "other-other-other");
        secrets.look();

        assert_eq!(permission(&secrets, "other-other-other"), Permission::Change);
        assert_eq!(permission(&secrets, CHANGE), Permission::Nothing);
    }

    #[test]
    fn file_that_cannot_be_used_changes_nothing_and_is_counted_until_it_can() {
        let (_folder, files) = folder();
        let path = files.token.clone().unwrap();
        let secrets = AdminSecrets::load(files).unwrap();

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        secrets.look();
        assert_eq!((secrets.stale(), permission(&secrets, CHANGE)), (1, Permission::Change));
        fs::remove_file(&path).unwrap();
        secrets.look();
        assert_eq!((secrets.stale(), permission(&secrets, CHANGE)), (1, Permission::Change));
        write(&path, CHANGE);
        secrets.look();

        assert_eq!(secrets.stale(), 0);
    }

    #[test]
    fn file_that_cannot_be_used_at_the_start_is_named_with_its_key() {
        let (_folder, files) = folder();
        let path = files.read_token.clone().unwrap();
        write(&path, "short");

        let error = AdminSecrets::load(files).unwrap_err().to_string();

        let named = format!("admin.read_token_file = \"{}\" cannot be used: ", path.display());
        assert!(error.starts_with(&named) && error.contains("16 to 512 characters"), "{error}");
    }
}
