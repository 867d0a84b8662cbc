//! Random numbers: from the operating system, or from the seed of a simulated host.

use std::{fs::File, io, io::Read as _};

use crate::simulation::seeded;

/// Bytes that nobody else has.
///
/// # Errors
/// The operating system gives none.
pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let from_seed = seeded(|seed| {
        for part in bytes.chunks_mut(size_of::<u64>()) {
            let number = next_number(seed).to_le_bytes();
            part.iter_mut().zip(number).for_each(|(byte, random)| *byte = random);
        }
    });
    if from_seed.is_none() {
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    }
    Ok(bytes)
}

/// The next number of a seed (`SplitMix64`).
pub(crate) const fn next_number(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
