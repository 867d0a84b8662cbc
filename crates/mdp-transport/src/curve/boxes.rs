//! Boxes as NaCl makes them: XSalsa20 and Poly1305 under a key that two key pairs have in common
//! ("Cryptography in NaCl", 2009; "Extending the Salsa20 nonce", 2008).
//!
//! A nonce of XSalsa20 has 24 bytes, of which the first 16 only choose a key of Salsa20. In the traffic of a
//! connection those 16 bytes never change: that key is made once ([`BoxKey`]) and not for each frame.

use orion::hazardous::mac::poly1305 as portable;
use poly1305::{
    Block, Poly1305,
    universal_hash::{KeyInit as _, UniversalHash as _},
};
use salsa20::{
    Salsa20,
    cipher::{KeyIvInit as _, StreamCipher as _, consts::U10},
    hsalsa,
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::KEY_BYTES;

/// How much longer than its text a box is.
pub(super) const TAG_BYTES: usize = 16;
/// The part of a nonce that chooses the key of Salsa20.
const NONCE_HEAD_BYTES: usize = 16;
/// From this size on the vectors of the crate `poly1305` pay: they need a microsecond to begin.
const LONG_TEXT_BYTES: usize = 4 * 1024;
/// How many bytes of a long nonce are random; the others say what it is for.
pub(super) const LONG_NONCE_BYTES: usize = 16;

/// It was not made by the owner of the key, or not for this nonce, or was altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadBox;

/// What two key pairs have in common, or a key that one side keeps for itself.
#[derive(Clone)]
pub(super) struct SharedKey(Zeroizing<[u8; KEY_BYTES]>);

/// The key for all nonces with the same first 16 bytes.
#[derive(Clone)]
pub(super) struct BoxKey(Zeroizing<[u8; KEY_BYTES]>);

impl SharedKey {
    /// The key of a point that was agreed on.
    pub(super) fn from_point(point: &[u8; KEY_BYTES]) -> Self {
        Self(derive(point, &[0; NONCE_HEAD_BYTES]))
    }

    /// A key that was drawn.
    pub(super) const fn from_random(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// The key for short nonces: a purpose, and a number of eight bytes.
    pub(super) fn for_purpose(&self, purpose: &[u8; NONCE_HEAD_BYTES]) -> BoxKey {
        BoxKey(derive(&self.0, purpose))
    }

    /// The key for a long nonce, and what is left of that: a purpose of eight bytes, and 16 random ones.
    pub(super) fn for_long_nonce(
        &self,
        purpose: [u8; 8],
        random: &[u8; LONG_NONCE_BYTES],
    ) -> (BoxKey, [u8; 8]) {
        let [first, second] = halves(random);
        let mut head = [0; NONCE_HEAD_BYTES];
        let (left, right) = head.split_at_mut(8);
        left.copy_from_slice(&purpose);
        right.copy_from_slice(&first);
        (BoxKey(derive(&self.0, &head)), second)
    }
}

impl BoxKey {
    /// Encrypts a text where it stands, and returns the tag that belongs in front of it. The same nonce must
    /// never be used twice.
    pub(super) fn seal(&self, nonce: [u8; 8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let mut cipher = Salsa20::new((&*self.0).into(), (&nonce).into());
        let key = authenticator_key(&mut cipher);
        cipher.apply_keystream(text);
        authenticate(&key, text)
    }

    /// Begins to open a box, of which not all bytes have come.
    pub(super) fn begin_open(&self, nonce: [u8; 8], tag: [u8; TAG_BYTES]) -> OpeningBox {
        let mut cipher = Salsa20::new((&*self.0).into(), (&nonce).into());
        let authenticator = Poly1305::new((&*authenticator_key(&mut cipher)).into());
        OpeningBox { cipher, authenticator, tag, done: 0 }
    }

    /// Decrypts where it stands what [`seal`](Self::seal) made; if it did not, nothing is decrypted.
    pub(super) fn open(
        &self,
        nonce: [u8; 8],
        tag: &[u8; TAG_BYTES],
        text: &mut [u8],
    ) -> Result<(), BadBox> {
        let mut cipher = Salsa20::new((&*self.0).into(), (&nonce).into());
        let expected = authenticate(&authenticator_key(&mut cipher), text);
        if !bool::from(expected.ct_eq(tag)) {
            return Err(BadBox);
        }
        cipher.apply_keystream(text);
        Ok(())
    }
}

/// A box that is opened while its bytes come, so that the last of them costs no more than the others. What is
/// decrypted is of no use before [`finish`](Self::finish) has said that all of it is good.
pub(super) struct OpeningBox {
    cipher: Salsa20,
    authenticator: Poly1305,
    tag: [u8; TAG_BYTES],
    /// How much of the text is decrypted.
    done: usize,
}

/// Several blocks of Poly1305, and one of Salsa20.
const STEP_BYTES: usize = 64;

impl OpeningBox {
    /// Decrypts what has come since, where it stands, but for some bytes at its end.
    pub(super) fn advance(&mut self, text: &mut [u8]) {
        let come = text.len().saturating_sub(self.done);
        let new = text.get_mut(self.done..).unwrap_or_default();
        let new = new.get_mut(..come - come % STEP_BYTES).unwrap_or_default();
        let (blocks, _) = Block::slice_as_chunks(new);
        self.authenticator.update(blocks);
        self.cipher.apply_keystream(new);
        self.done += new.len();
    }

    /// All bytes have come: decrypts the last ones, if the whole text is what the tag says.
    pub(super) fn finish(mut self, text: &mut [u8]) -> Result<(), BadBox> {
        self.advance(text);
        let rest = text.get_mut(self.done..).unwrap_or_default();
        let expected: [u8; TAG_BYTES] = self.authenticator.compute_unpadded(rest).into();
        if !bool::from(expected.ct_eq(&self.tag)) {
            return Err(BadBox);
        }
        self.cipher.apply_keystream(rest);
        Ok(())
    }
}

impl std::fmt::Debug for OpeningBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpeningBox").field("done", &self.done).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

impl std::fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxKey(..)")
    }
}

/// The first 32 bytes of the key stream are the key of the authenticator.
fn authenticator_key(cipher: &mut Salsa20) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    cipher.apply_keystream(key.as_mut_slice());
    key
}

/// Poly1305 of a text.
fn authenticate(key: &[u8; KEY_BYTES], text: &[u8]) -> [u8; TAG_BYTES] {
    if text.len() < LONG_TEXT_BYTES
        && let Some(tag) = authenticate_short(key, text)
    {
        return tag;
    }
    Poly1305::new(key.into()).compute_unpadded(text).into()
}

/// The same, by code that begins at once. `None` is never met: any 32 bytes are a key.
fn authenticate_short(key: &[u8; KEY_BYTES], text: &[u8]) -> Option<[u8; TAG_BYTES]> {
    let key = portable::OneTimeKey::from_slice(key).ok()?;
    let tag = portable::Poly1305::poly1305(&key, text).ok()?;
    tag.unprotected_as_bytes().try_into().ok()
}

fn derive(key: &[u8; KEY_BYTES], input: &[u8; NONCE_HEAD_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
    Zeroizing::new(hsalsa::<U10>(key.into(), input.into()).into())
}

fn halves(bytes: &[u8; LONG_NONCE_BYTES]) -> [[u8; 8]; 2] {
    let (halves, _) = bytes.as_chunks::<8>();
    let half = |at: usize| halves.get(at).copied().unwrap_or_default();
    [half(0), half(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PublicKey, SecretKey};

    fn bytes<const COUNT: usize>(hex: &str) -> [u8; COUNT] {
        let digits: Vec<u8> = hex
            .chars()
            .filter(|character| !character.is_whitespace())
            .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
            .collect();
        let values: Vec<u8> = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect();
        values.try_into().unwrap()
    }

    /// "Cryptography in NaCl" (2009), sections 4, 5 and 10: Alice's and Bob's keys, what they have in common,
    /// and a box.
    const ALICE_SECRET: &str = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    const ALICE_PUBLIC: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    const BOB_PUBLIC: &str = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    const SHARED: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
    const NONCE: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
    const TEXT: &str = "
        be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc
        e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31
        0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde
        048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864
        5e0705";
    const SEALED: &str = "
        f3ffc7703f9400e52a7dfb4b3d3305d9
        8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a
        c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738
        b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da
        99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74
        e355a5";

    fn key() -> (SharedKey, BoxKey, [u8; 8]) {
        let alice = SecretKey::from_bytes(&bytes(ALICE_SECRET));
        let shared = alice.shared_with(&PublicKey::from_bytes(bytes(BOB_PUBLIC))).unwrap();
        let nonce: [u8; 24] = bytes(NONCE);
        let (head, short) = nonce.split_first_chunk().unwrap();
        (shared.clone(), shared.for_purpose(head), short.try_into().unwrap())
    }

    #[test]
    fn boxes_are_those_of_the_paper() {
        let alice = SecretKey::from_bytes(&bytes(ALICE_SECRET));
        assert_eq!(*alice.public().as_bytes(), bytes(ALICE_PUBLIC));
        let (shared, key, nonce) = key();
        assert_eq!(*shared.0, bytes(SHARED));
        let mut text: [u8; 131] = bytes(TEXT);
        let tag = key.seal(nonce, &mut text);
        let sealed: [u8; 147] = bytes(SEALED);
        assert_eq!([tag.as_slice(), &text].concat(), sealed);
        assert_eq!(key.open(nonce, &tag, &mut text), Ok(()));
        assert_eq!(text, bytes(TEXT));
    }

    #[test]
    fn long_nonce_is_the_same_nonce_in_other_parts() {
        let (shared, key, nonce) = key();
        let whole: [u8; 24] = bytes(NONCE);
        let purpose = *whole.first_chunk().unwrap();
        let (other, short) = shared.for_long_nonce(purpose, whole[8..].try_into().unwrap());
        assert_eq!((*other.0, short), (*key.0, nonce));
    }

    #[test]
    fn what_was_altered_is_not_opened_and_not_decrypted() {
        let (_, key, nonce) = key();
        for size in [0, 1, 15, 16, 17, 63, 64, 65, LONG_TEXT_BYTES - 1, LONG_TEXT_BYTES] {
            let mut text = vec![7; size];
            let tag = key.seal(nonce, &mut text);
            let sealed = text.clone();
            let mut other_tag = tag;
            other_tag[15] ^= 0x80;
            assert_eq!(key.open(nonce, &other_tag, &mut text), Err(BadBox));
            assert_eq!(key.open([9; 8], &tag, &mut text), Err(BadBox));
            assert_eq!(text, sealed);
            if let Some(last) = text.last_mut() {
                *last ^= 1;
                assert_eq!(key.open(nonce, &tag, &mut text), Err(BadBox));
            }
        }
    }

    /// Opens a box as it comes, in pieces of some bytes.
    fn open_in_pieces(
        (key, nonce): (&BoxKey, [u8; 8]),
        tag: [u8; TAG_BYTES],
        mut text: Vec<u8>,
        piece: usize,
    ) -> Result<Vec<u8>, BadBox> {
        let mut opening = key.begin_open(nonce, tag);
        let mut come = 0_usize;
        while come < text.len() {
            come = come.saturating_add(piece).min(text.len());
            opening.advance(&mut text[..come]);
            assert!(opening.done <= come && come - opening.done < STEP_BYTES);
        }
        opening.finish(&mut text).map(|()| text)
    }

    #[test]
    fn box_that_is_opened_as_it_comes_is_the_same_wherever_it_is_cut() {
        let (_, key, nonce) = key();
        let sizes = [1, 63, 64, 65, 127, 128, 1_000, LONG_TEXT_BYTES, 20_001];
        let pieces = [1, 16, 63, 64, 100, 4_096, usize::MAX];
        for (size, piece) in sizes.into_iter().flat_map(|size| pieces.map(|piece| (size, piece))) {
            let text: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut sealed = text.clone();
            let tag = key.seal(nonce, &mut sealed);
            let open = |tag, sealed| open_in_pieces((&key, nonce), tag, sealed, piece);
            assert_eq!(open(tag, sealed.clone()), Ok(text), "{size} {piece}");
            let mut other_tag = tag;
            other_tag[0] ^= 1;
            assert_eq!(open(other_tag, sealed.clone()), Err(BadBox));
            for at in [0, size / 2, size - 1] {
                let mut altered = sealed.clone();
                altered[at] ^= 1;
                assert_eq!(open(tag, altered), Err(BadBox), "{size} {piece} {at}");
            }
        }
        let mut nothing = [];
        let tag = key.seal(nonce, &mut nothing);
        assert_eq!(open_in_pieces((&key, nonce), tag, Vec::new(), 1), Ok(Vec::new()));
    }

    #[test]
    fn both_authenticators_agree() {
        let around = |size: usize| size - 33..size + 34;
        let beyond = [LONG_TEXT_BYTES, 2 * LONG_TEXT_BYTES, 16 * 1024, 64 * 1024];
        for size in (0..600).chain(beyond.into_iter().flat_map(around)) {
            let text: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 256).unwrap()).collect();
            let key = [u8::try_from(size % 256).unwrap(); KEY_BYTES];
            let vectors: [u8; TAG_BYTES] =
                Poly1305::new((&key).into()).compute_unpadded(&text).into();
            assert_eq!(authenticate_short(&key, &text), Some(vectors), "{size}");
            assert_eq!(authenticate(&key, &text), vectors, "{size}");
        }
        // All bits set: carries everywhere.
        for size in [16, 333, LONG_TEXT_BYTES - 1, LONG_TEXT_BYTES, 2 * LONG_TEXT_BYTES + 5] {
            let (key, text) = ([0xff; KEY_BYTES], vec![0xff; size]);
            let vectors: [u8; TAG_BYTES] =
                Poly1305::new((&key).into()).compute_unpadded(&text).into();
            assert_eq!(authenticate_short(&key, &text), Some(vectors), "{size}");
        }
    }
}
