//! Service names: opaque bytes, compared exactly.

use std::{
    borrow::Borrow,
    fmt::{self, Write as _},
    sync::Arc,
};

use crate::ServiceNameError;

/// Names that begin with these bytes belong to the broker (8/MMI), compared byte by byte.
pub const MMI_PREFIX: &[u8] = b"mmi.";

/// The longest service name. The RFCs set no limit; 255 is ZeroMQ's own limit for identities.
pub const SERVICE_NAME_BYTES_MAX: usize = 255;

/// A checked service name that borrows its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceNameRef<'a>(&'a [u8]);

impl<'a> ServiceNameRef<'a> {
    /// The bytes of the name.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether the name belongs to the broker's own `mmi.` namespace (8/MMI, MMI8-02).
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with(MMI_PREFIX)
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> ServiceName {
        ServiceName(Arc::from(self.0))
    }
}

impl<'a> TryFrom<&'a [u8]> for ServiceNameRef<'a> {
    type Error = ServiceNameError;

    fn try_from(bytes: &'a [u8]) -> Result<Self, ServiceNameError> {
        match bytes.len() {
            0 => Err(ServiceNameError::Empty),
            got if got > SERVICE_NAME_BYTES_MAX => Err(ServiceNameError::TooLong { got }),
            _ => Ok(Self(bytes)),
        }
    }
}

/// Printable text as it is; of everything else, and of `\`, the bytes as `\xHH`, `\n`, `\r`, `\t` or `\\`.
///
/// Two names never look the same, and a shell reads the escapes in `$'..'`.
impl fmt::Display for ServiceNameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                write_printable(f, character, is_first)?;
                is_first = false;
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
            is_first &= chunk.invalid().is_empty();
        }
        Ok(())
    }
}

/// Writes one character of a name. Those that have no shape of their own, steer a terminal or turn the
/// direction of writing are escaped: a table or a log must show what is there.
fn write_printable(f: &mut fmt::Formatter<'_>, character: char, is_first: bool) -> fmt::Result {
    let mut buffer = [0; 4];
    let bytes = character.encode_utf8(&mut buffer).as_bytes();
    let is_shown = match character {
        '\\' => false,
        ' '..='~' => true,
        _ => is_printable(character, is_first),
    };
    if is_shown { f.write_char(character) } else { write!(f, "{}", bytes.escape_ascii()) }
}

/// What the standard library shows in debug output: an accent may follow another character, but cannot
/// begin a name.
fn is_printable(character: char, is_first: bool) -> bool {
    let mut text = String::with_capacity(5);
    if !is_first {
        text.push('a');
    }
    text.push(character);
    text.escape_debug().last() == Some(character)
}

impl fmt::Debug for ServiceNameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A checked service name: 1 to [`SERVICE_NAME_BYTES_MAX`] bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<[u8]>);

impl ServiceName {
    /// The borrowed form.
    #[must_use]
    pub fn as_name(&self) -> ServiceNameRef<'_> {
        ServiceNameRef(&self.0)
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the name belongs to the broker's own `mmi.` namespace (8/MMI, MMI8-02).
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_name().is_reserved()
    }
}

impl TryFrom<&[u8]> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(bytes: &[u8]) -> Result<Self, ServiceNameError> {
        ServiceNameRef::try_from(bytes).map(ServiceNameRef::to_owned)
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(name: &str) -> Result<Self, ServiceNameError> {
        Self::try_from(name.as_bytes())
    }
}

impl std::str::FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(name: &str) -> Result<Self, ServiceNameError> {
        Self::try_from(name)
    }
}

impl AsRef<[u8]> for ServiceName {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for ServiceName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_name(), f)
    }
}

/// A received frame that holds a valid service name: checked once, kept where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFrame<F>(F);

impl<F: AsRef<[u8]>> ServiceFrame<F> {
    /// Checks the frame.
    ///
    /// # Errors
    /// The bytes are not a service name.
    pub fn try_new(frame: F) -> Result<Self, ServiceNameError> {
        ServiceNameRef::try_from(frame.as_ref())?;
        Ok(Self(frame))
    }

    /// The name in the frame.
    #[must_use]
    pub fn as_name(&self) -> ServiceNameRef<'_> {
        ServiceNameRef(self.0.as_ref())
    }

    /// The frame itself.
    #[must_use]
    pub fn into_frame(self) -> F {
        self.0
    }
}

impl<F: AsRef<[u8]>> AsRef<[u8]> for ServiceFrame<F> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_reserved(name: &str) -> bool {
        ServiceName::try_from(name).unwrap().is_reserved()
    }

    #[test]
    fn only_the_exact_prefix_is_reserved() {
        // AM-07 and the defects of protocol.md section 7: whole prefix, case-sensitive, at the start.
        assert!(is_reserved("mmi.service"));
        assert!(is_reserved("mmi."));
        for name in ["mmi", "MMI.x", "Mmi.service", "mail", "invoice", "xmmi.service", "m", "mm"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn names_are_one_to_255_bytes_compared_exactly() {
        assert_eq!(ServiceName::try_from(""), Err(ServiceNameError::Empty));
        assert!(ServiceName::try_from([b'x'; 255].as_slice()).is_ok());
        assert_eq!(
            ServiceName::try_from([b'x'; 256].as_slice()),
            Err(ServiceNameError::TooLong { got: 256 })
        );
        assert_ne!(ServiceName::try_from("s\0"), ServiceName::try_from("s"));
    }

    fn shown(name: &[u8]) -> String {
        ServiceName::try_from(name).unwrap().to_string()
    }

    #[test]
    fn printable_names_are_shown_as_they_are() {
        let decomposed = "gro\u{308}\u{df}e";
        for name in
            ["größe", "日本語", "it's \"x\"", "ยินดี", "नमस्ते", "שלום", "orders.create", decomposed]
        {
            assert_eq!(shown(name.as_bytes()), name);
        }
    }

    #[test]
    fn what_cannot_be_seen_or_steers_is_escaped() {
        for (name, escaped) in [
            (b"a\xff\n\x1b[2J".as_slice(), "a\\xff\\n\\x1b[2J"),
            // Right-to-left override, isolate, mark; byte order mark; zero width space; line separator.
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
            ("a\u{2067}b".as_bytes(), "a\\xe2\\x81\\xa7b"),
            ("a\u{200f}".as_bytes(), "a\\xe2\\x80\\x8f"),
            ("\u{feff}a".as_bytes(), "\\xef\\xbb\\xbfa"),
            ("a\u{200b}".as_bytes(), "a\\xe2\\x80\\x8b"),
            ("a\u{2028}".as_bytes(), "a\\xe2\\x80\\xa8"),
            ("a\u{85}".as_bytes(), "a\\xc2\\x85"),
            // An accent has nothing to stand on.
            ("\u{308}a".as_bytes(), "\\xcc\\x88a"),
            // A broken character beside a whole one.
            (b"\xc3\xb6\xc3", "ö\\xc3"),
        ] {
            assert_eq!(shown(name), escaped);
        }
    }

    #[test]
    fn no_name_looks_like_another() {
        assert_eq!((shown(b"\xff"), shown(b"\\xff")), ("\\xff".into(), "\\\\xff".into()));
        assert_eq!(shown(b"\\"), "\\\\");
    }
}
