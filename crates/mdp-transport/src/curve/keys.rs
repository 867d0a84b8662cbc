//! Keys: long-term ones, which have an owner, and short-term ones, which have a connection.

use std::{fmt, sync::Arc};

use thiserror::Error;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{KEY_BYTES, boxes::SharedKey, z85};

/// A public key of Curve25519.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// A secret key of Curve25519. It is overwritten when it is dropped, and never printed.
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

/// What was to be read as a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a CURVE key: 40 characters of Z85 are wanted")]
pub struct NotAKey;

impl PublicKey {
    /// The key of 32 bytes; any are one.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key of 40 characters of Z85 (32/Z85), as key files have it.
    ///
    /// # Errors
    /// The text is none.
    pub fn from_z85(text: &str) -> Result<Self, NotAKey> {
        z85::decode(text).map(|bytes| Self(*bytes)).ok_or(NotAKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z85::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl SecretKey {
    /// The key of 32 bytes; any are one. A new key is made of random ones.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// The key of 40 characters of Z85 (32/Z85), as key files have it.
    ///
    /// # Errors
    /// The text is none.
    pub fn from_z85(text: &str) -> Result<Self, NotAKey> {
        z85::decode(text).map(|bytes| Self::from_bytes(&bytes)).ok_or(NotAKey)
    }

    /// 40 characters of Z85, for a key file. They are overwritten when they are dropped.
    #[must_use]
    pub fn to_z85(&self) -> Zeroizing<String> {
        z85::encode(self.0.as_bytes())
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// Its bytes, for the cookie.
    pub(super) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }

    /// What it has in common with the owner of another secret key. `None`: the public key is one of the
    /// few with which every secret key has the same, known number in common (RFC 7748, 6.1).
    pub(super) fn shared_with(&self, public: &PublicKey) -> Option<SharedKey> {
        let point = x25519_dalek::PublicKey::from(public.0);
        let shared = self.0.diffie_hellman(&point);
        shared.was_contributory().then(|| SharedKey::from_point(shared.as_bytes()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A secret key, and the public one that belongs to it.
#[derive(Clone, Debug)]
pub struct KeyPair {
    pub(super) secret: SecretKey,
    pub(super) public: PublicKey,
}

impl KeyPair {
    /// The public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }
}

impl From<SecretKey> for KeyPair {
    fn from(secret: SecretKey) -> Self {
        Self { public: secret.public(), secret }
    }
}

/// The long-term keys of an accepting side: one, and while it is rotated the next one, too. Which of them
/// a peer knows its HELLO shows.
#[derive(Clone, Debug)]
pub struct ServerKeys(Arc<[KeyPair]>);

impl ServerKeys {
    /// The keys to serve.
    #[must_use]
    pub fn new(current: SecretKey, next: Option<SecretKey>) -> Self {
        Self([current].into_iter().chain(next).map(KeyPair::from).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KeyPair> {
        self.0.iter()
    }
}

/// The long-term keys of a dialling side: its own, and that of the server, which it has to know.
#[derive(Clone, Debug)]
pub struct ClientKeys {
    /// Its own.
    pub own: KeyPair,
    /// The server's.
    pub server: PublicKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_not_printed() {
        let keys = KeyPair::from(SecretKey::from_bytes(&[7; 32]));
        let shown = format!("{keys:?}");
        assert_eq!(
            shown,
            format!("KeyPair {{ secret: SecretKey(..), public: {:?} }}", keys.public)
        );
        assert!(!shown.contains(keys.secret.to_z85().as_str()));
    }

    #[test]
    fn key_pair_of_the_manual_belongs_together() {
        // zmq_curve(7), "TEST KEY VALUES".
        for (public, secret) in [
            (
                "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
                "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
            ),
            (
                "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
                "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6",
            ),
        ] {
            let key = SecretKey::from_z85(secret).unwrap();
            assert_eq!(key.public().to_string(), public);
            assert_eq!(key.to_z85().as_str(), secret);
            assert_eq!(PublicKey::from_z85(public), Ok(key.public()));
        }
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let key = SecretKey::from_bytes(&[7; 32]);
        let one = std::array::from_fn(|at| u8::from(at == 0));
        for point in [[0; 32], one] {
            assert!(key.shared_with(&PublicKey::from_bytes(point)).is_none());
        }
    }
}
