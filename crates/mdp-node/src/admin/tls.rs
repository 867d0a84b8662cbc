//! TLS: the certificate of the administration port, read from two files.

use std::{path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};

use super::secrets::{AdminFileError, CERT_FILE, KEY_FILE};
use crate::secret_file::{self, SecretFileError, Visibility};

/// The longest file of certificates or of a key.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How many certificates lead from that of the node to its authority.
const CHAIN_MAX: usize = 16;
/// What is spoken behind TLS.
const ALPN: &[u8] = b"http/1.1";

/// What a handshake needs, and which files it was made of.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) config: Arc<ServerConfig>,
    digest: [u8; 32],
}

impl Certificate {
    /// Reads both files. What they said before is taken as it is if they say the same.
    pub(super) fn read(
        (certificates, key): (&Path, &Path),
        before: Option<&Self>,
    ) -> Result<Self, AdminFileError> {
        let of_certificates = |error| AdminFileError::new(CERT_FILE, certificates, error);
        let of_key = |error| AdminFileError::new(KEY_FILE, key, error);
        let read = secret_file::read(certificates, Visibility::Public, FILE_BYTES_MAX);
        let certificates = read.map_err(of_certificates)?;
        let read = secret_file::read(key, Visibility::Secret, FILE_BYTES_MAX);
        let key = read.map_err(of_key)?;
        let digest = Sha256::new().chain_update(Sha256::digest(&certificates)).chain_update(&key);
        let digest = digest.finalize().into();
        if let Some(before) = before.filter(|before| before.digest == digest) {
            return Ok(before.clone());
        }
        let chain = chain(&certificates).map_err(of_certificates)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            let reason = "it has no private key in PEM (-----BEGIN PRIVATE KEY-----)";
            of_key(SecretFileError::Content(reason.to_owned()))
        })?;
        // With a key that is not that of the certificate, too.
        let config = config(chain, key)
            .map_err(|error| of_key(SecretFileError::Content(error.to_string())))?;
        Ok(Self { config: Arc::new(config), digest })
    }
}

/// Equal files are equal certificates.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecretFileError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX + 1).collect();
    match chain {
        Ok(chain) if (1..=CHAIN_MAX).contains(&chain.len()) => Ok(chain),
        Ok(_) | Err(_) => Err(SecretFileError::Content(format!(
            "it must have 1 to {CHAIN_MAX} certificates in PEM (-----BEGIN CERTIFICATE-----), that of the node \
             first"
        ))),
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
