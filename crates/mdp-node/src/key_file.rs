//! New keys. How key files are read and written is in `mdp-transport`, for clients and workers read them, too.

use std::{
    fs::File,
    io::{self, Read as _},
};

use mdp_transport::SecretKey;
pub use mdp_transport::{KeyFile, KeyFileError, fingerprint};
use zeroize::Zeroizing;

/// A secret key that no one has: of random bytes of the operating system.
///
/// # Errors
/// There are none.
pub fn new_secret_key() -> io::Result<SecretKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    File::open("/dev/urandom")?.read_exact(bytes.as_mut_slice())?;
    Ok(SecretKey::from_bytes(&bytes))
}
