//! What has to happen however a test ends.

use std::fmt;

/// Does something when it goes out of scope, also while a panic unwinds.
///
/// The first thing in every [`std::thread::scope`] whose threads go on until they are told: the scope waits
/// for them, and a test that failed would wait for ever instead of saying why.
pub struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> AtEnd<F> {
    /// Takes what to do.
    pub const fn new(act: F) -> Self {
        Self(act)
    }
}

impl<F: FnMut()> fmt::Debug for AtEnd<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtEnd").finish_non_exhaustive()
    }
}

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
