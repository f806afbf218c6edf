//! `/etc/bootkeep/cloud-init.yaml`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Largest file that is read (bytes).
const MAX_FILE: u64 = 64 * 1024;

/// What the owner allows. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether every part must be sealed.
    #[serde(default = "yes")]
    pub require_sealed: bool,
}

fn yes() -> bool {
    true
}

impl Default for Config {
    fn default() -> Self {
        Self {
            require_sealed: true,
        }
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// Not the YAML expected.
    #[error("{0}: {1}")]
    Parse(PathBuf, serde_yaml::Error),
}

impl Config {
    /// Reads the file; without it, everything must be sealed.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(|error| ConfigError::Read(path.into(), error))?,
        };
        let mut text = String::new();
        file.take(MAX_FILE)
            .read_to_string(&mut text)
            .map_err(|error| ConfigError::Read(path.into(), error))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(&text).map_err(|error| ConfigError::Parse(path.into(), error))
    }

    /// Reads the file; one that cannot be used allows nothing.
    #[must_use]
    pub fn strict_unless_allowed(path: &Path) -> Self {
        Self::load(path).unwrap_or_else(|error| {
            eprintln!("bootkeep: {error}; only sealed user-data is taken");
            Self::default()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_of_the_owner_allows_unsealed_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud-init.yaml");
        assert!(Config::strict_unless_allowed(&path).require_sealed);
        for (text, sealed) in [
            ("require_sealed: false\n", false),
            ("require_sealed: true\n", true),
            ("", true),
            ("# nothing\n{}\n", true),
            ("require_sealed: no way\n", true),
            ("require_sealed: false\nother: 1\n", true),
            ("{{{", true),
        ] {
            std::fs::write(&path, text).unwrap();
            let config = Config::strict_unless_allowed(&path);
            assert_eq!(config.require_sealed, sealed, "{text:?}");
        }
    }
}
