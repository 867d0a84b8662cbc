//! The text files of the repository.

use std::{collections::BTreeMap, fs, path::Path};

use crate::run::Failure;

/// Built or fetched, not written.
const SKIPPED_DIRECTORIES: [&str; 7] =
    [".git", "target", "majordomo-data", "__pycache__", "corpus", "artifacts", "node_modules"];
/// Larger files are data.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Path, with `/` and relative to the root, to text.
#[derive(Debug, Default)]
pub(super) struct Tree {
    text_by_path: BTreeMap<String, String>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self, Failure> {
        let mut tree = Self::default();
        tree.read_directory(root, "")
            .map_err(|error| Failure::new(format!("{}: {error}", root.display())))?;
        Ok(tree)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> std::io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                if !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
                    self.read_directory(&entry.path(), &format!("{prefix}{name}/"))?;
                }
            } else if metadata.is_file()
                && metadata.len() <= TEXT_BYTES_MAX
                && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
            {
                self.text_by_path.insert(format!("{prefix}{name}"), text);
            }
        }
        Ok(())
    }

    /// Every file, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text_by_path.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every file whose name ends so.
    pub(super) fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| path.ends_with(suffix))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.text_by_path.get(path).map(String::as_str)
    }

    /// Whether there is such a file, or a directory with files.
    pub(super) fn has(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.text_by_path.contains_key(path)
            || self.text_by_path.keys().any(|file| file.starts_with(&directory))
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        let text_by_path = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        Self { text_by_path: BTreeMap::from(text_by_path) }
    }
}
