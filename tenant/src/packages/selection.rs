//! Which packages of a repository a policy is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use super::Package;
use crate::{files, Error};

/// Largest list that is read (bytes).
const MAX_LIST: u64 = 16 * 1024 * 1024;
/// Names of missing packages that an error shows.
const SHOWN: usize = 10;

/// `NAME` or `NAME=VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSpec {
    name: String,
    version: Option<String>,
}

impl FromStr for PackageSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        if name.is_empty() || version == Some("") {
            return Err(format!("{text:?} is not NAME or NAME=VERSION"));
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }
}

/// The packages that are wanted; all when none is named.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    wanted: BTreeMap<String, BTreeSet<Option<String>>>,
    found: BTreeSet<(String, Option<String>)>,
}

impl Selection {
    /// Those named, and those of a list: a package a line, its version after `=`, a tab or a space, as
    /// `dpkg-query -W` and `rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\n'` write it.
    pub(crate) fn read(specs: &[PackageSpec], list: Option<&Path>) -> Result<Self, Error> {
        let mut selection = Self::default();
        for spec in specs {
            selection.want(&spec.name, spec.version.as_deref());
        }
        let Some(list) = list else {
            return Ok(selection);
        };
        let text = files::read_text(list, MAX_LIST)?;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(2, |c: char| c == '=' || c.is_whitespace());
            let name = words.next().unwrap_or_default();
            // dpkg names the architecture of packages that may be installed for several.
            let name = name.split(':').next().unwrap_or_default();
            selection.want(
                name,
                words.next().map(str::trim).filter(|it| !it.is_empty()),
            );
        }
        if selection.is_all() {
            return Err(Error::Usage(format!("{} names no package", list.display())));
        }
        Ok(selection)
    }

    fn want(&mut self, name: &str, version: Option<&str>) {
        let versions = self.wanted.entry(name.to_owned()).or_default();
        versions.insert(version.map(str::to_owned));
    }

    /// Whether none is named.
    pub(crate) fn is_all(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether this package is wanted; remembers that it was there.
    pub(crate) fn takes(&mut self, package: &Package) -> bool {
        if self.is_all() {
            return true;
        }
        let Some(versions) = self.wanted.get(&package.name) else {
            return false;
        };
        let mut taken = false;
        for version in [None, Some(package.version.clone())] {
            if versions.contains(&version) {
                self.found.insert((package.name.clone(), version));
                taken = true;
            }
        }
        taken
    }

    /// Refuses when a package that was named is nowhere.
    pub(crate) fn check_found(&self) -> Result<(), Error> {
        let all = self.wanted.iter().flat_map(|(name, versions)| {
            versions
                .iter()
                .map(move |version| (name.clone(), version.clone()))
        });
        let missing: Vec<String> = all
            .filter(|wanted| !self.found.contains(wanted))
            .map(|(name, version)| match version {
                Some(version) => format!("{name}={version}"),
                None => name,
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let more = missing.len().saturating_sub(SHOWN);
        let mut text = missing[..missing.len().min(SHOWN)].join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        Err(Error::NotFound(format!(
            "the repositories do not have: {text}"
        )))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
        }
    }

    #[test]
    fn what_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, "# installed\nbash\t5.2\nlibc6:amd64\t2.36\n\n").unwrap();
        let mut selection = Selection::read(&["dash".parse().unwrap()], Some(&list)).unwrap();
        assert!(selection.takes(&package("dash", "1")));
        assert!(selection.takes(&package("libc6", "2.36")));
        assert!(!selection.takes(&package("bash", "5.1")));
        assert!(!selection.takes(&package("zsh", "1")));
        let error = selection.check_found().unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().ends_with("bash=5.2"), "{error}");
        assert!(selection.takes(&package("bash", "5.2")));
        selection.check_found().unwrap();
        std::fs::write(&list, "\n").unwrap();
        assert!(Selection::read(&[], Some(&list)).is_err());
    }
}
