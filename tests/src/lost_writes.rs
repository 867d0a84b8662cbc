//! Loses what a killed process has written and not synchronised, as a machine without power does.
//! The kernel survives the process and keeps its writes; so a library that is loaded into the
//! process remembers what was there before each write, and this puts it back.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

/// The library that remembers, as C.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lost_writes/journal.c");

/// How many numbers stand in front of a record's bytes.
const HEAD_NUMBERS: usize = 6;
const HEAD_BYTES: usize = HEAD_NUMBERS * 8;

/// Kinds of records.
const BYTES: u64 = 1;
const SYNCHRONISED: u64 = 2;
const BEGINS: u64 = 3;

/// Which of the writes that were not synchronised are lost.
#[derive(Debug)]
pub enum Lost<'a> {
    /// All of them.
    All,
    /// Each by chance: a disk writes in any order.
    Some(&'a mut fastrand::Rng),
}

/// The files of a process, with what they held before each write.
#[derive(Clone, Debug)]
pub struct LostWrites {
    library: PathBuf,
    directory: PathBuf,
    journal: PathBuf,
}

/// What a file held before a write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    number: u64,
    inode: u64,
    offset: u64,
    file_bytes: u64,
    bytes: Vec<u8>,
}

impl LostWrites {
    /// For the files below `directory`; `scratch` is a folder elsewhere, for what this needs itself.
    ///
    /// # Errors
    /// The library can not be built, and why.
    pub fn new(directory: &Path, scratch: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        for folder in [directory, scratch] {
            fs::create_dir_all(folder).map_err(text)?;
        }
        let library = scratch.join("lost_writes.so");
        let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut build = Command::new(&compiler);
        build.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(SOURCE);
        build.args(["-ldl", "-lpthread"]);
        let output = build.output().map_err(|error| format!("{}: {error}", compiler.display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let directory = directory.canonicalize().map_err(text)?;
        Ok(Self { library, directory, journal: scratch.join("journal") })
    }

    /// What a process must find in its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("LOST_WRITES_DIRECTORY", text(&self.directory)),
            ("LOST_WRITES_JOURNAL", text(&self.journal)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Lets everything that was written so far be safe. Each process begins with this.
    pub fn keep_all(&self) {
        drop(fs::remove_file(&self.journal));
    }

    /// Puts the files back to what may have been on the disk. Whoever wrote them has ended. How
    /// many writes were lost.
    #[must_use]
    pub fn lose(&self, mut lost: Lost<'_>) -> usize {
        let before = unsynchronised(&fs::read(&self.journal).unwrap_or_default());
        let files = self.files();
        let mut count = 0;
        for write in before.iter().rev() {
            let is_lost = match &mut lost {
                Lost::All => true,
                Lost::Some(random) => random.bool(),
            };
            if let Some(path) = files.get(&write.inode).filter(|_| is_lost) {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(write.file_bytes).unwrap();
                file.write_all_at(&write.bytes, write.offset).unwrap();
                count += 1;
            }
        }
        self.keep_all();
        count
    }

    /// The files by inode.
    fn files(&self) -> BTreeMap<u64, PathBuf> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.directory.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.insert(entry.metadata().unwrap().ino(), entry.path());
                }
            }
        }
        files
    }
}

/// The writes of a journal that nobody synchronised, in their order.
fn unsynchronised(journal: &[u8]) -> Vec<Before> {
    let mut before: Vec<Before> = Vec::new();
    let mut rest = journal;
    let (mut number, mut begun_at) = (0, 0);
    while let Some((head, after)) = rest.split_at_checked(HEAD_BYTES) {
        let numbers: Vec<u64> = head
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let &[kind, inode, offset, file_bytes, count, up_to] = numbers.as_slice() else { break };
        // The process may have been killed in the middle of a record; then it had not written yet.
        let Some((bytes, after)) = after.split_at_checked(usize::try_from(count).unwrap()) else {
            break;
        };
        match kind {
            BYTES => {
                let bytes = bytes.to_vec();
                before.push(Before { number, inode, offset, file_bytes, bytes });
            }
            SYNCHRONISED => {
                let up_to = begun_at + up_to;
                before.retain(|write| write.inode != inode || write.number >= up_to);
            }
            BEGINS => begun_at = number + 1,
            other => panic!("no kind of record: {other}"),
        }
        number += 1;
        rest = after;
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes twice and synchronises what was written first only.
    const WRITER: &str = "printf 'safe' | dd of=file conv=notrunc,fsync 2>/dev/null; \
                          printf 'lost and longer' | dd of=file conv=notrunc 2>/dev/null; \
                          printf 'other' | dd of=other conv=fsync 2>/dev/null";

    fn written() -> (tempfile::TempDir, LostWrites) {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("files");
        let writes = LostWrites::new(&files, &directory.path().join("scratch")).unwrap();
        let mut writer = Command::new("sh");
        writer.args(["-c", WRITER]).current_dir(&files).envs(writes.environment());
        assert!(writer.status().unwrap().success());
        (directory, writes)
    }

    #[test]
    fn unsynchronised_writes_are_lost_and_others_are_not() {
        let (directory, writes) = written();
        let read = |name: &str| fs::read_to_string(directory.path().join("files").join(name));
        assert_eq!(read("file").unwrap(), "lost and longer");

        assert_eq!(writes.lose(Lost::All), 1);

        assert_eq!(
            (read("file").unwrap(), read("other").unwrap()),
            ("safe".into(), "other".into())
        );
    }

    #[test]
    fn writes_that_were_kept_stay() {
        let (directory, writes) = written();

        writes.keep_all();

        assert_eq!(writes.lose(Lost::All), 0);
        let text = fs::read_to_string(directory.path().join("files/file")).unwrap();
        assert_eq!(text, "lost and longer");
    }

    #[test]
    fn some_writes_are_lost_by_chance() {
        let outcomes: std::collections::BTreeSet<usize> = (0..20)
            .map(|seed| written().1.lose(Lost::Some(&mut fastrand::Rng::with_seed(seed))))
            .collect();

        assert_eq!(outcomes, [0, 1].into());
    }
}
