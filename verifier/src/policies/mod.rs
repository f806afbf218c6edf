//! Policies of the fleet: signed by the owner, kept durably, shared by all nodes that follow them.

mod line;
mod named;
mod shelf;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bootkeep_policy::{is_policy_name, BootPolicy, RuntimePolicy, SignedPolicy};
use bootkeep_protocol::{
    dsse::Envelope,
    policy::{PolicyKind, PolicyRecord},
    Problem, ProblemKind,
};
use bootkeep_signed::VerifyingKeys;

use line::Content;
pub(crate) use line::{Kind, Line};
use named::{Known, Named, Taking};
pub(crate) use shelf::Shelf;

use crate::{
    clock::now_ms,
    store::{Database, PolicyRow},
    VerifierError,
};

/// Named policies of both kinds together.
const MAX_POLICIES: usize = 512;

/// Names a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PolicyId {
    pub(crate) kind: PolicyKind,
    pub(crate) name: String,
}

/// How many nodes follow each named policy.
pub(crate) type Followers = HashMap<PolicyId, u64>;

/// All policies this verifier has.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    pub(crate) boot: Shelf<BootPolicy>,
    pub(crate) runtime: Shelf<RuntimePolicy>,
    keys: Option<VerifyingKeys>,
    named: Mutex<BTreeMap<PolicyId, Named>>,
    /// Held while a change is worked out, stored and published.
    gate: tokio::sync::Mutex<()>,
}

impl Policies {
    /// Reads what is stored. Each row is verified anew: what the database says counts only when the owner signed it. A
    /// row that cannot be read is left out and logged; its number still keeps older generations out.
    pub(crate) async fn load(
        database: &Database,
        keys: Option<VerifyingKeys>,
    ) -> Result<Self, VerifierError> {
        let policies = Self {
            keys,
            ..Self::default()
        };
        for row in database.policies().await? {
            policies.restore(row);
        }
        let ids: Vec<PolicyId> = policies.named().keys().cloned().collect();
        ids.iter().for_each(|id| policies.publish(id));
        Ok(policies)
    }

    fn restore(&self, row: PolicyRow) {
        let policy = self.verify(&row.id, row.generation, &row.envelope);
        let policy = policy.inspect_err(|problem| {
            tracing::error!(kind = row.id.kind.as_str(), name = row.id.name, generation = row.generation, %problem,
                "a stored policy does not count");
        });
        let known = Known {
            policy: policy.ok(),
            retired: row.retired,
        };
        let mut named = self.named();
        let policy = named.entry(row.id).or_default();
        policy.generations.insert(row.generation, known);
    }

    fn named(&self) -> MutexGuard<'_, BTreeMap<PolicyId, Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &PolicyId) -> Named {
        self.named().get(id).cloned().unwrap_or_default()
    }

    /// The policy in an envelope, when it is signed by the owner and is the generation it is said to be.
    pub(crate) fn verify(
        &self,
        id: &PolicyId,
        generation: u64,
        envelope: &Envelope,
    ) -> Result<SignedPolicy, Problem> {
        let Some(keys) = &self.keys else {
            let detail = "verifier.yaml names no policy_keys: no signed policy counts here";
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "no-policy-keys",
                detail,
            ));
        };
        let policy = SignedPolicy::verify(envelope, keys).map_err(|error| {
            Problem::new(ProblemKind::Untrusted, "bad-policy", error.to_string())
        })?;
        let said = (policy.kind(), policy.name(), policy.generation());
        if said != (id.kind, id.name.as_str(), generation) {
            let detail = format!(
                "what was signed is generation {} of the {} policy {:?}",
                said.2,
                said.0.as_str(),
                said.1
            );
            return Err(Problem::new(ProblemKind::Untrusted, "other-policy", detail));
        }
        Ok(policy)
    }

    /// Takes a generation. Durable when it returns; the same again changes nothing.
    pub(crate) async fn put(
        &self,
        database: &Database,
        id: &PolicyId,
        policy: SignedPolicy,
        envelope: &Envelope,
    ) -> Result<(), Problem> {
        let _gate = self.gate.lock().await;
        self.check_room(id)?;
        let mut named = self.get(id);
        let Taking::New(over) = named.consider(&policy, now_ms())? else {
            return Ok(());
        };
        let generation = policy.generation();
        database
            .put_policy(id, generation, envelope, &over)
            .await
            .map_err(Problem::from)?;
        named.generations.retain(|number, _| !over.contains(number));
        let known = Known {
            policy: Some(policy),
            retired: false,
        };
        named.generations.insert(generation, known);
        self.change(id, named);
        Ok(())
    }

    fn check_room(&self, id: &PolicyId) -> Result<(), Problem> {
        let named = self.named();
        if named.len() < MAX_POLICIES || named.contains_key(id) {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Conflict,
            "too-many-policies",
            format!("there are {MAX_POLICIES} policies already: use one of their names"),
        ))
    }

    /// Retires a generation. What nodes follow cannot vanish: another generation must count first.
    pub(crate) async fn retire(
        &self,
        database: &Database,
        id: &PolicyId,
        generation: u64,
        followers: impl Fn() -> Followers,
    ) -> Result<(), Problem> {
        let _gate = self.gate.lock().await;
        let mut named = self.get(id);
        let last = named.is_last(generation, now_ms());
        let known = named.generations.get_mut(&generation);
        let known = known.ok_or_else(unknown)?;
        if known.retired {
            return Ok(());
        }
        let nodes = followers().get(id).copied().unwrap_or_default();
        if last && nodes > 0 {
            let detail = format!(
                "{nodes} nodes follow {:?} and no other generation of it counts now: sign the next one first",
                id.name
            );
            return Err(Problem::new(ProblemKind::Conflict, "policy-in-use", detail));
        }
        known.retired = true;
        database
            .retire_policy(id, generation)
            .await
            .map_err(Problem::from)?;
        self.change(id, named);
        Ok(())
    }

    fn change(&self, id: &PolicyId, named: Named) {
        self.named().insert(id.clone(), named);
        self.publish(id);
    }

    /// Running attestations use it at their next question.
    fn publish(&self, id: &PolicyId) {
        let named = self.get(id);
        match id.kind {
            PolicyKind::Boot => self
                .boot
                .named(&id.name)
                .publish(Content::of(named.usable())),
            PolicyKind::Runtime => {
                let line: Arc<Line<RuntimePolicy>> = self.runtime.named(&id.name);
                line.publish(Content::of(named.usable()));
            }
        }
    }

    /// All generations that can be read.
    pub(crate) fn records(&self, followers: &Followers) -> Vec<PolicyRecord> {
        let now = now_ms();
        let named = self.named();
        let records = named.iter().flat_map(|(id, named)| {
            let nodes = followers.get(id).copied().unwrap_or_default();
            let numbers = named.generations.keys();
            numbers.filter_map(move |number| named.record(id.kind, *number, nodes, now))
        });
        records.collect()
    }

    /// One generation.
    pub(crate) fn record(
        &self,
        id: &PolicyId,
        generation: u64,
        followers: &Followers,
    ) -> Result<PolicyRecord, Problem> {
        let nodes = followers.get(id).copied().unwrap_or_default();
        let record = self.get(id).record(id.kind, generation, nodes, now_ms());
        record.ok_or_else(unknown)
    }

    /// Generations that count now, by kind.
    pub(crate) fn live(&self) -> BTreeMap<&'static str, u64> {
        let now = now_ms();
        let mut live = BTreeMap::new();
        for (id, named) in self.named().iter() {
            *live.entry(id.kind.as_str()).or_default() += named.live(now);
        }
        live
    }
}

pub(crate) fn unknown() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "unknown-policy",
        "there is no such generation of such a policy",
    )
}

/// A policy named in a path.
pub(crate) fn policy_id(kind: &str, name: &str) -> Result<PolicyId, Problem> {
    let kind = [PolicyKind::Boot, PolicyKind::Runtime]
        .into_iter()
        .find(|known| known.as_str() == kind)
        .ok_or_else(unknown)?;
    if !is_policy_name(name) {
        return Err(unknown());
    }
    Ok(PolicyId {
        kind,
        name: name.to_owned(),
    })
}
