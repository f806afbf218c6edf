//! From packages to a policy and the index beside it.

use bootkeep_policy::RuntimePolicy;

use super::{Index, Package};
use crate::Error;

/// Folders that became links into /usr: packages still name the old path, the kernel writes the new one.
const MERGED: [&str; 6] = ["/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/"];

/// Takes files of packages.
pub(crate) struct Collector<'a> {
    policy: &'a mut RuntimePolicy,
    index: &'a mut Index,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(policy: &'a mut RuntimePolicy, index: &'a mut Index) -> Self {
        Self { policy, index }
    }

    /// A package, whose files follow.
    pub(crate) fn package(&mut self, package: Package) -> usize {
        self.index.package(package)
    }

    /// A file of a package.
    pub(crate) fn file(
        &mut self,
        package: usize,
        path: &str,
        digest: [u8; 32],
    ) -> Result<(), Error> {
        self.one(package, path, digest)?;
        if MERGED.iter().any(|folder| path.starts_with(folder)) {
            self.one(package, &format!("/usr{path}"), digest)?;
        }
        Ok(())
    }

    fn one(&mut self, package: usize, path: &str, digest: [u8; 32]) -> Result<(), Error> {
        self.index.own(path, package);
        self.policy
            .accept_file(path, digest)
            .map_err(|error| Error::Failed(error.to_string()))
    }
}
