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
///
/// No byte of a token is zero: workers that keep the client address as a C string (the Guide's in
/// C++ does) give it back whole. 255 values for each of 16 bytes are 127.9 random bits.
pub(crate) struct TokenSource(ChaCha12Rng);

impl Seed {
    /// Random bits for a hash. They say nothing of the tokens, which come from another stream.
    pub(crate) fn hash_key(self) -> u64 {
        let mut rng = ChaCha12Rng::from_seed(self.0);
        rng.set_stream(1);
        rng.next_u64()
    }
}

impl TokenSource {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(ChaCha12Rng::from_seed(seed.0))
    }

    pub(crate) fn next(&mut self) -> Token {
        let mut bytes = [0; TOKEN_BYTES];
        self.0.fill_bytes(&mut bytes);
        for byte in &mut bytes {
            // Drawn again, and not mapped to another value: the others stay equally likely. One
            // byte of 256 needs it, so a second draw for the same byte is as rare as 1 of 65,536.
            while *byte == 0 {
                self.0.fill_bytes(std::slice::from_mut(byte));
            }
        }
        Token::from_bytes(bytes)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: u32 = 1_000_000;

    /// A worker that keeps the address as a C string loses what stands behind a zero byte.
    #[test]
    fn no_token_of_a_million_has_a_zero_byte_and_all_other_bytes_are_equally_likely() {
        let mut source = TokenSource::new(Seed([7; 32]));
        let mut counts = [0_u32; 256];
        for _ in 0..TOKENS {
            let token = source.next();
            assert_eq!(token.as_ref().len(), 16);
            for byte in token.as_ref() {
                counts[usize::from(*byte)] += 1;
            }
        }

        let (zero, others) = counts.split_first().unwrap();
        let expected = f64::from(TOKENS) * 16.0 / 255.0;
        let deviations = others.iter().map(|count| (f64::from(*count) - expected).abs());
        let greatest = deviations.fold(0.0, f64::max) / expected.sqrt();
        assert_eq!(*zero, 0);
        assert!(greatest < 4.5, "a byte is {greatest:.1} standard deviations from its share");
    }

    #[test]
    fn tokens_of_one_source_and_of_two_seeds_differ() {
        let mut one = TokenSource::new(Seed([1; 32]));
        let mut two = TokenSource::new(Seed([2; 32]));
        let mut tokens: Vec<Token> = (0..10_000).flat_map(|_| [one.next(), two.next()]).collect();
        tokens.sort_unstable();
        tokens.dedup();

        assert_eq!(tokens.len(), 20_000);
    }
}
