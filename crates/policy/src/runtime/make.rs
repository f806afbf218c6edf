//! Policies from trees and lists, and changes to them.

use bootkeep_evidence::ima::{Entry, FileDigest};

use super::{
    files::{FileDigests, MAX_FILES},
    overlay::Prefixes,
    path_rule::PathRules,
    pattern::Patterns,
    BufferRule, DeviceRule, MemfdRule, PathPattern, PathRule, RuntimePolicy, SigningKey, Tree,
    ViolationRule, BOOT_AGGREGATE,
};
use crate::error::PolicyError;

impl RuntimePolicy {
    /// A policy of the files of some trees: a root file system, an unpacked initramfs.
    ///
    /// Every regular file counts, with the path it has in its tree; links are not followed.
    ///
    /// # Errors
    /// When a file cannot be read, or there are too many.
    pub fn from_trees(trees: &[Tree]) -> Result<Self, PolicyError> {
        let mut policy = Self {
            prefixes: Prefixes::new(vec!["/sysroot".to_owned()], Vec::new())?,
            ..Self::default()
        };
        for tree in trees {
            tree.visit(&mut |path, digest| policy.accept_file(path, digest))?;
        }
        Ok(policy)
    }

    /// A policy of what a node has measured, `boot_aggregate` and violations left out. Buffers (keys, command lines,
    /// tables of device mapper) are accepted by their digests.
    ///
    /// # Errors
    /// For an entry of an unknown template or with another digest than SHA-256.
    pub fn from_list(entries: &[Entry]) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for (number, entry) in entries.iter().enumerate() {
            if entry.path == BOOT_AGGREGATE || entry.violation {
                continue;
            }
            let problem = |problem: String| PolicyError::Entry { number, problem };
            let digest = entry
                .digest
                .as_ref()
                .ok_or_else(|| problem(format!("unknown template {:?}", entry.template)))?;
            let sha256 = sha256_of(digest).ok_or_else(|| {
                problem(format!("its digest is {}, not SHA-256", digest.algorithm))
            })?;
            if !entry.digest_covers_buffer() {
                return Err(problem("its digest is not that of its buffer".into()));
            }
            match entry.buffer {
                Some(_) => policy.accept_buffer(&entry.path, BufferRule::sha256(sha256))?,
                None => policy.accept_file(&entry.path, sha256)?,
            }
        }
        Ok(policy)
    }

    /// Accepts one file more.
    ///
    /// # Errors
    /// When there are too many.
    pub fn accept_file(&mut self, path: &str, digest: [u8; 32]) -> Result<(), PolicyError> {
        let files = &mut self.files.0;
        let full = files.len() >= MAX_FILES;
        match files.get_mut(path) {
            Some(digests) => digests.add(digest),
            None if full => {
                return Err(PolicyError::TooMany {
                    what: "files",
                    limit: MAX_FILES,
                })
            }
            None => {
                files.insert(path.into(), FileDigests::One(digest));
            }
        }
        Ok(())
    }

    /// Accepts what a buffer of this name may be.
    ///
    /// # Errors
    /// [`PolicyError::Key`], [`PolicyError::TooMany`].
    pub fn accept_buffer(&mut self, name: &str, rule: BufferRule) -> Result<(), PolicyError> {
        self.buffers.add(name, rule)
    }

    /// Accepts a device of device mapper.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn accept_device(&mut self, rule: DeviceRule) -> Result<(), PolicyError> {
        self.devices.add(rule)
    }

    /// Accepts files that this key signed.
    ///
    /// # Errors
    /// [`PolicyError::Key`], [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn accept_key(&mut self, key: SigningKey) -> Result<(), PolicyError> {
        self.keys.add(key)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn add_rule(&mut self, rule: PathRule) -> Result<(), PolicyError> {
        let all = union(self.rules.list(), std::slice::from_ref(&rule));
        self.rules = PathRules::new(all)?;
        Ok(())
    }

    /// Leaves paths out (globs): whatever they hold is accepted.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn exclude(&mut self, globs: &[String]) -> Result<(), PolicyError> {
        let patterns: Vec<PathPattern> = globs.iter().map(|glob| PathPattern::glob(glob)).collect();
        self.exclude_patterns(&patterns)
    }

    /// Leaves paths out: whatever they hold is accepted.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn exclude_patterns(&mut self, patterns: &[PathPattern]) -> Result<(), PolicyError> {
        self.excludes = Patterns::new(union(self.excludes.list(), patterns))?;
        Ok(())
    }

    /// Refuses whatever lies on these paths, whichever other rule accepts it.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn refuse_patterns(&mut self, patterns: &[PathPattern]) -> Result<(), PolicyError> {
        self.refuse = Patterns::new(union(self.refuse.list(), patterns))?;
        Ok(())
    }

    /// Accepts the files also under these prefixes of overlay file systems (globs without `**`).
    ///
    /// # Errors
    /// [`PolicyError::Pattern`], [`PolicyError::TooMany`].
    pub fn add_overlay(&mut self, prefixes: &[String]) -> Result<(), PolicyError> {
        let overlay = union(self.prefixes.overlay(), prefixes);
        self.prefixes = Prefixes::new(self.prefixes.also_under.clone(), overlay)?;
        Ok(())
    }

    /// Sets what is said to violations.
    pub fn set_violations(&mut self, rule: ViolationRule) {
        self.violations = rule;
    }

    /// Sets what is said to `memfd:` names.
    pub fn set_memfd(&mut self, rule: MemfdRule) {
        self.memfd = rule;
    }

    /// Accepts also what `other` accepts, and refuses what either refuses: the stricter rules about violations and
    /// memfd stay.
    ///
    /// # Errors
    /// When there are too many of something, or two keys have one name.
    pub fn merge(&mut self, other: &Self) -> Result<(), PolicyError> {
        for (path, digests) in &other.files.0 {
            for digest in digests.as_slice() {
                self.accept_file(path, *digest)?;
            }
        }
        for (name, rules) in other.buffers.written() {
            for rule in rules {
                self.accept_buffer(name, rule.clone())?;
            }
        }
        for key in other.keys.written() {
            self.accept_key(key.clone())?;
        }
        for device in other.devices.written() {
            self.accept_device(device.clone())?;
        }
        self.rules = PathRules::new(union(self.rules.list(), other.rules.list()))?;
        self.prefixes = Prefixes::new(
            union(&self.prefixes.also_under, &other.prefixes.also_under),
            union(self.prefixes.overlay(), other.prefixes.overlay()),
        )?;
        self.exclude_patterns(other.excludes.list())?;
        self.refuse_patterns(other.refuse.list())?;
        self.violations = self.violations.min(other.violations);
        self.memfd = self.memfd.min(other.memfd);
        Ok(())
    }
}

fn union<T: Clone + PartialEq>(one: &[T], other: &[T]) -> Vec<T> {
    let mut all = one.to_vec();
    for item in other {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    all
}

fn sha256_of(digest: &FileDigest) -> Option<[u8; 32]> {
    (digest.algorithm == "sha256")
        .then(|| digest.bytes.as_slice().try_into().ok())
        .flatten()
}
