//! The cookie: the accepting side's short-term secret key, kept by the peer until it comes back.
//!
//! Between WELCOME and INITIATE this side keeps no secret of the connection, only a [`Ticket`]: which cookie
//! it gave away. So a cookie opens on one connection, once. In CurveCP, where there is no connection, an
//! INITIATE that comes twice must be recognized in another way; here a cookie that any connection would take
//! allowed an attacker to play a recorded session once more, and made this side use its numbers twice.

use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    CurveError, KEY_BYTES, PublicKey, SecretKey,
    boxes::{LONG_NONCE_BYTES, SharedKey},
    entropy::Entropy,
    wire::{self, COOKIE_BYTES, COOKIE_PURPOSE, Fields, SEALED_KEYS_BYTES},
};

/// A cookie key seals new cookies for this long.
const SEALS_FOR: Duration = Duration::from_secs(30);
/// And is kept for this long. Who takes over this process later can decrypt no older connection.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Which cookie a connection was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    nonce: [u8; LONG_NONCE_BYTES],
    /// The cookie key.
    key_number: u64,
    /// Which of the server's keys the peer knows.
    pub(super) server_key: PublicKey,
}

/// A cookie key, and which one it is.
#[derive(Clone, Debug)]
pub(super) struct CookieKey {
    number: u64,
    key: SharedKey,
}

/// The cookie keys that there are. Each has a box of its own: what moves is a pointer, and no copy of a key stays
/// where it was.
#[derive(Debug, Default)]
pub(crate) struct CookieKeys {
    made: u64,
    /// The one that seals.
    newest: Option<Box<DatedKey>>,
    /// The one before. When a third one is made, the time of the first is over.
    before: Option<Box<DatedKey>>,
}

#[derive(Debug)]
struct DatedKey {
    made_at: Instant,
    key: CookieKey,
}

const _: () = assert!(KEPT_FOR.as_nanos() <= 2 * SEALS_FOR.as_nanos());

impl CookieKeys {
    /// The key that seals cookies now.
    pub(super) fn sealing(&mut self, now: Instant, entropy: &mut Entropy) -> CookieKey {
        self.forget_old(now);
        if let Some(newest) = &self.newest
            && now.saturating_duration_since(newest.made_at) < SEALS_FOR
        {
            return newest.key.clone();
        }
        self.made += 1;
        let key = SharedKey::from_random(entropy.draw());
        let key = CookieKey { number: self.made, key };
        self.before = self.newest.replace(Box::new(DatedKey { made_at: now, key: key.clone() }));
        key
    }

    /// The key that sealed a cookie, if it is not too old.
    pub(super) fn of(&mut self, now: Instant, ticket: &Ticket) -> Result<CookieKey, CurveError> {
        self.forget_old(now);
        let mut keys = [&self.newest, &self.before].into_iter().flatten();
        let found = keys.find(|dated| dated.key.number == ticket.key_number);
        found.map(|dated| dated.key.clone()).ok_or(CurveError::Cookie)
    }

    /// Overwrites the keys whose time is over.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        for place in [&mut self.newest, &mut self.before] {
            let is_old = |dated: &mut Box<DatedKey>| {
                now.saturating_duration_since(dated.made_at) >= KEPT_FOR
            };
            // Dropping it overwrites it.
            drop(place.take_if(is_old));
        }
    }
}

impl CookieKey {
    /// A cookie with its nonce, and the ticket for it.
    pub(super) fn seal(
        &self,
        client: &PublicKey,
        short_term: &SecretKey,
        nonce: [u8; LONG_NONCE_BYTES],
        server_key: PublicKey,
    ) -> ([u8; COOKIE_BYTES], Ticket) {
        let (key, short) = self.key.for_long_nonce(COOKIE_PURPOSE, &nonce);
        let sealed = wire::seal(&key, short, &[client.as_bytes(), short_term.as_bytes()]);
        let mut cookie = [0; COOKIE_BYTES];
        let filled = nonce.iter().chain(&sealed);
        cookie.iter_mut().zip(filled).for_each(|(byte, value)| *byte = *value);
        (cookie, Ticket { nonce, key_number: self.number, server_key })
    }

    /// The peer's short-term public key, and this side's secret one.
    pub(super) fn open(
        &self,
        ticket: &Ticket,
        cookie: [u8; COOKIE_BYTES],
    ) -> Result<(PublicKey, SecretKey), CurveError> {
        let mut cookie = Zeroizing::new(cookie);
        let (nonce, sealed) = cookie.split_first_chunk_mut().ok_or(CurveError::Cookie)?;
        if !bool::from(nonce.ct_eq(&ticket.nonce)) {
            return Err(CurveError::Cookie);
        }
        let (key, short) = self.key.for_long_nonce(COOKIE_PURPOSE, nonce);
        let text = wire::open(&key, short, sealed).map_err(|_| CurveError::Cookie)?;
        let text: &[u8; SEALED_KEYS_BYTES - 16] =
            (&*text).try_into().map_err(|_| CurveError::Cookie)?;
        let text = Zeroizing::new(*text);
        let mut fields = Fields(text.as_slice());
        let client = PublicKey::from_bytes(fields.take()?);
        let secret = Zeroizing::new(fields.take::<KEY_BYTES>()?);
        Ok((client, SecretKey::from_bytes(&secret)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ticket(key: &CookieKey) -> Ticket {
        let secret = SecretKey::from_bytes(&[3; 32]);
        key.seal(&secret.public(), &secret, [1; 16], secret.public()).1
    }

    #[test]
    fn cookie_key_lives_for_a_minute_at_most() {
        let start = start();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut entropy = Entropy::new(&[0; 8], &[1; 32]);
        let mut keys = CookieKeys::default();
        let first = keys.sealing(at(0), &mut entropy);
        assert_eq!(keys.sealing(at(29), &mut entropy).number, first.number);
        let second = keys.sealing(at(30), &mut entropy);
        assert_ne!(second.number, first.number);
        assert!(keys.of(at(59), &ticket(&first)).is_ok());
        assert_eq!(keys.of(at(60), &ticket(&first)).unwrap_err(), CurveError::Cookie);
        assert!(keys.of(at(60), &ticket(&second)).is_ok());
        keys.forget_old(at(90));
        assert!(keys.newest.is_none() && keys.before.is_none());
    }

    #[test]
    fn cookie_of_another_connection_is_refused() {
        let mut entropy = Entropy::new(&[0; 8], &[1; 32]);
        let key = CookieKeys::default().sealing(start(), &mut entropy);
        let secret = SecretKey::from_bytes(&[3; 32]);
        let server = secret.public();
        let (cookie, own) = key.seal(&secret.public(), &secret, [1; 16], server);
        let (_, other) = key.seal(&secret.public(), &secret, [2; 16], server);
        let (client, opened) = key.open(&own, cookie).unwrap();
        assert_eq!((client, opened.as_bytes()), (secret.public(), secret.as_bytes()));
        assert_eq!(key.open(&other, cookie).unwrap_err(), CurveError::Cookie);
        for at in 0..cookie.len() {
            let mut altered = cookie;
            altered[at] ^= 1;
            assert_eq!(key.open(&own, altered).unwrap_err(), CurveError::Cookie);
        }
    }
}
