//! A terminal for the program's standard error, which then shows how far it is.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::program::PATIENCE;

/// What a terminal shows of a program.
pub(crate) struct Terminal {
    pieces: Receiver<Vec<u8>>,
    shown: Vec<u8>,
}

impl Terminal {
    /// Starts a program whose standard error is a terminal; its standard output is a pipe.
    pub(crate) fn spawn(mut command: Command) -> (Child, Self) {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let mut options = File::options();
        // It is not to become the terminal of this process.
        options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let far = options.open(OsStr::from_bytes(name.as_bytes())).unwrap();
        let child = command.stderr(far).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, pieces) = mpsc::channel();
        // It ends with the child: this process closes its own copy of the far end with the command.
        thread::spawn(move || {
            let (mut near, mut buffer) = (File::from(near), [0; 4096]);
            while let Ok(count @ 1..) = near.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        (child, Self { pieces, shown: Vec::new() })
    }

    /// Waits until it shows this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text().contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(piece) = self.pieces.recv_timeout(left) else {
                panic!("{wanted:?} is not shown: {}", self.text());
            };
            self.shown.extend(piece);
        }
    }

    /// All that it showed until the end of the program.
    pub(crate) fn read_to_end(mut self) -> String {
        while let Ok(piece) = self.pieces.recv_timeout(PATIENCE) {
            self.shown.extend(piece);
        }
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }
}
