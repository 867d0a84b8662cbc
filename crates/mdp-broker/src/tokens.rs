//! Where tokens come from.

use std::fmt;

use mdp_wire::{TOKEN_BYTES, Token};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{RngCore, SeedableRng},
};

/// 256 random bits from outside. The same seed gives the same tokens, so a seed from the system's
/// generator must be used once.
#[derive(Clone, Copy)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A cryptographic generator of tokens, so that no peer can guess one.
pub(crate) struct TokenSource(ChaCha12Rng);

impl TokenSource {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(ChaCha12Rng::from_seed(seed.0))
    }

    pub(crate) fn next(&mut self) -> Token {
        let mut bytes = [0; TOKEN_BYTES];
        self.0.fill_bytes(&mut bytes);
        Token::from_bytes(bytes)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(..)")
    }
}
