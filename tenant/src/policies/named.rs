//! Named policies, fetched from the verifier and believed only on the owner's own signature.

use bootkeep_policy::SignedPolicy;
use bootkeep_protocol::{
    limits::clean_text,
    policy::{PolicyAnswer, PolicyKind, PolicyRecord},
};

use super::{choice::Wanted, Retired, Sources};
use crate::{error::Party, signing, Error};

/// The generations of a policy that may count now, or the one that is wanted. Each is verified with the owner's own
/// key, and must be what it was asked for as.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Untrusted`] when one is not the owner's.
pub async fn fetch(
    sources: &Sources<'_>,
    kind: PolicyKind,
    wanted: &Wanted,
) -> Result<Vec<SignedPolicy>, Error> {
    let keys = signing::policy_keys(sources.home)?;
    let retired = Retired::load(sources.home)?;
    let records = sources.services.policies().await?;
    let mut policies = Vec::new();
    for record in records
        .iter()
        .filter(|record| is_wanted(record, kind, wanted))
    {
        let number = record.generation;
        if wanted.generation.is_none() && retired.has(kind, &wanted.name, number) {
            continue;
        }
        let answer: PolicyAnswer = sources.services.policy(kind, &wanted.name, number).await?;
        let policy = SignedPolicy::verify(&answer.envelope, &keys).map_err(|error| {
            refuse(format!(
                "{} policy {:?}, generation {number}: {error}",
                kind.as_str(),
                wanted.name
            ))
        })?;
        if (policy.kind(), policy.name(), policy.generation()) != (kind, &*wanted.name, number) {
            return Err(refuse(format!(
                "asked for generation {number} of the {} policy {:?}, the verifier gave generation {} of {:?}",
                kind.as_str(),
                wanted.name,
                policy.generation(),
                policy.name()
            )));
        }
        policies.push(policy);
    }
    if policies.is_empty() {
        return Err(missing(kind, wanted));
    }
    Ok(policies)
}

fn is_wanted(record: &PolicyRecord, kind: PolicyKind, wanted: &Wanted) -> bool {
    record.kind == kind
        && record.name == wanted.name
        && match wanted.generation {
            Some(number) => record.generation == number,
            None => record.live && !record.retired,
        }
}

fn refuse(detail: String) -> Error {
    Error::untrusted(Party::OwnAppraisal, "policy-signature", clean_text(&detail))
}

fn missing(kind: PolicyKind, wanted: &Wanted) -> Error {
    let kind = kind.as_str();
    Error::NotFound(match wanted.generation {
        Some(number) => format!(
            "there is no generation {number} of a {kind} policy {:?}; `bootkeep policy list` shows all",
            wanted.name
        ),
        None => format!(
            "no generation of a {kind} policy {:?} counts now; make one with `bootkeep policy publish --name {}`",
            wanted.name, wanted.name
        ),
    })
}
