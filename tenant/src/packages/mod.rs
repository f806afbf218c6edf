//! Packages: repositories that policies are made of, and which package owns a file. The index of owners lies beside a
//! policy, for people; nothing is decided by it.

pub(crate) mod apt;
pub(crate) mod collect;
mod deb;
pub(crate) mod dpkg;
pub(crate) mod repodata;
mod rpm;
pub(crate) mod selection;
mod signed_index;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use selection::PackageSpec;

use crate::{
    files::{self, PUBLIC},
    Error, Home,
};

const FORMAT: &str = "bootkeep-packages-1";
/// Largest index that is read (bytes).
const MAX_FILE: u64 = 256 * 1024 * 1024;
/// Indexes read for one `policy explain`.
const MAX_INDEXES: usize = 64;

/// A package as it was built.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, self.architecture)
    }
}

/// Paths and the packages that own them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    format: String,
    packages: Vec<Package>,
    files: BTreeMap<String, Vec<usize>>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            format: FORMAT.to_owned(),
            packages: Vec::new(),
            files: BTreeMap::new(),
        }
    }
}

impl Index {
    /// A package more; gives its place.
    pub fn package(&mut self, package: Package) -> usize {
        self.packages.push(package);
        self.packages.len() - 1
    }

    /// Number of packages.
    #[must_use]
    pub fn packages(&self) -> usize {
        self.packages.len()
    }

    /// Says that the package at this place owns a path.
    pub fn own(&mut self, path: &str, package: usize) {
        let owners = self.files.entry(path.to_owned()).or_default();
        if owners.last() != Some(&package) {
            owners.push(package);
        }
    }

    /// The packages that own a path.
    pub fn owners(&self, path: &str) -> impl Iterator<Item = &Package> {
        let places = self.files.get(path).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|place| self.packages.get(*place))
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes it into a new file.
    ///
    /// # Errors
    /// As [`files::write_new`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Failed(error.to_string()))?;
        files::write_new(path, &text, PUBLIC)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is no index; errors of files.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unusable = |why: String| Error::Usage(format!("{}: {why}", path.display()));
        let text = files::read(path, MAX_FILE)?;
        let index: Self = serde_json::from_slice(&text)
            .map_err(|error| unusable(format!("not a package index: {error}")))?;
        if index.format != FORMAT {
            return Err(unusable(format!("the format is not {FORMAT}")));
        }
        Ok(index)
    }
}

/// The index beside a policy file: `web.json` has `web.packages.json`.
#[must_use]
pub fn beside(policy: &Path) -> PathBuf {
    policy.with_extension("packages.json")
}

fn folder(home: &Home) -> PathBuf {
    home.folder().join("packages")
}

/// Keeps the index beside a policy file for the generation it is published as.
///
/// # Errors
/// Errors of files.
pub fn keep(home: &Home, policy: &Path, name: &str, generation: u64) -> Result<(), Error> {
    let text = match files::read(&beside(policy), MAX_FILE) {
        Err(Error::NotFound(_)) => return Ok(()),
        other => other?,
    };
    files::private_folder(&folder(home))?;
    let kept = folder(home).join(format!("{name}-{generation}.json"));
    files::replace(&kept, &text, PUBLIC)
}

/// All that is known of owners: these indexes, or those of published policies.
#[derive(Debug, Default)]
pub struct Owners(Vec<Index>);

impl Owners {
    /// Reads the indexes named; when none is, the one beside `policy` and those this home keeps, newest first.
    ///
    /// # Errors
    /// Errors of files.
    pub fn load(home: &Home, named: &[PathBuf], policy: Option<&Path>) -> Result<Self, Error> {
        let paths = match named {
            [] => known(home, policy),
            named => named.to_vec(),
        };
        paths
            .iter()
            .take(MAX_INDEXES)
            .map(|path| Index::read(path))
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }

    /// The packages that own a path, each once.
    #[must_use]
    pub fn of(&self, path: &str) -> Vec<String> {
        let mut owners = Vec::new();
        for package in self.0.iter().flat_map(|index| index.owners(path)) {
            let text = package.to_string();
            if !owners.contains(&text) {
                owners.push(text);
            }
        }
        owners
    }
}

fn known(home: &Home, policy: Option<&Path>) -> Vec<PathBuf> {
    let kept = std::fs::read_dir(folder(home)).into_iter().flatten();
    let mut kept: Vec<PathBuf> = kept.flatten().map(|entry| entry.path()).collect();
    kept.sort();
    kept.reverse();
    let own = policy.map(beside).filter(|path| path.is_file());
    own.into_iter().chain(kept).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_kept_with_what_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("home"));
        let policy = folder.path().join("web.json");
        let mut index = Index::default();
        let package = index.package(Package {
            name: "coreutils".into(),
            version: "9.1-1".into(),
            architecture: "amd64".into(),
        });
        index.own("/usr/bin/ls", package);
        keep(&home, &policy, "web", 1).unwrap();
        assert!(Owners::load(&home, &[], None)
            .unwrap()
            .of("/usr/bin/ls")
            .is_empty());
        index.write(&beside(&policy)).unwrap();
        keep(&home, &policy, "web", 2).unwrap();
        for policy in [None, Some(policy.as_path())] {
            let owners = Owners::load(&home, &[], policy).unwrap();
            assert_eq!(owners.of("/usr/bin/ls"), ["coreutils 9.1-1 (amd64)"]);
            assert!(owners.of("/usr/bin/cat").is_empty());
        }
        std::fs::write(&policy, "{}").unwrap();
        assert_eq!(Index::read(&policy).unwrap_err().exit_code(), 2);
    }
}
