//! The keys of a client or worker, out of their files.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use mdp_client::{KeyFile, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::{args::OwnKeyArgs, exit::UsageError, printer};

/// A key file has 40 characters for each key, and comments.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What everyone on this machine may do with a file.
const WORLD_BITS: u32 = 0o007;

/// Both keys; `None`: no keys are wanted.
///
/// # Errors
/// One file is given without the other, or one of them cannot be used.
pub(super) fn read(args: &OwnKeyArgs) -> Result<Option<(SecretKey, PublicKey)>, UsageError> {
    let (key_file, server_key_file) = match (&args.key, &args.server_key) {
        (None, None) => return Ok(None),
        (Some(key), Some(server_key)) => (key, server_key),
        (Some(_), None) => {
            return Err(wrong(
                "--key needs --server-key, the public key of the brokers: without it another program could \
                 pose as a broker (MAJORDOMO_SERVER_KEY)",
            ));
        }
        (None, Some(_)) => {
            return Err(wrong(
                "--server-key needs --key, the secret key of this client or worker (MAJORDOMO_KEY): majordomo \
                 keygen makes one",
            ));
        }
    };
    let server = load("--server-key", server_key_file)?;
    if server.secret.is_some() {
        printer::warning(&format!(
            "{} has the secret key of the brokers, too: a program that has it can pose as a broker; clients and \
             workers need the public one alone (NAME.key)",
            server_key_file.display()
        ));
    }
    let Some(secret) = load_own(key_file)? else {
        return Err(UsageError(format!(
            "--key {}: the file has a public key alone; use the one with the secret key (NAME.key_secret)",
            key_file.display()
        )));
    };
    Ok(Some((secret, server.public)))
}

/// As a node does with its own key.
fn load_own(file: &Path) -> Result<Option<SecretKey>, UsageError> {
    let secret = load("--key", file)?.secret;
    let mode =
        file.metadata().map_err(|error| unreadable("--key", file, &error))?.permissions().mode();
    if secret.is_some() && mode & WORLD_BITS != 0 {
        return Err(UsageError(format!(
            "--key {}: everyone on this machine may use the file (mode {:04o}): chmod 600 it, and make another key if \
             it was so for long",
            file.display(),
            mode & 0o7777
        )));
    }
    Ok(secret)
}

fn load(option: &str, file: &Path) -> Result<KeyFile, UsageError> {
    let text = text(file).map_err(|error| unreadable(option, file, &error))?;
    KeyFile::parse(&text)
        .map_err(|error| UsageError(format!("{option} {}: {error}", file.display())))
}

/// The whole file, in memory that is overwritten afterwards.
fn text(file: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(file)?;
    let bytes = file.metadata()?.len().min(KEY_FILE_BYTES_MAX);
    // One allocation: what a string leaves behind when it grows is not overwritten.
    let capacity = usize::try_from(bytes).unwrap_or_default().saturating_add(1);
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    file.take(bytes).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(option: &str, file: &Path, error: &io::Error) -> UsageError {
    UsageError(format!("{option} {} cannot be read: {error}", file.display()))
}

fn wrong(reason: &str) -> UsageError {
    UsageError(reason.to_owned())
}
