//! `[security]`: the keys and identities of a node's client port, read at its start and again when files change.

mod watch;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mdp_broker::{Access, Enforcement};
use mdp_core::ClientSecurity;
use mdp_transport::{Mechanisms, SecretKey, ServerKeys};
use thiserror::Error;

pub use self::watch::IdentityStatus;
pub(crate) use self::watch::{IdentityReader, IdentityWatch};
use crate::{
    IdentityFiles, IdentityFilesError, KeyFile, KeyFileError, SecretFileError,
    secret_file::{self, Visibility},
};

/// The longest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Which mechanisms the client port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityMode {
    /// NULL and CURVE, told apart by the greeting.
    Mixed,
    /// CURVE only.
    On,
}

/// What a node can be told of its client port's security.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// `security.mode`, but "off".
    pub mode: SecurityMode,
    /// `security.key_file`: the cluster's secret key towards clients and workers.
    pub key_file: PathBuf,
    /// `security.next_key_file`: the one that takes its place; both are served.
    pub next_key_file: Option<PathBuf>,
    /// `security.identities_dir`.
    pub identities_dir: PathBuf,
    /// `security.access`.
    pub enforcement: Enforcement,
}

/// Keys or identities can not be used.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// A key file can not be read, or is no secret.
    #[error("{key} = \"{}\": {error}", path.display())]
    File {
        /// Which key of the configuration names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: SecretFileError,
    },
    /// A key file has no usable key.
    #[error("{key} = \"{}\": {error}", path.display())]
    Key {
        /// Which key of the configuration names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: KeyFileError,
    },
    /// A key file has the public key only.
    #[error("{key} = \"{}\" has no secret key: name the file NAME.key_secret", path.display())]
    NoSecret {
        /// Which key of the configuration names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// The identities can not be read.
    #[error("security.identities_dir: {0}")]
    Identities(IdentityFilesError),
}

/// Keys and identities, as read at the start.
#[derive(Debug)]
pub(crate) struct Loaded {
    mechanisms: Mechanisms,
    identities: IdentityFiles,
}

impl Loaded {
    /// Reads all that a configuration names.
    pub(crate) fn read(config: &SecurityConfig) -> Result<Self, SecurityError> {
        let own = read_secret_key("security.key_file", &config.key_file)?;
        let next = config.next_key_file.as_deref();
        let next = next.map(|path| read_secret_key("security.next_key_file", path)).transpose()?;
        let identities = IdentityFiles::load(&config.identities_dir, config.enforcement)
            .map_err(SecurityError::Identities)?;
        let keys = ServerKeys::new(own, next);
        let null = config.mode == SecurityMode::Mixed;
        Ok(Self { mechanisms: Mechanisms { null, curve: Some(keys) }, identities })
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> Arc<Access> {
        self.identities.access()
    }

    /// What the client port needs, and what goes on reading the files.
    pub(crate) fn into_parts(self, seed: [u8; 32]) -> (ClientSecurity, IdentityFiles) {
        let access = self.access();
        let Self { mechanisms, identities } = self;
        (ClientSecurity { mechanisms, seed, jobs_outside: true, access }, identities)
    }
}

/// Reads the secret key of a key file.
fn read_secret_key(key: &'static str, path: &Path) -> Result<SecretKey, SecurityError> {
    let content = secret_file::read(path, Visibility::Secret, KEY_FILE_BYTES_MAX)
        .map_err(|error| SecurityError::File { key, path: path.to_owned(), error })?;
    // What is no text has no key in it either.
    let text = str::from_utf8(&content).unwrap_or_default();
    let parsed = KeyFile::parse(text).map_err(|error| SecurityError::Key {
        key,
        path: path.to_owned(),
        error,
    })?;
    parsed.secret.ok_or_else(|| SecurityError::NoSecret { key, path: path.to_owned() })
}
