//! Policies as objects: signed, given to the verifier, listed, retired.

use std::path::Path;

use bootkeep_policy::{PolicyDocument, SignedPolicy};
use bootkeep_protocol::{
    dsse::Envelope,
    limits::MAX_FIELD,
    policy::{PolicyKind, PolicyObject, PolicyRecord},
};
use serde::Serialize;

use crate::{
    cli::{self, Form, Publish, Retire, Sign, Validity},
    clock::{now_ms, written},
    files::{self, PUBLIC},
    output::{self, table, Show},
    packages,
    policies::{any_policy, policy_file, AnyPolicy, PolicyFile, Retired},
    services::Services,
    signing, Error, Home,
};

/// Version of the objects that are made.
const VERSION: u32 = 1;

/// A signed policy in few words.
#[derive(Debug, Serialize)]
pub(super) struct Generation {
    /// Its name.
    name: String,
    /// Which evidence it is about.
    kind: PolicyKind,
    /// Its number.
    generation: u64,
    /// From then on it counts, milliseconds since 1970 (UTC).
    valid_from_ms: u64,
    /// Until then it counts, milliseconds since 1970 (UTC).
    valid_until_ms: u64,
    /// SHA-256 of what is signed, lower-case hex.
    digest: String,
}

impl Generation {
    pub(super) fn of(policy: &SignedPolicy) -> Self {
        let (valid_from_ms, valid_until_ms) = policy.window_ms();
        Self {
            name: policy.name().to_owned(),
            kind: policy.kind(),
            generation: policy.generation(),
            valid_from_ms,
            valid_until_ms,
            digest: policy.digest().to_owned(),
        }
    }
}

impl Show for Generation {
    fn human(&self) -> String {
        format!(
            "{} policy @{}, generation {}: counts from {} until {}\n",
            self.kind.as_str(),
            self.name,
            self.generation,
            written(self.valid_from_ms),
            written(self.valid_until_ms)
        )
    }
}

/// All policies of the verifier.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct List(Vec<PolicyRecord>);

fn state(record: &PolicyRecord, now: u64) -> &'static str {
    match record {
        it if it.retired => "retired",
        it if it.live => "counts",
        it if it.valid_from_ms > now => "later",
        _ => "over",
    }
}

impl Show for List {
    fn human(&self) -> String {
        if self.0.is_empty() {
            return "The verifier has no policy yet; make one with `bootkeep policy publish`.\n"
                .into();
        }
        let now = now_ms();
        let head = [
            "KIND",
            "NAME",
            "GENERATION",
            "STATE",
            "FROM",
            "UNTIL",
            "NODES",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(self.0.iter().map(|record| {
            vec![
                record.kind.as_str().to_owned(),
                format!("@{}", record.name),
                record.generation.to_string(),
                state(record, now).to_owned(),
                written(record.valid_from_ms),
                written(record.valid_until_ms),
                record.nodes.to_string(),
            ]
        }));
        table(&rows)
    }
}

/// What was given to the verifier.
#[derive(Debug, Serialize)]
pub(super) struct Given {
    /// As the verifier has it.
    #[serde(flatten)]
    pub(super) record: PolicyRecord,
    /// Generations retired to make room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) retired_now: Vec<u64>,
}

impl Show for Given {
    fn human(&self) -> String {
        let mut text = String::new();
        for number in &self.retired_now {
            text.push_str(&format!("generation {number} is retired\n"));
        }
        text + &describe(&self.record)
    }
}

fn describe(record: &PolicyRecord) -> String {
    format!(
        "{} policy @{}, generation {}: {}, until {}; {} nodes follow the name\n",
        record.kind.as_str(),
        record.name,
        record.generation,
        state(record, now_ms()),
        written(record.valid_until_ms),
        record.nodes
    )
}

/// What was retired.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct RetiredNow(PolicyRecord);

impl Show for RetiredNow {
    fn human(&self) -> String {
        describe(&self.0)
    }
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

/// What is to be signed, but for its number.
struct Draft<'a> {
    name: &'a str,
    kind: Option<cli::Kind>,
    validity: &'a Validity,
    file: &'a Path,
}

impl Draft<'_> {
    /// The document and its kind, which must be the one that was asked for.
    fn document(&self) -> Result<(PolicyKind, AnyPolicy), Error> {
        let policy = any_policy(self.file)?;
        let kind = match policy {
            AnyPolicy::Boot(_) => PolicyKind::Boot,
            AnyPolicy::Runtime(_) => PolicyKind::Runtime,
        };
        if self
            .kind
            .is_some_and(|wanted| PolicyKind::from(wanted) != kind)
        {
            let what = format!("this is a {} policy", kind.as_str());
            return Err(unusable(self.file, what));
        }
        Ok((kind, policy))
    }

    fn object(&self, generation: u64) -> Result<PolicyObject, Error> {
        let (kind, policy) = self.document()?;
        let from = self.validity.valid_from.unwrap_or_else(now_ms);
        let length = u64::try_from(self.validity.valid_for.as_millis()).unwrap_or(u64::MAX);
        Ok(PolicyObject {
            version: VERSION,
            name: self.name.to_owned(),
            kind,
            generation,
            valid_from_ms: from,
            valid_until_ms: from.saturating_add(length),
            policy: policy
                .to_value()
                .map_err(|error| unusable(self.file, error))?,
            pcr_policies: Vec::new(),
        })
    }

    fn sign(&self, home: &Home, generation: u64) -> Result<Envelope, Error> {
        // A home without a key is told so before the document is read.
        signing::policy_key(home)?;
        sign_object(home, &self.object(generation)?).map_err(|error| match error {
            Error::Failed(what) => unusable(self.file, what),
            other => other,
        })
    }
}

/// Signs an object with the home's policy key.
///
/// # Errors
/// [`Error::Failed`] for an object that is no policy or too large; errors of the key.
pub(super) fn sign_object(home: &Home, object: &PolicyObject) -> Result<Envelope, Error> {
    let key = signing::policy_key(home)?;
    let envelope =
        SignedPolicy::sign(object, &key).map_err(|error| Error::Failed(error.to_string()))?;
    if envelope.payload.as_slice().len() > MAX_FIELD {
        return Err(Error::Failed(format!(
            "a signed policy has at most {MAX_FIELD} bytes; make it of fewer packages"
        )));
    }
    Ok(envelope)
}

/// `bootkeep policy sign`.
pub(super) fn sign(form: Form, home: &Home, options: &Sign) -> Result<(), Error> {
    let draft = Draft {
        name: &options.name,
        kind: options.kind,
        validity: &options.validity,
        file: &options.file,
    };
    let envelope = draft.sign(home, options.generation)?;
    let signed = verified(home, &options.file, &envelope)?;
    let mut text = serde_json::to_vec(&envelope).map_err(|error| unusable(&options.file, error))?;
    text.push(b'\n');
    files::write_result(options.out.as_deref(), &text, PUBLIC)?;
    output::print_beside(form, &Generation::of(&signed), options.out.is_some())
}

/// The policy in an envelope, when one of the home's own keys has signed it.
pub(super) fn verified(
    home: &Home,
    path: &Path,
    envelope: &Envelope,
) -> Result<SignedPolicy, Error> {
    let keys = signing::policy_keys(home)?;
    SignedPolicy::verify(envelope, &keys).map_err(|error| {
        let detail = format!("{}: {error}", path.display());
        Error::untrusted(crate::Party::OwnAppraisal, "policy-signature", detail)
    })
}

/// The document of a signed policy.
pub(super) fn document_of(policy: &SignedPolicy) -> AnyPolicy {
    match policy.document() {
        PolicyDocument::Boot(policy) => AnyPolicy::Boot((**policy).clone()),
        PolicyDocument::Runtime(policy) => AnyPolicy::Runtime(Box::new((**policy).clone())),
    }
}

/// `bootkeep policy push`.
pub(super) async fn push(form: Form, home: &Home, file: &Path) -> Result<(), Error> {
    let PolicyFile::Signed(envelope) = policy_file(file)? else {
        let what =
            "not signed; sign it with `bootkeep policy sign`, or use `bootkeep policy publish`";
        return Err(unusable(file, what));
    };
    let policy = verified(home, file, &envelope)?;
    let record = Services::open(home)?.put_policy(&policy, &envelope).await?;
    let given = Given {
        record,
        retired_now: Vec::new(),
    };
    output::print(form, &given)
}

/// `bootkeep policy publish`.
pub(super) async fn publish(form: Form, home: &Home, options: &Publish) -> Result<(), Error> {
    let draft = Draft {
        name: &options.name,
        kind: options.kind,
        validity: &options.validity,
        file: &options.file,
    };
    let (kind, _) = draft.document()?;
    let services = Services::open(home)?;
    let mut records = services.policies().await?;
    records.retain(|record| record.kind == kind && record.name == options.name);
    let newest = records.iter().map(|record| record.generation).max();
    let generation = newest.unwrap_or(0) + 1;
    let envelope = draft.sign(home, generation)?;
    let policy = verified(home, &options.file, &envelope)?;
    let retired_now = match options.retire_older {
        true => retire_older(home, &services, &records).await?,
        false => Vec::new(),
    };
    let record = services.put_policy(&policy, &envelope).await?;
    packages::keep(home, &options.file, &options.name, generation)?;
    output::print(
        form,
        &Given {
            record,
            retired_now,
        },
    )
}

/// Retires all of these but the newest; gives their numbers.
///
/// # Errors
/// Errors of the verifier.
pub(super) async fn retire_older(
    home: &Home,
    services: &Services,
    records: &[PolicyRecord],
) -> Result<Vec<u64>, Error> {
    let newest = records.iter().map(|record| record.generation).max();
    let mut retired = Vec::new();
    let older = |record: &&PolicyRecord| !record.retired && Some(record.generation) < newest;
    for record in records.iter().filter(older) {
        let number = record.generation;
        retire_one(home, services, record.kind, &record.name, number).await?;
        retired.push(number);
    }
    Ok(retired)
}

/// `bootkeep policy list`.
pub(super) async fn list(form: Form, home: &Home) -> Result<(), Error> {
    let mut records = Services::open(home)?.policies().await?;
    records.sort_by(|a, b| (a.kind, &a.name, a.generation).cmp(&(b.kind, &b.name, b.generation)));
    output::print(form, &List(records))
}

/// `bootkeep policy retire`.
pub(super) async fn retire(form: Form, home: &Home, options: &Retire) -> Result<(), Error> {
    let services = Services::open(home)?;
    let kind = options.kind.into();
    let record = retire_one(home, &services, kind, &options.name, options.generation).await?;
    output::print(form, &RetiredNow(record))
}

/// At the verifier first, which refuses to leave nodes without a policy; then here, where it never counts again.
async fn retire_one(
    home: &Home,
    services: &Services,
    kind: PolicyKind,
    name: &str,
    generation: u64,
) -> Result<PolicyRecord, Error> {
    let record = services.retire_policy(kind, name, generation).await?;
    Retired::load(home)?.add(home, kind, name, generation)?;
    Ok(record)
}
