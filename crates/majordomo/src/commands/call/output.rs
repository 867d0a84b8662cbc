//! Where a reply goes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process,
};

use anyhow::Context as _;

use crate::printer;

/// Takes the frames of a reply as they come.
#[derive(Debug)]
pub(super) enum Output {
    /// Lines on stdout.
    Lines,
    /// Bytes on stdout.
    Raw,
    /// Bytes in a file.
    File(OutputFile),
}

impl Output {
    /// Writes frames.
    pub(super) fn frames(&mut self, frames: &[Vec<u8>]) -> anyhow::Result<()> {
        match self {
            Self::Lines => Ok(printer::frames(frames)?),
            Self::Raw => Ok(frames.iter().try_for_each(|frame| printer::raw(frame))?),
            Self::File(file) => file.frames(frames),
        }
    }

    /// Writes the last frames; the reply is whole.
    pub(super) fn finish(mut self, frames: &[Vec<u8>]) -> anyhow::Result<()> {
        self.frames(frames)?;
        match self {
            Self::Lines | Self::Raw => Ok(()),
            Self::File(file) => file.finish(),
        }
    }
}

/// A file that gets its name when it is whole; until then another stands beside it, which goes if the
/// reply does not come to its end.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    /// The other; `None` if the path is no regular file but, say, `/dev/null`.
    temporary: Option<PathBuf>,
    /// `None` once all is written.
    file: Option<BufWriter<File>>,
}

impl OutputFile {
    /// Begins a file. What is wrong with the path is known before the request is sent.
    pub(super) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let is_special = fs::metadata(&path).is_ok_and(|there| !there.is_file());
        let temporary = if is_special { None } else { Some(beside(&path)) };
        let created = File::create(temporary.as_ref().unwrap_or(&path));
        let file = created.with_context(|| not_written(&path))?;
        Ok(Self { path, temporary, file: Some(BufWriter::new(file)) })
    }

    fn frames(&mut self, frames: &[Vec<u8>]) -> anyhow::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = frames.iter().try_for_each(|frame| file.write_all(frame));
        written.with_context(|| not_written(&self.path))
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = file.flush().and_then(|()| self.rename());
        written.with_context(|| not_written(&self.path))
    }

    fn rename(&mut self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        fs::rename(temporary, &self.path)?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            fs::remove_file(temporary).ok();
        }
    }
}

fn not_written(path: &Path) -> String {
    format!("--output {} cannot be written", path.display())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", process::id()));
    name.into()
}
