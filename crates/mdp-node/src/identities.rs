//! [`IdentityFiles`]: the identities of a directory, a file each, as they are now.
//!
//! | file | says |
//! |---|---|
//! | `NAME.toml` | keys, grants, quotas and end of an identity ([docs/security.md](../../../docs/security.md)) |
//! | `NAME.key` | one more key of that identity, as `majordomo keygen`, czmq and pyzmq write it |
//! | `anonymous.toml` | the grants of peers that show no key, where such peers are let in |
//!
//! A broken file counts as it was when it was right last, and the error names it: a mistake in one file must not keep
//! a key alive whose file was taken away. What changes counts when it was read twice: a file that is being written
//! may mean less, or more, than it will.

mod document;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mdp_broker::{
    Access, AccessError, Enforcement, Grants, Identity, IdentityKey, IdentityName, Quotas,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use self::document::Document;
use crate::{
    key_file::KeyFile,
    secret_file::{self, Visibility},
};

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

impl IdentityFilesError {
    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Files(problems) if problems.is_empty())
    }
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

/// What came of reading a directory again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// What is different from now on; `None`: nothing.
    pub changes: Option<IdentityChanges>,
    /// The files that are wrong. Each counts as it was when it was right last.
    pub problems: Vec<FileProblem>,
    /// Whether something is different that counts if it is so the next time.
    pub is_settling: bool,
}

/// Files by their name.
type Contents = BTreeMap<String, Vec<u8>>;
/// What is wrong with files, by their name.
type Problems = BTreeMap<String, String>;

/// The identities of a directory.
#[derive(Debug)]
pub struct IdentityFiles {
    directory: PathBuf,
    enforcement: Enforcement,
    /// What counts.
    contents: Contents,
    /// What was read last, and what was wrong with it.
    seen: (Contents, Problems),
    access: Arc<Access>,
}

impl IdentityFiles {
    /// Reads a directory.
    ///
    /// # Errors
    /// It can not be read, or a file is wrong, or two contradict each other.
    pub fn load(directory: &Path, enforcement: Enforcement) -> Result<Self, IdentityFilesError> {
        let (contents, mut problems) = read_all(directory)?;
        let (understood, wrong) = understand(&contents);
        problems.extend(wrong);
        if !problems.is_empty() {
            return Err(IdentityFilesError::Files(problems_of(directory, &problems)));
        }
        let access = understood.access(&Access::default(), directory, enforcement)?;
        let seen = (contents.clone(), problems);
        let directory = directory.to_owned();
        Ok(Self { directory, enforcement, contents, seen, access: Arc::new(access) })
    }

    /// Reads it again.
    ///
    /// # Errors
    /// It can not be read, or two files contradict each other: all stays as it was.
    pub fn reload(&mut self) -> Result<Reload, IdentityFilesError> {
        let read = read_all(&self.directory)?;
        let is_settling = read != self.seen;
        self.seen = read;
        let (mut contents, mut problems) = self.seen.clone();
        let (_, wrong) = understand(&contents);
        problems.extend(wrong);
        for file in problems.keys() {
            match self.contents.get(file) {
                Some(content) => contents.insert(file.clone(), content.clone()),
                None => contents.remove(file),
            };
        }
        let mut reload = Reload {
            problems: problems_of(&self.directory, &problems),
            is_settling: is_settling && contents != self.contents,
            changes: None,
        };
        if contents == self.contents || is_settling {
            return Ok(reload);
        }
        let (understood, _) = understand(&contents);
        let access = understood.access(&self.access, &self.directory, self.enforcement)?;
        reload.changes = Some(difference(&self.access, &access));
        (self.contents, self.access) = (contents, Arc::new(access));
        Ok(reload)
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

/// Every file of an identity, and those that can not be read.
fn read_all(directory: &Path) -> Result<(Contents, Problems), IdentityFilesError> {
    let failed = |error| IdentityFilesError::Directory { directory: directory.to_owned(), error };
    let (mut contents, mut problems) = (Contents::new(), Problems::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // Kubernetes keeps the files of a Secret in hidden directories, and links to them.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let file = directory.join(name);
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("toml" | "key") => {}
            Some("key_secret") => {
                let reason = "a secret key does not belong here: leave it where its owner runs, and give \
                              away NAME.key";
                problems.insert(name.to_owned(), reason.to_owned());
                continue;
            }
            _ => continue,
        }
        if contents.len() + problems.len() >= FILES_MAX {
            return Err(IdentityFilesError::TooMany { directory: directory.to_owned() });
        }
        match read_file(&file) {
            Ok(content) => {
                contents.insert(name.to_owned(), content);
            }
            Err(reason) => {
                problems.insert(name.to_owned(), reason);
            }
        }
    }
    Ok((contents, problems))
}

/// Reads a file that says who may do what: no user but its owner's group may change it.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let content = secret_file::read(path, Visibility::Protected, FILE_BYTES_MAX);
    content.map(|content| content.to_vec()).map_err(|error| error.to_string())
}

fn problems_of(directory: &Path, problems: &Problems) -> Vec<FileProblem> {
    let problem = |(file, reason): (&String, &String)| FileProblem {
        file: directory.join(file),
        reason: reason.clone(),
    };
    problems.iter().map(problem).collect()
}

/// What the right files say.
struct Understood {
    identities: Vec<Identity>,
    anonymous: Option<Grants>,
}

impl Understood {
    fn access(
        self,
        before: &Access,
        directory: &Path,
        enforcement: Enforcement,
    ) -> Result<Access, IdentityFilesError> {
        Access::new(before, self.identities, self.anonymous, enforcement).map_err(|error| {
            IdentityFilesError::Together { directory: directory.to_owned(), error }
        })
    }
}

fn understand(contents: &Contents) -> (Understood, Problems) {
    let (mut documents, mut problems) = (BTreeMap::<String, Document>::new(), Problems::new());
    let mut anonymous = None;
    for (file, content) in contents {
        let (stem, extension) = file.rsplit_once('.').unwrap_or((file, ""));
        let outcome = match (stem, extension) {
            (ANONYMOUS, "toml") => {
                grants_of_anonymous(content).map(|grants| anonymous = Some(grants))
            }
            (ANONYMOUS, _) => Err(WITHOUT_KEYS.to_owned()),
            (_, "toml") => add_document(documents.entry(stem.to_owned()).or_default(), content),
            _ => add_key(documents.entry(stem.to_owned()).or_default(), content),
        };
        if let Err(reason) = outcome {
            problems.insert(file.clone(), reason);
        }
    }
    let mut identities = Vec::with_capacity(documents.len());
    for (name, document) in documents {
        match identity(&name, document) {
            Ok(identity) => identities.push(identity),
            Err(reason) => {
                let files = [format!("{name}.toml"), format!("{name}.key")];
                let files = files.into_iter().filter(|file| contents.contains_key(file));
                problems.extend(files.map(|file| (file, reason.clone())));
            }
        }
    }
    (Understood { identities, anonymous }, problems)
}

fn text(content: &[u8]) -> Result<&str, String> {
    str::from_utf8(content).map_err(|_| "it is no text in UTF-8".to_owned())
}

/// What is wrong where the grants of peers without a key say more than grants.
const WITHOUT_KEYS: &str = "anonymous is for peers without a key, so it has no keys, no not_after and no quotas (broker.* has \
                            limits for all peers); an identity needs another name";

fn grants_of_anonymous(content: &[u8]) -> Result<Grants, String> {
    let document = document::parse(text(content)?)?;
    let has_grants_only = document.keys.is_empty()
        && document.not_after.is_none()
        && document.quotas == Quotas::default();
    if has_grants_only { Ok(document.grants) } else { Err(WITHOUT_KEYS.to_owned()) }
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
