//! The commands of the handshake as bytes (26/CURVEZMQ, "High-level Grammar").
//!
//! ```text
//! HELLO     6 name | 2 version | 72 padding | 32 C' | 8 nonce | 80 box             = 200
//! WELCOME   8 name | 16 nonce | 144 box [32 S' | 96 cookie]                        = 168
//! INITIATE  9 name | 96 cookie | 8 nonce | box [32 C | 16 nonce | 80 vouch | metadata] >= 257
//! READY     6 name | 8 nonce | box [metadata]                                      >= 30
//! cookie    16 nonce | 80 box [32 C' | 32 s']
//! vouch     box [32 C' | 32 S]
//! ```

use super::{
    KEY_BYTES,
    boxes::{BadBox, BoxKey, LONG_NONCE_BYTES, TAG_BYTES},
};
use crate::curve::{CurveError, PublicKey};

pub(super) const HELLO: &[u8] = b"\x05HELLO";
pub(super) const WELCOME: &[u8] = b"\x07WELCOME";
pub(super) const INITIATE: &[u8] = b"\x08INITIATE";
pub(super) const READY: &[u8] = b"\x05READY";

pub(super) const HELLO_PURPOSE: &[u8; 16] = b"CurveZMQHELLO---";
pub(super) const INITIATE_PURPOSE: &[u8; 16] = b"CurveZMQINITIATE";
pub(super) const READY_PURPOSE: &[u8; 16] = b"CurveZMQREADY---";
pub(super) const WELCOME_PURPOSE: [u8; 8] = *b"WELCOME-";
pub(super) const COOKIE_PURPOSE: [u8; 8] = *b"COOKIE--";
pub(super) const VOUCH_PURPOSE: [u8; 8] = *b"VOUCH---";

/// The version of 26/CURVEZMQ.
const VERSION: [u8; 2] = [1, 0];
const PADDING_BYTES: usize = 72;
/// What the box of a HELLO contains: nothing.
pub(super) const SIGNED: [u8; 64] = [0; 64];
/// How long a HELLO is.
pub(crate) const HELLO_BYTES: usize = 200;
/// How long a WELCOME is.
pub(super) const WELCOME_BYTES: usize = 168;
/// A cookie, its nonce included.
pub(super) const COOKIE_BYTES: usize = LONG_NONCE_BYTES + TAG_BYTES + 2 * KEY_BYTES;
/// A sealed pair of keys: cookie and vouch.
pub(super) const SEALED_KEYS_BYTES: usize = TAG_BYTES + 2 * KEY_BYTES;
/// The longest INITIATE: a routing id of 255 bytes and 475 bytes of what applications add. A peer that is
/// not known may make this side keep so much, and no more.
pub(crate) const INITIATE_BYTES_MAX: usize = 1_024;

/// A HELLO, taken apart.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) client: PublicKey,
    pub(super) nonce: [u8; 8],
    pub(super) signature: [u8; TAG_BYTES + SIGNED.len()],
}

impl Hello {
    pub(super) fn parse(body: &[u8]) -> Result<Self, CurveError> {
        let mut fields = Fields(body.strip_prefix(HELLO).ok_or(CurveError::Command)?);
        if fields.take()? != VERSION {
            return Err(CurveError::Command);
        }
        // The padding makes a HELLO longer than what answers it; what it contains is of no importance.
        let _: [u8; PADDING_BYTES] = fields.take()?;
        let client = PublicKey::from_bytes(fields.take()?);
        let hello = Self { client, nonce: fields.take()?, signature: fields.take()? };
        fields.end().map(|()| hello)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let padding = [0; PADDING_BYTES];
        let parts: [&[u8]; 6] =
            [HELLO, &VERSION, &padding, self.client.as_bytes(), &self.nonce, &self.signature];
        parts.concat()
    }
}

/// Reads fields of a known length from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], CurveError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(CurveError::Command)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) const fn end(&self) -> Result<(), CurveError> {
        if self.0.is_empty() { Ok(()) } else { Err(CurveError::Command) }
    }
}

/// Tag and text as they stand on the wire.
pub(super) fn seal(key: &BoxKey, nonce: [u8; 8], text: &[&[u8]]) -> Vec<u8> {
    // Of its final size at once: a buffer that grows leaves copies behind.
    let size = text.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(TAG_BYTES + size);
    bytes.extend_from_slice(&[0; TAG_BYTES]);
    text.iter().for_each(|part| bytes.extend_from_slice(part));
    if let Some((tag, text)) = bytes.split_first_chunk_mut() {
        *tag = key.seal(nonce, text);
    }
    bytes
}

/// The text of what [`seal`] made, decrypted where it stands.
pub(super) fn open<'a>(
    key: &BoxKey,
    nonce: [u8; 8],
    sealed: &'a mut [u8],
) -> Result<&'a mut [u8], BadBox> {
    let (tag, text) = sealed.split_first_chunk_mut().ok_or(BadBox)?;
    key.open(nonce, tag, text)?;
    Ok(text)
}
