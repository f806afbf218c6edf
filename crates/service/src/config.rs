//! Configuration files: YAML, bounded, unknown keys are errors.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// Largest configuration file (bytes).
const MAX_FILE: u64 = 256 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is over its limit.
    #[error("{0} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// Not the YAML expected.
    #[error("{path}: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Which line, and what is wrong.
        source: serde_yaml::Error,
    },
}

/// Reads a configuration file. Give `T` the attribute `deny_unknown_fields`.
///
/// # Errors
/// [`ConfigError`], naming file and line.
pub fn load_config<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_bounded(path)?;
    serde_yaml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.into(),
        source,
    })
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.into(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(ConfigError::TooLarge(path.into()));
    }
    Ok(text)
}

/// A path written in the configuration file `base_file`: relative ones start in that file's folder.
#[must_use]
pub fn resolve(base_file: &Path, path: &Path) -> PathBuf {
    base_file.parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Limits;

    fn load(text: &str) -> Result<Limits, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load_config(file.path())
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(load("per_address: 7\n").unwrap().per_address, 7);
        let error = load("connections: 5\nconections: 6\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("conections") && error.contains("line 2"),
            "{error}"
        );
        let missing = load_config::<Limits>(Path::new("/no/such.yaml")).unwrap_err();
        assert!(missing.to_string().contains("/no/such.yaml"));
        let huge = "#".repeat(300 * 1024);
        assert!(matches!(load(&huge), Err(ConfigError::TooLarge(_))));
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let resolved = |path: &str| resolve(Path::new("/etc/x/a.yaml"), Path::new(path));
        assert_eq!(resolved("k.pem"), Path::new("/etc/x/k.pem"));
        assert_eq!(resolved("/abs"), Path::new("/abs"));
        assert_eq!(resolve(Path::new("a.yaml"), Path::new("k")), Path::new("k"));
    }
}
