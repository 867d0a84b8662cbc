//! What a handler returns.

use std::fmt;

use crate::IntoFrames;

/// What a worker's handler may return: a body ([`IntoFrames`]), or a `Result` with one.
///
/// MDP has no error reply. A request whose handler returns an `Err` is answered with one empty frame,
/// as `majordomo work` does with a command that fails, and the error is logged: without any reply the
/// broker would hand the request to the next worker, which would fail as well, and the client would
/// wait in vain. A handler that wants to tell the client more returns `Ok` with a body of its own making.
pub trait IntoAnswer {
    /// The frames of the reply, or what goes wrong.
    ///
    /// # Errors
    /// The handler has failed.
    fn into_answer(self) -> Result<Vec<Vec<u8>>, String>;
}

impl<T: IntoFrames> IntoAnswer for T {
    fn into_answer(self) -> Result<Vec<Vec<u8>>, String> {
        Ok(self.into_frames())
    }
}

impl<T: IntoFrames, E: fmt::Display> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Result<Vec<Vec<u8>>, String> {
        // `{:#}`: errors that know their causes (of `anyhow`) write them, too.
        self.map(IntoFrames::into_frames).map_err(|error| format!("{error:#}"))
    }
}
