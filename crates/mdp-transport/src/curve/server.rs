//! The accepting side's part of the handshake, as jobs: each has everything that it needs, and can be done by
//! any thread.
//!
//! | job | scalar multiplications |
//! |---|---|
//! | HELLO | 1 (2 if the peer knows the next key), and 1 of the base point |
//! | INITIATE | 2 |

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{
    CurveError, KEY_BYTES, KeyPair, PublicKey, SecretKey, ServerKeys,
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
    pub(super) cookie_key: Arc<CookieKey>,
    pub(super) random: Zeroizing<HelloRandom>,
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

    /// The server's key that the peer knows, and what that has in common with the peer's short-term key.
    fn open(&self) -> Result<(PublicKey, SharedKey), CurveError> {
        for KeyPair { secret, public } in self.keys.iter() {
            // It is one of the few that keep no secret, whichever the other key is.
            let shared = secret.shared_with(&self.hello.client).ok_or(CurveError::Command)?;
            let mut signature = self.hello.signature;
            let key = shared.for_purpose(HELLO_PURPOSE);
            if wire::open(&key, self.hello.nonce, &mut signature).is_ok_and(|text| *text == SIGNED)
            {
                return Ok((*public, shared));
            }
        }
        Err(CurveError::ServerKey)
    }
}

// What it has drawn is secret.
impl fmt::Debug for HelloJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelloJob(..)")
    }
}

/// Reads an INITIATE.
#[derive(Debug)]
pub(crate) struct InitiateJob {
    /// The body of the command.
    pub(super) initiate: Vec<u8>,
    pub(super) ticket: Ticket,
    pub(super) hello_number: u64,
    pub(super) cookie_key: Arc<CookieKey>,
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
        let shared = server_short.shared_with(&client_short).ok_or(CurveError::Initiate)?;
        let text = wire::open(&shared.for_purpose(INITIATE_PURPOSE), *nonce, sealed)
            .map_err(|_| CurveError::Initiate)?;
        let mut fields = Fields(text);
        let client = PublicKey::from_bytes(fields.take()?);
        let vouch = Vouch { nonce: fields.take()?, sealed: fields.take()? };
        let vouched = vouch.open(&client, &server_short)?;
        if vouched != [client_short, self.ticket.server_key] {
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
        let shared = server_short.shared_with(client).ok_or(CurveError::Vouch)?;
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
mod tests {
    use super::*;
    use crate::curve::{ClientKeys, cookie::CookieKeys, entropy::Entropy};

    fn secret(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; KEY_BYTES])
    }

    #[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
    fn hello_job(hello: Hello) -> HelloJob {
        let mut entropy = Entropy::new(&[9; KEY_BYTES]);
        let keys = ServerKeys::new(secret(1), None);
        let cookie_key = CookieKeys::default().sealing(std::time::Instant::now(), &mut entropy);
        HelloJob { hello, keys, cookie_key, random: entropy.draw() }
    }

    /// The HELLO of short-term key 4 for server key 1, whose box contains this.
    fn hello(contents: &[u8; 64]) -> Hello {
        let shared = secret(4).shared_with(&secret(1).public()).unwrap();
        let nonce = 1_u64.to_be_bytes();
        let sealed = wire::seal(&shared.for_purpose(HELLO_PURPOSE), nonce, &[contents]);
        Hello { client: secret(4).public(), nonce, signature: sealed.try_into().unwrap() }
    }

    #[test]
    fn hello_contains_64_zeros() {
        assert!(hello_job(hello(&SIGNED)).run().is_ok());
        for at in [0, 31, 63] {
            let mut contents = SIGNED;
            contents[at] = 1;
            assert_eq!(hello_job(hello(&contents)).run().unwrap_err(), CurveError::ServerKey);
        }
    }

    #[test]
    fn short_term_key_of_small_order_is_no_other_server_key() {
        let small = Hello { client: PublicKey::from_bytes([0; KEY_BYTES]), ..hello(&SIGNED) };
        assert_eq!(hello_job(small).run().unwrap_err(), CurveError::Command);
    }

    /// What an INITIATE claims and proves.
    struct Claim {
        number: u64,
        /// Whose long-term key it names.
        client: u8,
        /// Whose long-term key seals the vouch, and what that says.
        vouched_by: u8,
        vouched: [PublicKey; 2],
    }

    fn honest() -> Claim {
        let vouched = [secret(4).public(), secret(1).public()];
        Claim { number: 2, client: 3, vouched_by: 3, vouched }
    }

    fn outcome(claim: &Claim) -> Result<PublicKey, CurveError> {
        initiate_job(claim).run().map(|established| established.client)
    }

    fn initiate_job(claim: &Claim) -> InitiateJob {
        let job = hello_job(hello(&SIGNED));
        let welcome = job.run().unwrap();
        let shared = secret(4).shared_with(&secret(1).public()).unwrap();
        let mut fields = Fields(welcome.command.strip_prefix(WELCOME).unwrap());
        let nonce = fields.take().unwrap();
        let (key, short) = shared.for_long_nonce(WELCOME_PURPOSE, &nonce);
        let mut sealed = fields.rest().to_vec();
        let mut fields = Fields(wire::open(&key, short, &mut sealed).unwrap());
        let server_short = PublicKey::from_bytes(fields.take().unwrap());
        let cookie: [u8; COOKIE_BYTES] = fields.take().unwrap();

        let vouch_nonce = [7; LONG_NONCE_BYTES];
        let with_server = secret(claim.vouched_by).shared_with(&server_short).unwrap();
        let (key, short) = with_server.for_long_nonce(VOUCH_PURPOSE, &vouch_nonce);
        let vouched = claim.vouched.map(|key| *key.as_bytes());
        let vouch = wire::seal(&key, short, &[&vouched[0], &vouched[1]]);
        let client = secret(claim.client).public();
        let number = claim.number.to_be_bytes();
        let key = secret(4).shared_with(&server_short).unwrap().for_purpose(INITIATE_PURPOSE);
        let sealed = wire::seal(&key, number, &[client.as_bytes(), &vouch_nonce, &vouch]);
        let initiate = [INITIATE, &cookie, &number, &sealed].concat();
        let Welcome { ticket, hello_number, .. } = welcome;
        InitiateJob { initiate, ticket, hello_number, cookie_key: job.cookie_key }
    }

    #[test]
    fn key_counts_only_with_the_word_of_its_owner() {
        let (honest_key, other) = (secret(3).public(), secret(5).public());
        assert_eq!(outcome(&honest()), Ok(honest_key));
        // Who names another's key cannot seal with it.
        let of_another = Claim { client: 5, ..honest() };
        assert_eq!(outcome(&of_another), Err(CurveError::Vouch));
        // A vouch for another connection's key, and one that was made for another server.
        let other_connection = Claim { vouched: [other, secret(1).public()], ..honest() };
        assert_eq!(outcome(&other_connection), Err(CurveError::Vouch));
        let other_server = Claim { vouched: [secret(4).public(), other], ..honest() };
        assert_eq!(outcome(&other_server), Err(CurveError::Vouch));
    }

    #[test]
    fn number_of_an_initiate_is_higher_than_that_of_its_hello() {
        for (number, expected) in [(0, false), (1, false), (2, true), (u64::MAX, true)] {
            let outcome = outcome(&Claim { number, ..honest() });
            let refused = Err(CurveError::Nonce);
            assert_eq!(
                outcome,
                if expected { Ok(secret(3).public()) } else { refused },
                "{number}"
            );
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let job = hello_job(hello(&SIGNED));
        let client = ClientKeys { own: KeyPair::from(secret(3)), server: secret(1).public() };
        let cookie_key = Arc::clone(&job.cookie_key);
        let shown =
            format!("{job:?} {client:?} {cookie_key:?} {:?}", ServerKeys::new(secret(1), None));
        // What was drawn, and the keys, as a derived `Debug` prints bytes.
        let list = |bytes: &[u8]| format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
        for bytes in [&job.random[..8], &[1; 8], &[3; 8]] {
            assert!(!shown.contains(&list(bytes)), "{shown}");
        }
    }
}
