//! The dialling side's part of the handshake. A connection that this side makes is made once: its three
//! scalar multiplications are done at once.

use zeroize::Zeroizing;

use super::{
    ClientKeys, CurveError, KEY_BYTES, KeyPair, PublicKey, SecretKey,
    boxes::{LONG_NONCE_BYTES, SharedKey, TAG_BYTES},
    messages::{Opener, Sealer},
    wire::{
        self, COOKIE_BYTES, Fields, HELLO_PURPOSE, Hello, INITIATE, INITIATE_PURPOSE, READY,
        READY_PURPOSE, SIGNED, VOUCH_PURPOSE, WELCOME, WELCOME_PURPOSE,
    },
};
use crate::Side;

const HELLO_NUMBER: u64 = 1;
const INITIATE_NUMBER: u64 = 2;
/// The short-term secret key, and the nonce of the vouch.
const CLIENT_RANDOM_BYTES: usize = KEY_BYTES + LONG_NONCE_BYTES;

/// A handshake whose WELCOME is awaited.
#[derive(Debug)]
pub(crate) struct ClientHandshake {
    keys: ClientKeys,
    short_term: KeyPair,
    vouch_nonce: [u8; LONG_NONCE_BYTES],
    /// What the short-term key and the server's long-term key have in common.
    shared: SharedKey,
}

impl ClientHandshake {
    /// # Errors
    /// The server's key is none that keeps a secret.
    pub(crate) fn new(
        keys: &ClientKeys,
        random: &[u8; CLIENT_RANDOM_BYTES],
    ) -> Result<Self, CurveError> {
        let mut fields = Fields(random.as_slice());
        let secret = Zeroizing::new(fields.take()?);
        let short_term = KeyPair::from(SecretKey::from_bytes(&secret));
        let shared = short_term.secret.shared_with(&keys.server).ok_or(CurveError::WeakKey)?;
        Ok(Self { keys: keys.clone(), short_term, vouch_nonce: fields.take()?, shared })
    }

    /// The server's long-term key.
    pub(crate) const fn server(&self) -> PublicKey {
        self.keys.server
    }

    /// The body of the first command.
    pub(crate) fn hello(&self) -> Result<Vec<u8>, CurveError> {
        let nonce = HELLO_NUMBER.to_be_bytes();
        let sealed = wire::seal(&self.shared.for_purpose(HELLO_PURPOSE), nonce, &[&SIGNED]);
        let signature = Fields(&sealed).take()?;
        Ok(Hello { client: self.short_term.public, nonce, signature }.encode())
    }

    /// Reads the WELCOME; returns the INITIATE with what this side says of itself, and what follows it.
    pub(crate) fn initiate(
        &self,
        welcome: &[u8],
        metadata: &[u8],
    ) -> Result<(Vec<u8>, AwaitedReady), CurveError> {
        let mut fields = Fields(welcome.strip_prefix(WELCOME).ok_or(CurveError::Command)?);
        let nonce = fields.take()?;
        let mut sealed: [u8; TAG_BYTES + KEY_BYTES + COOKIE_BYTES] = fields.take()?;
        fields.end()?;
        let (key, short) = self.shared.for_long_nonce(WELCOME_PURPOSE, &nonce);
        let text = wire::open(&key, short, &mut sealed).map_err(|_| CurveError::Welcome)?;
        let mut fields = Fields(text);
        let server_short = PublicKey::from_bytes(fields.take()?);
        let cookie: [u8; COOKIE_BYTES] = fields.take()?;

        let own = &self.keys.own;
        let with_own = own.secret.shared_with(&server_short).ok_or(CurveError::WeakKey)?;
        let (key, short) = with_own.for_long_nonce(VOUCH_PURPOSE, &self.vouch_nonce);
        let vouched = [self.short_term.public.as_bytes().as_slice(), self.keys.server.as_bytes()];
        let vouch = wire::seal(&key, short, &vouched);

        let shared =
            self.short_term.secret.shared_with(&server_short).ok_or(CurveError::WeakKey)?;
        let nonce = INITIATE_NUMBER.to_be_bytes();
        let text = [own.public.as_bytes().as_slice(), &self.vouch_nonce, &vouch, metadata];
        let sealed = wire::seal(&shared.for_purpose(INITIATE_PURPOSE), nonce, &text);
        let initiate = [INITIATE, &cookie, &nonce, &sealed].concat();
        Ok((initiate, AwaitedReady { shared }))
    }
}

/// A handshake whose READY is awaited.
#[derive(Debug)]
pub(crate) struct AwaitedReady {
    shared: SharedKey,
}

impl AwaitedReady {
    /// Reads the READY; returns what the server says of itself, and what the traffic is encrypted with.
    pub(crate) fn open(&self, ready: &[u8]) -> Result<(Vec<u8>, Sealer, Opener), CurveError> {
        let mut fields = Fields(ready.strip_prefix(READY).ok_or(CurveError::Command)?);
        let nonce = fields.take()?;
        let mut sealed = fields.rest().to_vec();
        let text = wire::open(&self.shared.for_purpose(READY_PURPOSE), nonce, &mut sealed)
            .map_err(|_| CurveError::Ready)?;
        let sealer = Sealer::new(&self.shared, Side::Dialling, INITIATE_NUMBER);
        let opener = Opener::new(&self.shared, Side::Accepting, u64::from_be_bytes(nonce));
        Ok((text.to_vec(), sealer, opener))
    }
}
