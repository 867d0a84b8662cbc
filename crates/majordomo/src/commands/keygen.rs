//! `majordomo keygen`: pairs of keys, as files or as manifests.

mod kubernetes;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use mdp_broker::IdentityName;
use mdp_node::{KeyFile, NodeName, SecretKey};
use serde_json::json;

use crate::{
    args::KeygenArgs,
    exit::{Exit, UsageError},
    printer,
};

/// Of a file for everyone, and of one for its owner.
const PUBLIC_MODE: u32 = 0o644;
const SECRET_MODE: u32 = 0o600;

pub(super) fn run(args: &KeygenArgs) -> anyhow::Result<Exit> {
    let Some(name) = args.name.as_deref().filter(|_| !args.kubernetes) else {
        printer::text(&kubernetes::manifests(args.nodes)?)?;
        return Ok(Exit::Ok);
    };
    check_name(name, args.node)?;
    let secret = new_secret()?;
    let public = secret.public();
    let files = Files::of(&args.out, name);
    files.write(name, &secret)?;
    if args.json {
        printer::json(&json!({
            "name": name,
            "public_key": public.to_string(),
            "public_file": files.public,
            "secret_file": files.secret,
        }))?;
    } else {
        let (public_file, secret_file) = (files.public.display(), files.secret.display());
        printer::text(&format!(
            "{public_file}: the public key, to give away: {public}\n\
             {secret_file}: both keys, for {name} alone (mode 0600)"
        ))?;
    }
    Ok(Exit::Ok)
}

fn check_name(name: &str, is_node: bool) -> Result<(), UsageError> {
    let outcome = if is_node {
        name.parse::<NodeName>().map(drop).map_err(|error| error.to_string())
    } else {
        name.parse::<IdentityName>().map(drop).map_err(|error| error.to_string())
    };
    outcome.map_err(|reason| UsageError(format!("{name:?} is no name: {reason}")))
}

fn new_secret() -> anyhow::Result<SecretKey> {
    mdp_node::new_secret_key().context("no random bytes for a key")
}

/// The two files of a pair.
struct Files {
    public: PathBuf,
    secret: PathBuf,
}

impl Files {
    fn of(directory: &Path, name: &str) -> Self {
        let path = |extension| directory.join(format!("{name}.{extension}"));
        Self { public: path("key"), secret: path("key_secret") }
    }

    /// Writes both, or none where one is there already.
    fn write(&self, name: &str, secret: &SecretKey) -> anyhow::Result<()> {
        for file in [&self.public, &self.secret] {
            if file.symlink_metadata().is_ok() {
                return Err(is_there(file).into());
            }
        }
        write(&self.secret, SECRET_MODE, KeyFile::secret_text(name, secret).as_bytes())?;
        write(&self.public, PUBLIC_MODE, KeyFile::public_text(name, &secret.public()).as_bytes())
    }
}

fn is_there(file: &Path) -> UsageError {
    UsageError(format!(
        "{} is there already, and what uses it would be locked out: remove it first, or write to another \
         folder with --out",
        file.display()
    ))
}

fn write(file: &Path, mode: u32, text: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be written", file.display());
    let mut out = match create(file, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(is_there(file).into());
        }
        opened => opened.with_context(cannot)?,
    };
    out.write_all(text).and_then(|()| out.sync_all()).with_context(cannot)
}

fn create(file: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(file)
}
