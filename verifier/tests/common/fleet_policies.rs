//! Signed policies of a test's owner.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use bootkeep_link::HttpError;
use bootkeep_policy::{BootPolicy, RuntimePolicy, SignedPolicy};
use bootkeep_protocol::{
    dsse::Envelope,
    policy::{PolicyKind, PolicyObject, PolicyRecord, PolicySource},
    verifier::Enrolment,
};
use serde_json::{json, Value};

use crate::common::{enrolment, machine::Machine, policies, World};

pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

/// A generation that counts now and for an hour.
pub fn object(kind: PolicyKind, name: &str, generation: u64, policy: Value) -> PolicyObject {
    PolicyObject {
        version: 1,
        name: name.into(),
        kind,
        generation,
        valid_from_ms: now_ms() - 1000,
        valid_until_ms: now_ms() + 3_600_000,
        policy,
        pcr_policies: Vec::new(),
    }
}

pub fn boot_object(generation: u64, policy: &BootPolicy) -> PolicyObject {
    let value = policy.to_value().unwrap();
    object(PolicyKind::Boot, "base", generation, value)
}

pub fn runtime_object(generation: u64, policy: &RuntimePolicy) -> PolicyObject {
    let value = policy.to_value().unwrap();
    object(PolicyKind::Runtime, "web", generation, value)
}

/// Which route a policy has.
pub fn policy_url(world: &World, object: &PolicyObject) -> String {
    let (kind, name) = (object.kind.as_str(), &object.name);
    format!(
        "{}/v1/policies/{kind}/{name}/{}",
        world.url, object.generation
    )
}

impl World {
    pub fn sign(&self, object: &PolicyObject) -> Envelope {
        SignedPolicy::sign(object, &self.policy_key).unwrap()
    }

    pub async fn put_policy(&self, object: &PolicyObject) -> Result<PolicyRecord, HttpError> {
        let url = policy_url(self, object);
        self.tenant.put(&url, &self.sign(object)).await
    }

    pub async fn retire(&self, object: &PolicyObject) -> Result<PolicyRecord, HttpError> {
        let url = format!("{}/retire", policy_url(self, object));
        self.tenant.post(&url, &json!({})).await
    }

    /// A machine that is enrolled to follow the boot policy `base` and the runtime policy `web`, each of one generation
    /// that fits its present boot.
    pub async fn following(&self, name: &str) -> (Machine, Enrolment) {
        let machine = Machine::booted(name);
        let (boot, runtime) = policies(&machine);
        self.put_policy(&boot_object(1, &boot)).await.unwrap();
        self.put_policy(&runtime_object(1, &runtime)).await.unwrap();
        self.register(&machine, 1);
        let mut enrolment = enrolment(&machine);
        enrolment.boot_policy = PolicySource::Named("base".into());
        enrolment.runtime_policy = PolicySource::Named("web".into());
        self.enrol(&machine.node, &enrolment).await.unwrap();
        (machine, enrolment)
    }
}
