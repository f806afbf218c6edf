//! Policy documents: read, kept as values, told apart.

use std::path::Path;

use bootkeep_policy::{BootPolicy, PolicyError, RuntimePolicy};
use serde_json::Value;

use crate::{files, local::LocalNode, Error};

/// Largest policy file that is read (bytes): it must fit into an enrolment.
pub const MAX_POLICY: u64 = 16 * 1024 * 1024;

/// A pair of policies, each as what is held against evidence and as the document that travels.
#[derive(Clone, Debug)]
pub struct Policies {
    /// For the boot.
    pub boot: (BootPolicy, Value),
    /// For every measured file.
    pub runtime: (RuntimePolicy, Value),
}

impl Policies {
    /// Reads two files.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the file; also for a policy that accepts nothing.
    pub fn read(boot: &Path, runtime: &Path) -> Result<Self, Error> {
        Ok(Self {
            boot: boot_policy(boot)?,
            runtime: runtime_policy(runtime)?,
        })
    }

    /// The policies a node was provisioned with.
    ///
    /// # Errors
    /// [`Error::Failed`] when what is kept is damaged.
    pub fn of(node: &LocalNode) -> Result<Self, Error> {
        let damaged = |error: PolicyError| {
            Error::Failed(format!("the policies kept of {}: {error}", node.node_id))
        };
        let (boot, runtime) = (node.boot_policy.clone(), node.runtime_policy.clone());
        Ok(Self {
            boot: (BootPolicy::from_value(boot.clone()).map_err(damaged)?, boot),
            runtime: (
                RuntimePolicy::from_value(runtime.clone()).map_err(damaged)?,
                runtime,
            ),
        })
    }

    /// For an appraisal.
    #[must_use]
    pub fn held(&self) -> bootkeep_policy::Policies<'_> {
        bootkeep_policy::Policies {
            boot: (&self.boot.0).into(),
            runtime: &self.runtime.0,
        }
    }
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

/// Reads a boot policy that accepts something.
///
/// # Errors
/// [`Error::Usage`] naming the file; errors of files.
pub fn boot_policy(path: &Path) -> Result<(BootPolicy, Value), Error> {
    let text = files::read(path, MAX_POLICY)?;
    let policy = BootPolicy::from_json(&text).map_err(|error| unusable(path, error))?;
    if policy.is_empty() {
        return Err(unusable(
            path,
            "this boot policy names no PCR and accepts nothing",
        ));
    }
    let value = policy.to_value().map_err(|error| unusable(path, error))?;
    Ok((policy, value))
}

/// Reads a runtime policy that accepts something.
///
/// # Errors
/// [`Error::Usage`] naming the file; errors of files.
pub fn runtime_policy(path: &Path) -> Result<(RuntimePolicy, Value), Error> {
    let text = files::read(path, MAX_POLICY)?;
    let policy = RuntimePolicy::from_json(&text).map_err(|error| unusable(path, error))?;
    if policy.is_empty() {
        return Err(unusable(
            path,
            "this runtime policy lists no file and accepts nothing",
        ));
    }
    let value = policy.to_value().map_err(|error| unusable(path, error))?;
    Ok((policy, value))
}

/// A policy of either kind.
#[derive(Clone, Debug)]
pub enum AnyPolicy {
    /// For the boot.
    Boot(BootPolicy),
    /// For every measured file.
    Runtime(RuntimePolicy),
}

/// Reads a policy and finds out which kind it is; it may accept nothing.
///
/// # Errors
/// [`Error::Usage`] with the problem of the kind it resembles; errors of files.
pub fn any_policy(path: &Path) -> Result<AnyPolicy, Error> {
    let text = files::read(path, MAX_POLICY)?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| unusable(path, error))?;
    let read = if value.get("pcrs").is_some() {
        BootPolicy::from_value(value).map(AnyPolicy::Boot)
    } else if value.get("files").is_some() {
        RuntimePolicy::from_value(value).map(AnyPolicy::Runtime)
    } else {
        return Err(unusable(
            path,
            "neither a boot policy (pcrs) nor a runtime policy (files)",
        ));
    };
    read.map_err(|error| unusable(path, error))
}
