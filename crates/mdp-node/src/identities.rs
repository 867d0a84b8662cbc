//! [`IdentityFiles`]: the identities of a directory, a file each, as they are now.
//!
//! | file | says |
//! |---|---|
//! | `NAME.toml` | keys, grants, quotas and end of an identity ([docs/security.md](../../../docs/security.md)) |
//! | `NAME.key` | one more key of that identity, as `majordomo keygen`, czmq and pyzmq write it |
//! | `anonymous.toml` | the grants of peers that show no key, where such peers are let in |
//!
//! What is broken changes nothing: the state before it stays, and the error names each file that is wrong.

mod document;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use mdp_broker::{Access, AccessError, Enforcement, Grants, Identity, IdentityKey, IdentityName};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use self::document::Document;
use crate::key_file::KeyFile;

/// The longest file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How many files there may be.
const FILES_MAX: usize = 10_000;
/// How many mistakes are told at once.
const PROBLEMS_TOLD_MAX: usize = 20;
/// How much of a digest is shown: enough to tell two states apart.
const DIGEST_BYTES: usize = 8;
/// The file of peers without a key.
const ANONYMOUS: &str = "anonymous";

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Which.
    pub file: PathBuf,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// The identities can not be read.
#[derive(Debug, Error)]
pub enum IdentityFilesError {
    /// The directory can not be.
    #[error("the directory of identities {} can not be read: {error}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// There are too many files.
    #[error("{} has more than {FILES_MAX} files of identities", directory.display())]
    TooMany {
        /// Which directory.
        directory: PathBuf,
    },
    /// Some files are wrong.
    #[error("{}", list(.0))]
    Files(Vec<FileProblem>),
    /// The files contradict each other.
    #[error("{}: {error}", directory.display())]
    Together {
        /// Which directory.
        directory: PathBuf,
        /// How.
        error: AccessError,
    },
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityChanges {
    /// Identities that were not there before.
    pub added: Vec<IdentityName>,
    /// Those that are not there any more.
    pub removed: Vec<IdentityName>,
    /// Those of which something is different.
    pub changed: Vec<IdentityName>,
    /// Whether the grants of peers without a key are.
    pub anonymous: bool,
}

/// The identities of a directory.
#[derive(Debug)]
pub struct IdentityFiles {
    directory: PathBuf,
    enforcement: Enforcement,
    contents: BTreeMap<String, Vec<u8>>,
    access: Arc<Access>,
}

impl IdentityFiles {
    /// Reads a directory.
    ///
    /// # Errors
    /// It can not be read, or a file is wrong, or two contradict each other.
    pub fn load(directory: &Path, enforcement: Enforcement) -> Result<Self, IdentityFilesError> {
        let contents = read_all(directory)?;
        let nothing = Access::default();
        let access = Arc::new(understand(&nothing, directory, &contents, enforcement)?);
        Ok(Self { directory: directory.to_owned(), enforcement, contents, access })
    }

    /// Reads it again. `None`: nothing is different.
    ///
    /// # Errors
    /// As [`load`](Self::load); all stays as it was.
    pub fn reload(&mut self) -> Result<Option<IdentityChanges>, IdentityFilesError> {
        let contents = read_all(&self.directory)?;
        if contents == self.contents {
            return Ok(None);
        }
        let access = understand(&self.access, &self.directory, &contents, self.enforcement)?;
        let changes = difference(&self.access, &access);
        (self.contents, self.access) = (contents, Arc::new(access));
        Ok(Some(changes))
    }

    /// What the files say.
    #[must_use]
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// Equal at two nodes if their files are, as 16 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, content) in &self.contents {
            // With their lengths: otherwise the end of one could be the beginning of the next.
            for part in [name.as_bytes(), content] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        }
        let mut text = String::new();
        for byte in hash.finalize().iter().take(DIGEST_BYTES) {
            // A String takes everything.
            _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// Every file of an identity, by its name.
fn read_all(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, IdentityFilesError> {
    let failed = |error| IdentityFilesError::Directory { directory: directory.to_owned(), error };
    let (mut contents, mut problems) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // Kubernetes keeps the files of a Secret in hidden directories, and links to them.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let file = directory.join(name);
        let is_meant = match file.extension().and_then(|extension| extension.to_str()) {
            Some("toml" | "key") => true,
            Some("key_secret") => {
                let reason = "a secret key does not belong here: leave it where its owner runs, and give \
                              away NAME.key";
                problems.push(FileProblem { file, reason: reason.to_owned() });
                continue;
            }
            _ => false,
        };
        if !is_meant {
            continue;
        }
        if contents.len() >= FILES_MAX {
            return Err(IdentityFilesError::TooMany { directory: directory.to_owned() });
        }
        match read_file(&file) {
            Ok(content) => {
                contents.insert(name.to_owned(), content);
            }
            Err(reason) => problems.push(FileProblem { file, reason }),
        }
    }
    if problems.is_empty() { Ok(contents) } else { Err(IdentityFilesError::Files(problems)) }
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|error| format!("it can not be read: {error}"))?;
    if u64::try_from(read).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(content)
}

fn understand(
    before: &Access,
    directory: &Path,
    contents: &BTreeMap<String, Vec<u8>>,
    enforcement: Enforcement,
) -> Result<Access, IdentityFilesError> {
    let (mut documents, mut problems) = (BTreeMap::<String, Document>::new(), Vec::new());
    let mut anonymous = None;
    for (file, content) in contents {
        let (stem, extension) = file.rsplit_once('.').unwrap_or((file, ""));
        let outcome = match (stem, extension) {
            (ANONYMOUS, "toml") => {
                grants_of_anonymous(content).map(|grants| anonymous = Some(grants))
            }
            (_, "toml") => add_document(documents.entry(stem.to_owned()).or_default(), content),
            _ => add_key(documents.entry(stem.to_owned()).or_default(), content),
        };
        if let Err(reason) = outcome {
            problems.push(FileProblem { file: directory.join(file), reason });
        }
    }
    let mut identities = Vec::with_capacity(documents.len());
    for (name, document) in documents {
        match identity(&name, document) {
            Ok(identity) => identities.push(identity),
            Err(reason) => problems.push(FileProblem { file: directory.join(name), reason }),
        }
    }
    if !problems.is_empty() {
        return Err(IdentityFilesError::Files(problems));
    }
    Access::new(before, identities, anonymous, enforcement)
        .map_err(|error| IdentityFilesError::Together { directory: directory.to_owned(), error })
}

fn text(content: &[u8]) -> Result<&str, String> {
    str::from_utf8(content).map_err(|_| "it is no text in UTF-8".to_owned())
}

fn grants_of_anonymous(content: &[u8]) -> Result<Grants, String> {
    let document = document::parse(text(content)?)?;
    if document.keys.is_empty() && document.not_after.is_none() {
        return Ok(document.grants);
    }
    Err("it is for peers without a key, so it has no keys and no not_after; an identity needs another name"
        .to_owned())
}

fn add_document(to: &mut Document, content: &[u8]) -> Result<(), String> {
    let mut document = document::parse(text(content)?)?;
    document.keys.append(&mut to.keys);
    *to = document;
    Ok(())
}

fn add_key(to: &mut Document, content: &[u8]) -> Result<(), String> {
    let file = KeyFile::parse(text(content)?).map_err(|error| error.to_string())?;
    if file.secret.is_some() {
        return Err(
            "it has a secret key, which does not belong here: give away NAME.key alone, and \
                    make a new pair if others could read it"
                .to_owned(),
        );
    }
    to.keys.push(IdentityKey(*file.public.as_bytes()));
    Ok(())
}

fn identity(name: &str, document: Document) -> Result<Identity, String> {
    let name: IdentityName =
        name.parse().map_err(|error| format!("{name:?} is no name: {error}"))?;
    let Document { mut keys, grants, quotas, not_after } = document;
    keys.sort_unstable();
    keys.dedup();
    Ok(Identity { name, keys, grants, quotas, not_after })
}

fn difference(before: &Access, after: &Access) -> IdentityChanges {
    let by_name = |access: &Access| -> BTreeMap<IdentityName, Identity> {
        access.identities().map(|identity| (identity.name.clone(), identity.clone())).collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    let mut changes = IdentityChanges {
        anonymous: before.anonymous() != after.anonymous(),
        removed: old.keys().filter(|name| !new.contains_key(*name)).cloned().collect(),
        ..IdentityChanges::default()
    };
    for (name, identity) in new {
        match old.get(&name) {
            None => changes.added.push(name),
            Some(before) if *before != identity => changes.changed.push(name),
            Some(_) => {}
        }
    }
    changes
}

fn list(problems: &[FileProblem]) -> String {
    let told = problems.iter().take(PROBLEMS_TOLD_MAX).map(ToString::to_string);
    let more = problems.len().saturating_sub(PROBLEMS_TOLD_MAX);
    let more = (more > 0).then(|| format!("and {more} more files"));
    told.chain(more).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

#[cfg(test)]
mod tests;
