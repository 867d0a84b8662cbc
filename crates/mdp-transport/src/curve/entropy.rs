//! Random bytes, made of a seed that the shell hands in.

use salsa20::{
    Salsa20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use zeroize::Zeroizing;

use super::KEY_BYTES;

/// How long the label of a generator is.
pub(crate) const LABEL_BYTES: usize = 8;

/// A generator that forgets: each draw begins with the key of the next one, so that what was drawn can not be
/// found out from what is left ("Fast-key-erasure random-number generators", Bernstein, 2017). The same seed
/// under the same label gives the same bytes, and under another one other bytes.
pub(crate) struct Entropy {
    /// The nonce of each draw.
    label: [u8; LABEL_BYTES],
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Entropy {
    /// A generator of a seed, which has to be random.
    pub(crate) fn new(label: &[u8; LABEL_BYTES], seed: &[u8; KEY_BYTES]) -> Self {
        Self { label: *label, key: Zeroizing::new(*seed) }
    }

    /// Adds to what is not known of it. An attacker who knows one of both seeds knows nothing.
    pub(crate) fn add(&mut self, seed: &[u8; KEY_BYTES]) {
        let mut drawn = self.draw::<KEY_BYTES>();
        drawn.iter_mut().zip(seed).for_each(|(byte, new)| *byte ^= new);
        self.key = drawn;
    }

    /// The next bytes.
    pub(crate) fn draw<const COUNT: usize>(&mut self) -> Zeroizing<[u8; COUNT]> {
        let mut stream = Salsa20::new((&*self.key).into(), (&self.label).into());
        // The key stream itself: what it is added to is zero.
        let mut next = Zeroizing::new([0; KEY_BYTES]);
        stream.apply_keystream(next.as_mut_slice());
        let mut drawn = Zeroizing::new([0; COUNT]);
        stream.apply_keystream(drawn.as_mut_slice());
        self.key = next;
        drawn
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seeds_give_the_same_bytes_and_no_bytes_come_twice() {
        let run = |seed: u8, added: Option<u8>| {
            let mut entropy = Entropy::new(&[0; 8], &[seed; 32]);
            if let Some(seed) = added {
                entropy.add(&[seed; 32]);
            }
            [*entropy.draw::<32>(), *entropy.draw::<32>()]
        };
        assert_eq!(run(1, None), run(1, None));
        assert_eq!(run(1, Some(2)), run(1, Some(2)));
        let mut all = [run(1, None), run(2, None), run(1, Some(2)), run(1, Some(1))].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn same_seed_under_another_label_gives_other_bytes() {
        let run = |label: &[u8; 8]| {
            let mut entropy = Entropy::new(label, &[1; 32]);
            [*entropy.draw::<32>(), *entropy.draw::<32>()]
        };
        let (clients, cluster) = (run(b"clients "), run(b"cluster "));
        assert_eq!(run(b"clients "), clients);
        assert!(clients.iter().all(|drawn| !cluster.contains(drawn)));
    }
}
