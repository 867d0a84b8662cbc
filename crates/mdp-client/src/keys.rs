//! The keys of the connections of one client or worker.

use std::sync::Arc;

use mdp_transport::{ClientKeys, PublicKey, SecretKey};
use thiserror::Error;
use zeroize::Zeroizing;

/// Keys that cannot be used. No error shows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The own key is there, and the broker's is not.
    #[error(
        "there is a key, and no public key of the broker (`server_key`): without it another program could \
         pose as the broker"
    )]
    NoServerKey,
    /// The broker's key is there, and the own one is not.
    #[error(
        "there is a public key of the broker, and no key of this side (`key`): a broker that has keys admits \
         those alone that have one, too"
    )]
    NoKey,
    /// The libzmq of this system cannot encrypt.
    #[error(
        "libzmq of this system was built without CURVE (libsodium), so that keys cannot be used"
    )]
    NotBuiltIn,
}

/// Both keys of every connection; libzmq makes short-term ones out of them.
#[derive(Clone, Debug)]
pub(crate) struct LinkKeys(Arc<ClientKeys>, Arc<SecretKey>);

impl LinkKeys {
    /// The keys of some options; `None`: connections speak NULL.
    pub(crate) fn of(
        key: Option<SecretKey>,
        server_key: Option<PublicKey>,
    ) -> Result<Option<Self>, KeysError> {
        let (key, server) = match (key, server_key) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(KeysError::NoServerKey),
            (None, Some(_)) => return Err(KeysError::NoKey),
            (Some(key), Some(server)) => (key, server),
        };
        // A libzmq that is too old to be asked is too old to have it.
        if zmq::has("curve") != Some(true) {
            return Err(KeysError::NotBuiltIn);
        }
        let own = key.clone().into();
        Ok(Some(Self(Arc::new(ClientKeys { own, server }), Arc::new(key))))
    }

    /// Gives them to a socket that is not connected. libzmq keeps copies until the socket is closed.
    pub(crate) fn set(&self, socket: &zmq::Socket) -> Result<(), zmq::Error> {
        let secret: Zeroizing<String> = self.1.to_z85();
        socket.set_curve_serverkey(self.0.server.as_bytes())?;
        socket.set_curve_publickey(self.0.own.public().as_bytes())?;
        socket.set_curve_secretkey(secret.as_bytes())
    }

    pub(crate) fn client_keys(&self) -> &ClientKeys {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_pairs_or_not_at_all() {
        let (secret, public) =
            (SecretKey::from_bytes(&[7; 32]), SecretKey::from_bytes(&[8; 32]).public());
        assert!(LinkKeys::of(None, None).unwrap().is_none());
        assert_eq!(LinkKeys::of(Some(secret.clone()), None).unwrap_err(), KeysError::NoServerKey);
        assert_eq!(LinkKeys::of(None, Some(public)).unwrap_err(), KeysError::NoKey);
        assert!(LinkKeys::of(Some(secret), Some(public)).unwrap().is_some());
    }

    #[test]
    fn secret_key_is_never_shown() {
        let secret = SecretKey::from_bytes(&[7; 32]);
        let keys = LinkKeys::of(Some(secret.clone()), Some(secret.public())).unwrap().unwrap();
        let options = crate::ClientOptions::default().keys(secret.clone(), secret.public());
        let of_worker = crate::WorkerOptions::default().keys(secret.clone(), secret.public());
        let shown = format!("{keys:?} {options:?} {of_worker:?}");
        assert!(!shown.contains(secret.to_z85().as_str()), "{shown}");
        assert!(shown.contains(&secret.public().to_string()), "{shown}");
    }
}
