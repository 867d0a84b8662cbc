//! What a client shows a node, and which nodes it trusts: files that were typed or that the environment names.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use mdp_node::{SecretFileError, read_tokens};
use rustls::crypto::ring;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use zeroize::Zeroizing;

use super::{AdminError, target::variable};

const TOKEN_FLAG: &str = "--token-file";
const TOKEN_VARIABLE: &str = "MAJORDOMO_TOKEN_FILE";
const CA_FLAG: &str = "--ca-file";
const CA_VARIABLE: &str = "MAJORDOMO_CA_FILE";
/// The longest file of certificates; that of a system has about 220 KiB.
const CA_FILE_BYTES_MAX: u64 = 4 << 20;

/// A token, ready to be sent.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    /// The first token of the file that was typed or that the environment names; `None`: neither is.
    pub(super) fn read(typed: Option<&Path>) -> Result<Option<Self>, AdminError> {
        let Some((origin, path)) = named(typed, TOKEN_FLAG, TOKEN_VARIABLE) else {
            return Ok(None);
        };
        let tokens = read_tokens(&path);
        let tokens = tokens.map_err(|error| AdminError::File { origin, path, error })?;
        let bearer =
            |token: &Zeroizing<String>| Self(Zeroizing::new(format!("Bearer {}", **token)));
        Ok(tokens.first().map(bearer))
    }

    /// What stands in the header of a request.
    pub(super) fn bearer(&self) -> &str {
        &self.0
    }
}

/// No token is shown.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// How to speak TLS with those whom the certificates of the file that was typed, or that the environment names,
/// vouch for; `None`: neither is.
pub(super) fn certificates(typed: Option<&Path>) -> Result<Option<TlsConfig>, AdminError> {
    let Some((origin, path)) = named(typed, CA_FLAG, CA_VARIABLE) else { return Ok(None) };
    let certificates = read_certificates(&path);
    let certificates = certificates.map_err(|error| AdminError::File { origin, path, error })?;
    let config = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::from(certificates));
    Ok(Some(config.build()))
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>, SecretFileError> {
    let pem = mdp_node::read_public_file(path, CA_FILE_BYTES_MAX)?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        let reason = "it has no certificate in PEM (-----BEGIN CERTIFICATE-----)";
        return Err(SecretFileError::Content(reason.to_owned()));
    }
    Ok(certificates)
}

/// The file that was typed, or that the environment names, and by what.
fn named(
    typed: Option<&Path>,
    flag: &'static str,
    variable_name: &'static str,
) -> Option<(&'static str, PathBuf)> {
    let typed = typed.map(|path| (flag, path.to_owned()));
    typed.or_else(|| variable(variable_name).map(|path| (variable_name, path.into())))
}
