//! Service names: opaque bytes, compared exactly.

use std::{borrow::Borrow, fmt, sync::Arc};

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

impl fmt::Display for ServiceNameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
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

    #[test]
    fn names_are_printed_escaped() {
        assert_eq!(ServiceName::try_from(b"a\xff\n".as_slice()).unwrap().to_string(), "a\\xff\\n");
    }
}
