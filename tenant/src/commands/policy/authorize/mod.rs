//! `bootkeep policy authorize`: the next boot, accepted before it happens.
//!
//! ```text
//! last boot (quoted, accepted by the live generation) + new files  ->  event log and PCR values of the next boot
//!   PCR values     signed with authorize.key, reference = the policy's name  ->  open the U that nodes keep
//!   event log      added to the live generation's document                   ->  the verifier lets V go
//! both in the next generation of the policy, signed with policy.key
//! ```

mod floor;
mod next;
mod shown;

use bootkeep_authorize::AuthorityKey;
use bootkeep_policy::{
    predict, BootPolicy, Generation, Generations, KnownGood, KnownGoodOptions, MadeBootPolicy,
    NextBoot, PolicyDocument, Predicted, SignedPolicy,
};
use bootkeep_protocol::{
    dsse::Envelope,
    kept::{SignedPcrPolicy, MAX_PCR_POLICIES},
    policy::{PolicyKind, PolicyObject, PolicyRecord},
    verifier::NodeStatus,
};

use super::{from_node, not_made, objects};
use crate::{
    cli::{Authorize, Form},
    clock::now_ms,
    evidence_file::EvidenceFile,
    files::{self, PUBLIC},
    node_name, output,
    pcr_choice::default_pcrs,
    services::Services,
    signing, Error, Home,
};
use floor::Floor;
use shown::Authorized;

/// Version of the objects that are made.
const VERSION: u32 = 1;

/// A boot known to be good, and what is foretold from it.
struct Foretold {
    last: KnownGood,
    next: Predicted,
}

pub(super) async fn authorize(form: Form, home: &Home, options: &Authorize) -> Result<(), Error> {
    // Before anything is asked of anybody.
    let key = signing::authority_key(home, options.name.as_bytes())?;
    let services = Services::open(home)?;
    let policy = Policy::fetch(home, &services, &options.name).await?;
    let boots = foretell(home, &services, options, &policy).await?;
    let made = document(&policy, &boots, options.fresh)?;
    let signed = sign(&key, &boots, options)?;
    policy.floor.check(&boots, options.allow_rollback)?;
    let object = policy.object(options, &made.policy, &signed)?;
    let envelope = objects::sign_object(home, &object)?;
    let shown = Authorized::new(&object, &signed, &boots, made.notes);
    finish(form, home, &services, options, &policy, envelope, shown).await
}

/// Gives it to the verifier, or writes it.
async fn finish(
    form: Form,
    home: &Home,
    services: &Services,
    options: &Authorize,
    policy: &Policy,
    envelope: Envelope,
    mut shown: Authorized,
) -> Result<(), Error> {
    let mut text = serde_json::to_vec(&envelope).map_err(failed)?;
    text.push(b'\n');
    if options.out.is_some() || !options.push {
        files::write_result(options.out.as_deref(), &text, PUBLIC)?;
    }
    if options.push {
        let signed = objects::verified(home, "the new generation".as_ref(), &envelope)?;
        let retired_now = match options.retire_older {
            true => objects::retire_older(home, services, &policy.records).await?,
            false => Vec::new(),
        };
        let record = services.put_policy(&signed, &envelope).await?;
        shown.given = Some(objects::Given {
            record,
            retired_now,
        });
    }
    output::print_beside(form, &shown, options.push || options.out.is_some())
}

/// What there is of the policy.
struct Policy {
    /// All generations.
    records: Vec<PolicyRecord>,
    /// Those that count now.
    live: Generations<BootPolicy>,
    floor: Floor,
}

impl Policy {
    async fn fetch(home: &Home, services: &Services, name: &str) -> Result<Self, Error> {
        if !bootkeep_policy::is_policy_name(name) {
            let what =
                format!("{name:?} is not the name of a policy: up to 64 of a-z, 0-9, '-' and '.'");
            return Err(Error::Usage(what));
        }
        let mut records = services.policies().await?;
        records.retain(|record| record.kind == PolicyKind::Boot && record.name == name);
        let keys = signing::policy_keys(home)?;
        let mut live: Vec<Generation<BootPolicy>> = Vec::new();
        let mut floor = Floor::default();
        for record in &records {
            let answer = services
                .policy(PolicyKind::Boot, name, record.generation)
                .await?;
            let signed = objects_of(&answer.envelope, &keys, record)?;
            let Some(generation) = signed.boot() else {
                continue;
            };
            floor.note(&generation.pcr_policies, record.retired);
            if record.live && !record.retired {
                live.push(generation);
            }
        }
        Ok(Self {
            records,
            live: Generations::new(live),
            floor,
        })
    }

    fn newest(&self) -> Option<&Generation<BootPolicy>> {
        self.live.all().first()
    }

    /// The base of a prediction must be a boot that is acceptable now.
    fn check_last(&self, last: &KnownGood) -> Result<(), Error> {
        if self.newest().is_none() {
            return Ok(());
        }
        let signatures = last.pcr_signatures.as_deref();
        let live = self.live.at(now_ms());
        live.dry_run_with(
            &last.pcrs,
            last.event_log.as_ref(),
            signatures,
            Some(&last.clock),
        )
        .map_err(|refusal| {
            let detail = format!("the live generations do not accept the last boot: {refusal}");
            Error::untrusted(crate::Party::OwnAppraisal, "boot-policy", detail)
        })
    }

    fn object(
        &self,
        options: &Authorize,
        policy: &BootPolicy,
        signed: &[SignedPcrPolicy],
    ) -> Result<PolicyObject, Error> {
        let generations = self.records.iter().map(|record| record.generation);
        let from = options.validity.valid_from.unwrap_or_else(now_ms);
        let length = options.validity.valid_for.as_millis();
        let until = from.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(PolicyObject {
            version: VERSION,
            name: options.name.clone(),
            kind: PolicyKind::Boot,
            generation: generations.max().unwrap_or(0) + 1,
            valid_from_ms: from,
            valid_until_ms: options.valid_until.unwrap_or(until),
            policy: policy.to_value().map_err(not_made)?,
            pcr_policies: self.pcr_policies(options.fresh, signed)?,
        })
    }

    /// Those of the live generation and the new ones.
    fn pcr_policies(
        &self,
        fresh: bool,
        signed: &[SignedPcrPolicy],
    ) -> Result<Vec<SignedPcrPolicy>, Error> {
        let mut all = signed.to_vec();
        let before = self.newest().filter(|_| !fresh);
        for policy in before.iter().flat_map(|live| live.pcr_policies.iter()) {
            if all.iter().all(|known| !same(known, policy)) {
                all.push(policy.clone());
            }
        }
        if all.len() > MAX_PCR_POLICIES {
            return Err(Error::Failed(format!(
                "a policy carries at most {MAX_PCR_POLICIES} signed PCR policies and this one would carry {}: close the \
                 old boots with --fresh, naming a node of each kind",
                all.len()
            )));
        }
        Ok(all)
    }
}

fn same(one: &SignedPcrPolicy, other: &SignedPcrPolicy) -> bool {
    one.pcrs == other.pcrs && one.policy == other.policy
}

/// The object in an envelope, which must be the one that was asked for.
fn objects_of(
    envelope: &Envelope,
    keys: &bootkeep_signed::VerifyingKeys,
    record: &PolicyRecord,
) -> Result<SignedPolicy, Error> {
    let refuse = |why: String| {
        let detail = format!(
            "generation {} of {:?}: {why}",
            record.generation, record.name
        );
        Error::untrusted(crate::Party::OwnAppraisal, "policy-signature", detail)
    };
    let signed = SignedPolicy::verify(envelope, keys).map_err(|error| refuse(error.to_string()))?;
    let is_it = (signed.kind(), signed.name(), signed.generation())
        == (record.kind, record.name.as_str(), record.generation);
    match (is_it, signed.document()) {
        (true, PolicyDocument::Boot(_)) => Ok(signed),
        _ => Err(refuse("the verifier gave another policy".into())),
    }
}

/// Every boot that is named, and the one after it.
async fn foretell(
    home: &Home,
    services: &Services,
    options: &Authorize,
    policy: &Policy,
) -> Result<Vec<Foretold>, Error> {
    let mut boots = Vec::new();
    for path in &options.log {
        let last = EvidenceFile::read(path)?.known_good(home)?;
        boots.push(foretell_one(policy, last, |last| {
            next::given(&options.files, last)
        })?);
    }
    for name in &options.node {
        let last = from_node(home, name).await?;
        let foretold = if options.reported {
            let status = status(home, services, name).await?;
            foretell_one(policy, last, |last| {
                let report = status.boot_files.as_ref();
                next::reported(&status.node_id, report, last)
            })?
        } else {
            foretell_one(policy, last, |last| next::given(&options.files, last))?
        };
        boots.push(foretold);
    }
    Ok(boots)
}

async fn status(home: &Home, services: &Services, name: &str) -> Result<NodeStatus, Error> {
    let node = node_name::find(home, services, name).await?;
    let status = services.status(&node).await?;
    status.ok_or_else(|| Error::NotFound(format!("{node} is not enrolled at the verifier")))
}

fn foretell_one(
    policy: &Policy,
    last: KnownGood,
    next: impl FnOnce(&bootkeep_evidence::eventlog::EventLog) -> Result<NextBoot, Error>,
) -> Result<Foretold, Error> {
    policy.check_last(&last)?;
    let Some(log) = &last.event_log else {
        let what = "the node has no boot event log: nothing can be foretold";
        return Err(Error::Failed(what.into()));
    };
    let next = predict(log, &next(log)?).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(Foretold { last, next })
}

/// The live generation's document with the foretold boots added; a new one when there is none.
fn document(policy: &Policy, boots: &[Foretold], fresh: bool) -> Result<MadeBootPolicy, Error> {
    let Some(live) = policy.newest().filter(|_| !fresh) else {
        return new_document(boots, fresh);
    };
    let mut made = MadeBootPolicy {
        policy: (*live.policy).clone(),
        notes: Vec::new(),
    };
    for boot in boots {
        let more = made.policy.extended(&boot.next, boot.last.clock);
        let MadeBootPolicy { policy, notes } = more.map_err(not_made)?;
        made.policy = policy;
        made.notes.extend(notes);
    }
    Ok(made)
}

fn new_document(boots: &[Foretold], fresh: bool) -> Result<MadeBootPolicy, Error> {
    let mut goods: Vec<KnownGood> = Vec::new();
    for Foretold { last, next } in boots {
        if !fresh {
            goods.push(last.clone());
        }
        goods.push(KnownGood {
            pcr_signatures: next.signatures.clone().or(last.pcr_signatures.clone()),
            ..next.known_good(last.clock)
        });
    }
    let open = boots.iter().flat_map(|boot| boot.next.open_pcrs());
    let options = KnownGoodOptions {
        without: open.collect(),
        ..KnownGoodOptions::default()
    };
    BootPolicy::from_known_good(&goods, &options).map_err(not_made)
}

/// Signs the values of each foretold boot in the initramfs.
fn sign(
    key: &AuthorityKey,
    boots: &[Foretold],
    options: &Authorize,
) -> Result<Vec<SignedPcrPolicy>, Error> {
    let mut all: Vec<SignedPcrPolicy> = Vec::new();
    for boot in boots {
        let pcrs = pcrs(&boot.next, options)?;
        for values in boot.next.pcrs_in_initramfs() {
            let values = values.iter().map(|(pcr, value)| (pcr, *value)).collect();
            let signed = key.sign(&pcrs, &values).map_err(failed)?;
            if all.iter().all(|known| !same(known, &signed)) {
                all.push(signed);
            }
        }
    }
    Ok(all)
}

/// The chosen PCRs; what cannot be foretold cannot be signed.
fn pcrs(next: &Predicted, options: &Authorize) -> Result<Vec<u8>, Error> {
    let chosen = options.pcrs.as_ref().map(|list| list.0.clone());
    let mut pcrs = match &chosen {
        Some(pcrs) => pcrs.clone(),
        None => default_pcrs(Some(&next.log))?,
    };
    let open = |pcr: &u8| next.open.iter().find(|open| open.pcr == *pcr);
    if let Some(open) = pcrs.iter().find_map(open).filter(|_| chosen.is_some()) {
        let what = format!(
            "PCR {} cannot be signed, it cannot be foretold: {open}",
            open.pcr
        );
        return Err(Error::Failed(what));
    }
    pcrs.retain(|pcr| open(pcr).is_none());
    // Without one of these any kernel or initramfs would open the node's share.
    if !pcrs.iter().any(|pcr| [4, 9, 11].contains(pcr)) {
        let why = next
            .open
            .first()
            .map_or_else(String::new, ToString::to_string);
        return Err(Error::Failed(format!(
            "neither PCR 4, 9 nor 11 is left to be signed, so nothing would say which kernel boots: {why}"
        )));
    }
    Ok(pcrs)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}
