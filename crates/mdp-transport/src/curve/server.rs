//! The accepting side's part of the handshake, as jobs: each has everything that it needs, and can be done by
//! any thread.
//!
//! | job | scalar multiplications |
//! |---|---|
//! | HELLO | 1 (2 if the peer knows the next key), and 1 of the base point |
//! | INITIATE | 2 |

use std::fmt;

use mdp_mutants::{Mutant, is_on};
use zeroize::Zeroizing;

use super::{
    CurveError, KEY_BYTES, PublicKey, SecretKey, ServerKeys,
    boxes::{LONG_NONCE_BYTES, SharedKey},
    cookie::{CookieKey, Ticket},
    messages::{Opener, Sealer},
    wire::{
        self, COOKIE_BYTES, Fields, HELLO_PURPOSE, Hello, INITIATE, INITIATE_PURPOSE, READY,
        READY_PURPOSE, SEALED_KEYS_BYTES, SIGNED, VOUCH_PURPOSE, WELCOME, WELCOME_BYTES,
        WELCOME_PURPOSE,
    },
};
use crate::Side;

/// The short-term secret key, and two nonces.
type HelloRandom = [u8; KEY_BYTES + 2 * LONG_NONCE_BYTES];

/// Answers a HELLO.
pub(crate) struct HelloJob {
    pub(super) hello: Hello,
    pub(super) keys: ServerKeys,
    pub(super) cookie_key: CookieKey,
    pub(super) random: Zeroizing<HelloRandom>,
}

impl fmt::Debug for HelloJob {
    /// Without the keys and what the short-term one is made of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelloJob").field("hello", &self.hello).finish_non_exhaustive()
    }
}

/// What a HELLO is answered with.
#[derive(Debug)]
pub(crate) struct Welcome {
    /// The body of the command.
    pub(crate) command: Vec<u8>,
    pub(crate) ticket: Ticket,
    /// The number of the HELLO: what follows has a higher one.
    pub(crate) hello_number: u64,
}

impl HelloJob {
    pub(super) fn run(&self) -> Result<Welcome, CurveError> {
        let (server, shared) = self.open()?;
        let mut fields = Fields(self.random.as_slice());
        let short_term = SecretKey::from_bytes(&Zeroizing::new(fields.take()?));
        let (cookie, ticket) =
            self.cookie_key.seal(&self.hello.client, &short_term, fields.take()?, server);
        let nonce = fields.take()?;
        let (key, short) = shared.for_long_nonce(WELCOME_PURPOSE, &nonce);
        let sealed = wire::seal(&key, short, &[short_term.public().as_bytes(), &cookie]);
        let command = [WELCOME, &nonce, &sealed].concat();
        debug_assert_eq!(command.len(), WELCOME_BYTES);
        let hello_number = u64::from_be_bytes(self.hello.nonce);
        Ok(Welcome { command, ticket, hello_number })
    }

    /// The server's key that the peer knows, and what it has in common with the peer's short-term key.
    fn open(&self) -> Result<(PublicKey, SharedKey), CurveError> {
        for server in self.keys.iter() {
            let client = &self.hello.client;
            let shared = server.secret.shared_with(client).ok_or(CurveError::WeakKey)?;
            let mut signature = self.hello.signature;
            let key = shared.for_purpose(HELLO_PURPOSE);
            let Ok(text) = wire::open(&key, self.hello.nonce, &mut signature) else { continue };
            // Only who knows what is in common with this key can have made the box: no other one is meant.
            let is_signed = *text == SIGNED;
            return is_signed.then_some((server.public, shared)).ok_or(CurveError::Command);
        }
        Err(CurveError::ServerKey)
    }
}

/// Reads an INITIATE.
#[derive(Debug)]
pub(crate) struct InitiateJob {
    /// The body of the command.
    pub(super) initiate: Vec<u8>,
    pub(super) ticket: Ticket,
    pub(super) hello_number: u64,
    pub(super) cookie_key: CookieKey,
}

/// A peer that has shown who it is.
#[derive(Debug)]
pub(crate) struct Established {
    /// Its long-term public key.
    pub(crate) client: PublicKey,
    /// What it says of itself: properties as in a READY.
    pub(crate) metadata: Vec<u8>,
    pub(super) shared: SharedKey,
    /// The number of the INITIATE.
    pub(super) number: u64,
}

impl InitiateJob {
    pub(super) fn run(mut self) -> Result<Established, CurveError> {
        let body = self.initiate.as_mut_slice();
        let (name, body) = body.split_at_mut_checked(INITIATE.len()).ok_or(CurveError::Command)?;
        if name != INITIATE {
            return Err(CurveError::Command);
        }
        let (cookie, body) =
            body.split_first_chunk_mut::<COOKIE_BYTES>().ok_or(CurveError::Command)?;
        let (nonce, sealed) = body.split_first_chunk_mut::<8>().ok_or(CurveError::Command)?;
        let number = u64::from_be_bytes(*nonce);
        if number <= self.hello_number {
            return Err(CurveError::Nonce);
        }
        let (client_short, server_short) = self.cookie_key.open(&self.ticket, *cookie)?;
        let shared = server_short.shared_with(&client_short).ok_or(CurveError::WeakKey)?;
        let text = wire::open(&shared.for_purpose(INITIATE_PURPOSE), *nonce, sealed)
            .map_err(|_| CurveError::Initiate)?;
        let mut fields = Fields(text);
        let client = PublicKey::from_bytes(fields.take()?);
        let vouch = Vouch { nonce: fields.take()?, sealed: fields.take()? };
        let vouched = vouch.open(&client, &server_short)?;
        let meant = [client_short, self.ticket.server_key];
        if vouched != meant && !is_on(Mutant::VouchNotChecked) {
            return Err(CurveError::Vouch);
        }
        Ok(Established { client, metadata: fields.rest().to_vec(), shared, number })
    }
}

/// What the owner of the long-term key says: that the short-term key is its own, and which server it talks
/// to. Without that a server could pose towards another one as a client of its own.
struct Vouch {
    nonce: [u8; LONG_NONCE_BYTES],
    sealed: [u8; SEALED_KEYS_BYTES],
}

impl Vouch {
    /// The short-term key, and the server's.
    fn open(
        mut self,
        client: &PublicKey,
        server_short: &SecretKey,
    ) -> Result<[PublicKey; 2], CurveError> {
        let shared = server_short.shared_with(client).ok_or(CurveError::WeakKey)?;
        let (key, short) = shared.for_long_nonce(VOUCH_PURPOSE, &self.nonce);
        let text = wire::open(&key, short, &mut self.sealed).map_err(|_| CurveError::Vouch)?;
        let mut fields = Fields(text);
        Ok([PublicKey::from_bytes(fields.take()?), PublicKey::from_bytes(fields.take()?)])
    }
}

/// The number of this side's READY: it is the first command with one.
const READY_NUMBER: u64 = 1;

impl Established {
    /// The READY, whose text are the properties of this side, and what the traffic is encrypted with.
    pub(crate) fn ready(&self, metadata: &[u8]) -> (Vec<u8>, Sealer, Opener) {
        let nonce = READY_NUMBER.to_be_bytes();
        let sealed = wire::seal(&self.shared.for_purpose(READY_PURPOSE), nonce, &[metadata]);
        let sealer = Sealer::new(&self.shared, Side::Accepting, READY_NUMBER);
        let opener = Opener::new(&self.shared, Side::Dialling, self.number);
        ([READY, &nonce, &sealed].concat(), sealer, opener)
    }
}

#[cfg(test)]
mod tests;
