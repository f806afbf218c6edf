//! `bootkeep policy create boot`.

use bootkeep_policy::{
    BootOptions, BootPolicy, KnownGood, KnownGoodOptions, MadeBootPolicy, RuleChoice,
};

use super::{from_node, not_made, summary::Summary};
use crate::{
    cli::{BootRules, CreateBoot, Form, PolicyFormat},
    evidence_file::EvidenceFile,
    files::{self, PUBLIC},
    output,
    policies::{boot_policy, AnyPolicy},
    Error, Home,
};

/// Makes a policy of known-good boots and writes it.
pub(super) async fn create(form: Form, home: &Home, options: &CreateBoot) -> Result<(), Error> {
    let boots = known_good(home, options).await?;
    let made = make(&boots, options)?;
    let text = write(&made.policy, options.format)?;
    let out = options.out.as_deref();
    files::write_result(out, text.as_bytes(), PUBLIC)?;
    let summary = Summary::of(&AnyPolicy::Boot(made.policy)).with(made.notes);
    output::print_beside(form, &summary, out.is_some())
}

async fn known_good(home: &Home, options: &CreateBoot) -> Result<Vec<KnownGood>, Error> {
    let mut boots = Vec::new();
    for path in &options.evidence {
        boots.push(EvidenceFile::read(path)?.known_good(home)?);
    }
    for name in &options.node {
        boots.push(from_node(home, name).await?);
    }
    Ok(boots)
}

fn make(boots: &[KnownGood], options: &CreateBoot) -> Result<MadeBootPolicy, Error> {
    let rules = match options.rules {
        BootRules::Values => return values(boots, options),
        BootRules::Signers => RuleChoice::Signers,
        BootRules::Digests => RuleChoice::Digests,
    };
    if !options.also.is_empty() {
        let text = "--also joins policies of version 1 (--rules values); else name all boots with --evidence or \
                    --node, or let the old policy be a generation beside the new one";
        return Err(Error::Usage(text.into()));
    }
    let options = KnownGoodOptions {
        rules,
        without: options.without.clone(),
    };
    BootPolicy::from_known_good(boots, &options).map_err(not_made)
}

/// Version 1.
fn values(boots: &[KnownGood], options: &CreateBoot) -> Result<MadeBootPolicy, Error> {
    let without = BootOptions {
        without: options.without.clone(),
    };
    let mut policies = boots.iter().map(|good| {
        BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &without).map_err(not_made)
    });
    let first = policies.next();
    let mut policy = first.ok_or_else(|| Error::Usage("name --node or --evidence".into()))??;
    for other in policies {
        policy.merge(&other?).map_err(not_made)?;
    }
    for path in &options.also {
        policy.merge(&boot_policy(path)?.0).map_err(not_made)?;
    }
    Ok(MadeBootPolicy {
        policy,
        notes: Vec::new(),
    })
}

fn write(policy: &BootPolicy, format: PolicyFormat) -> Result<String, Error> {
    match format {
        PolicyFormat::Yaml => policy.to_yaml().map_err(not_made),
        PolicyFormat::Json => serde_json::to_string_pretty(policy)
            .map(|text| text + "\n")
            .map_err(|error| Error::Failed(error.to_string())),
    }
}
