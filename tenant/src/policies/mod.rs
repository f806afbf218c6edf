//! Policies: read from files or followed by name, told apart, held against evidence.

mod choice;
mod document;
mod named;
mod retired;

use std::sync::Arc;

use bootkeep_policy::{BootPolicy, Generation, Generations, Live, RuntimePolicy};
use bootkeep_protocol::policy::{PolicyKind, PolicySource};
use serde_json::Value;

use crate::{clock::now_ms, local::LocalNode, services::Services, Error, Home};

pub use choice::{PolicyChoice, Wanted};
pub use document::{any_policy, boot_policy, policy_file, runtime_policy, AnyPolicy, PolicyFile};
pub use named::fetch;
pub use retired::Retired;

/// Largest policy file that is read (bytes): it must fit into an enrolment.
pub const MAX_POLICY: u64 = 16 * 1024 * 1024;

/// A policy as what is held against evidence and as what an enrolment says of it.
#[derive(Clone, Debug)]
pub struct Held<P> {
    /// A document, or the name that is followed.
    pub source: PolicySource,
    /// What it accepts, and when.
    pub generations: Arc<Generations<P>>,
}

impl<P> Held<P> {
    fn document(policy: P, value: Value) -> Self {
        Self {
            source: PolicySource::Document(value),
            generations: Arc::new(Generations::document(Arc::new(policy))),
        }
    }

    fn named(name: &str, generations: Vec<Generation<P>>) -> Self {
        Self {
            source: PolicySource::Named(name.to_owned()),
            generations: Arc::new(Generations::new(generations)),
        }
    }
}

/// A pair of policies.
#[derive(Clone, Debug)]
pub struct Policies {
    /// For the boot.
    pub boot: Held<BootPolicy>,
    /// For every measured file.
    pub runtime: Held<RuntimePolicy>,
}

/// What counts at this moment.
#[derive(Debug)]
pub struct Now<'a> {
    boot: Live<'a, BootPolicy>,
    runtime: Live<'a, RuntimePolicy>,
}

impl Now<'_> {
    /// For an appraisal.
    #[must_use]
    pub fn held(&self) -> bootkeep_policy::Policies<'_> {
        bootkeep_policy::Policies {
            boot: self.boot,
            runtime: &self.runtime,
        }
    }

    /// For the boot.
    #[must_use]
    pub fn boot(&self) -> Live<'_, BootPolicy> {
        self.boot
    }

    /// For every measured file.
    #[must_use]
    pub fn runtime(&self) -> Live<'_, RuntimePolicy> {
        self.runtime
    }
}

/// Where policies are found.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// With the keys whose policies count.
    pub home: &'a Home,
    /// With the verifier that keeps them.
    pub services: &'a Services,
}

impl Sources<'_> {
    /// The boot policy of this choice.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the file; [`Error::NotFound`] for a name without a generation that counts.
    pub async fn boot(&self, choice: &PolicyChoice) -> Result<Held<BootPolicy>, Error> {
        match choice {
            PolicyChoice::File(path) => {
                let (policy, value) = boot_policy(path)?;
                Ok(Held::document(policy, value))
            }
            PolicyChoice::Named(wanted) => {
                let found = fetch(self, PolicyKind::Boot, wanted).await?;
                let generations = found.iter().filter_map(|policy| policy.boot()).collect();
                Ok(Held::named(&wanted.name, generations))
            }
        }
    }

    /// The runtime policy of this choice.
    ///
    /// # Errors
    /// As [`Sources::boot`].
    pub async fn runtime(&self, choice: &PolicyChoice) -> Result<Held<RuntimePolicy>, Error> {
        match choice {
            PolicyChoice::File(path) => {
                let (policy, value) = runtime_policy(path)?;
                Ok(Held::document(policy, value))
            }
            PolicyChoice::Named(wanted) => {
                let found = fetch(self, PolicyKind::Runtime, wanted).await?;
                let generations = found.iter().filter_map(|policy| policy.runtime()).collect();
                Ok(Held::named(&wanted.name, generations))
            }
        }
    }

    /// Both.
    ///
    /// # Errors
    /// As [`Sources::boot`].
    pub async fn pair(
        &self,
        boot: &PolicyChoice,
        runtime: &PolicyChoice,
    ) -> Result<Policies, Error> {
        Ok(Policies {
            boot: self.boot(boot).await?,
            runtime: self.runtime(runtime).await?,
        })
    }

    /// The policies a node was provisioned with: its documents, or what counts of the names it follows.
    ///
    /// # Errors
    /// [`Error::Failed`] when what is kept is damaged; as [`Sources::boot`].
    pub async fn of(&self, node: &LocalNode) -> Result<Policies, Error> {
        let damaged = |error: bootkeep_policy::PolicyError| {
            Error::Failed(format!("the policies kept of {}: {error}", node.node_id))
        };
        let boot = match &node.boot_policy {
            PolicySource::Named(name) => self.boot(&PolicyChoice::named(name)).await?,
            PolicySource::Document(value) => Held::document(
                BootPolicy::from_value(value.clone()).map_err(damaged)?,
                value.clone(),
            ),
        };
        let runtime = match &node.runtime_policy {
            PolicySource::Named(name) => self.runtime(&PolicyChoice::named(name)).await?,
            PolicySource::Document(value) => Held::document(
                RuntimePolicy::from_value(value.clone()).map_err(damaged)?,
                value.clone(),
            ),
        };
        Ok(Policies { boot, runtime })
    }

    /// The same policies, with the generations that the verifier has now.
    ///
    /// # Errors
    /// As [`Sources::boot`].
    pub async fn again(&self, policies: &Policies) -> Result<Policies, Error> {
        let mut fresh = policies.clone();
        if let PolicySource::Named(name) = &policies.boot.source {
            fresh.boot = self.boot(&PolicyChoice::named(name)).await?;
        }
        if let PolicySource::Named(name) = &policies.runtime.source {
            fresh.runtime = self.runtime(&PolicyChoice::named(name)).await?;
        }
        Ok(fresh)
    }
}

impl Policies {
    /// What counts at this moment.
    #[must_use]
    pub fn now(&self) -> Now<'_> {
        let now = now_ms();
        Now {
            boot: self.boot.generations.at(now),
            runtime: self.runtime.generations.at(now),
        }
    }

    /// For a dry run: a single generation that was named is held against evidence as if it counted now.
    #[must_use]
    pub fn at_any_time(&self, choices: (Option<&PolicyChoice>, Option<&PolicyChoice>)) -> Now<'_> {
        let pinned = |choice: Option<&PolicyChoice>| choice.is_some_and(PolicyChoice::is_pinned);
        let mut now = self.now();
        if let (true, Some(one)) = (pinned(choices.0), self.boot.generations.all().first()) {
            now.boot = (&*one.policy).into();
        }
        if let (true, Some(one)) = (pinned(choices.1), self.runtime.generations.all().first()) {
            now.runtime = (&*one.policy).into();
        }
        now
    }
}
