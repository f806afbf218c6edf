//! `bootkeep policy create boot`, and a boot policy in words.

use bootkeep_policy::{BootOptions, BootPolicy};

use super::{from_node, not_made};
use crate::{cli::CreateBoot, evidence_file::EvidenceFile, policies::boot_policy, Error, Home};

pub(super) async fn create(home: &Home, options: &CreateBoot) -> Result<BootPolicy, Error> {
    let good = match (&options.evidence, &options.node) {
        (Some(path), _) => EvidenceFile::read(path)?.known_good(home)?,
        (None, Some(name)) => from_node(home, name).await?,
        (None, None) => return Err(Error::Usage("name --node or --evidence".into())),
    };
    let without = BootOptions {
        without: options.without.clone(),
    };
    let mut policy = BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &without)
        .map_err(not_made)?;
    for path in &options.also {
        policy.merge(&boot_policy(path)?.0);
    }
    Ok(policy)
}

/// For people.
pub(super) fn text(values: &[(u8, usize)], required: bool, events: &[(u8, Vec<String>)]) -> String {
    let log = if required { "required" } else { "not required" };
    let mut text = format!("boot policy: {} PCRs, event log {log}\n", values.len());
    for (pcr, count) in values {
        text.push_str(&format!("  PCR {pcr:<2} one of {count}\n"));
    }
    for (pcr, notes) in events {
        for note in notes {
            text.push_str(&format!("  PCR {pcr:<2} event {note}\n"));
        }
    }
    text
}
