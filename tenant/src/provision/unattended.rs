//! What lets a node boot with nobody here: PCR policies of the boot that this program has appraised itself.

use std::path::Path;

use bootkeep_authorize::{public_from_pem, to_wire, AuthorityKey, PcrValues};
use bootkeep_evidence::eventlog::EventLog;
use bootkeep_protocol::{kept::SignedPcrPolicy, policy::PolicySource, NodeId};
use bootkeep_tpkd::{Authority, MAX_AUTHORITIES};

use crate::{
    cli::Alone,
    error::Party,
    files,
    look::Look,
    pcr_choice::default_pcrs,
    record::CheckedRecord,
    signing::{authority_key, policy_reference},
    Error, Home,
};

/// Largest key file that is read (bytes).
const MAX_KEY: u64 = 16 * 1024;

/// What the command line says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unattended {
    /// The PCRs to be used; absent: those the boot event log speaks of.
    pub pcrs: Option<Vec<u8>>,
    /// Vendors whose signatures of unified kernel images count too.
    pub vendors: Vec<Authority>,
}

impl Unattended {
    /// Reads the vendors' keys.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the file.
    pub(super) fn read(options: &Alone) -> Result<Option<Self>, Error> {
        if !options.unattended {
            return Ok(None);
        }
        if options.vendor_key.len() >= MAX_AUTHORITIES {
            return Err(Error::Usage(format!(
                "a node takes the keys of at most {} vendors",
                MAX_AUTHORITIES - 1
            )));
        }
        let vendors = options.vendor_key.iter().map(|path| vendor(path));
        Ok(Some(Self {
            pcrs: options.pcrs.as_ref().map(|list| list.0.clone()),
            vendors: vendors.collect::<Result<_, _>>()?,
        }))
    }

    /// Everybody whose signatures open the node's share: the owner first.
    pub(super) fn authorities(&self, owner: &AuthorityKey) -> Vec<Authority> {
        let mut authorities = vec![owner.authority().clone()];
        authorities.extend(self.vendors.iter().cloned());
        authorities
    }
}

fn vendor(path: &Path) -> Result<Authority, Error> {
    let pem = files::read_text(path, MAX_KEY)?;
    // systemd-measure signs without a policy reference.
    public_from_pem(&pem, &[]).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// The owner's key for PCR policies of this node.
pub(super) fn owner_key(
    home: &Home,
    boot: &PolicySource,
    node: &NodeId,
) -> Result<AuthorityKey, Error> {
    authority_key(home, &policy_reference(boot, node))
}

/// Refuses to go on with another key than the one the envelope names.
pub(super) fn check_owner(
    key: &AuthorityKey,
    authorities: &[bootkeep_protocol::kept::Authority],
) -> Result<(), Error> {
    if authorities.contains(&to_wire(key.authority())) {
        return Ok(());
    }
    Err(Error::Failed(
        "authorize.key is not the key that this provisioning was begun with: put that key back, or remove the node's \
         provisioning.json and begin again"
            .into(),
    ))
}

/// Signs the PCR policy of exactly the values that the node quoted. The caller has appraised what it shows and found it
/// good.
pub(super) fn sign(
    key: &AuthorityKey,
    pcrs: Option<&[u8]>,
    record: &CheckedRecord,
    look: &Look,
) -> Result<SignedPcrPolicy, Error> {
    let quote = look.quote(record).map_err(Error::Untrusted)?;
    let values: PcrValues = quote
        .pcrs()
        .iter()
        .map(|(pcr, value)| (pcr, *value))
        .collect();
    let pcrs = match pcrs {
        Some(pcrs) => pcrs.to_vec(),
        None => default_pcrs(event_log(look)?.as_ref())?,
    };
    key.sign(&pcrs, &values)
        .map_err(|error| Error::Usage(error.to_string()))
}

fn event_log(look: &Look) -> Result<Option<EventLog>, Error> {
    let Some(bytes) = &look.evidence.event_log else {
        return Ok(None);
    };
    EventLog::parse(bytes.as_slice())
        .map(Some)
        .map_err(|error| {
            Error::untrusted(
                Party::OwnAppraisal,
                "event-log-malformed",
                error.to_string(),
            )
        })
}

/// Whether these policies have this one already, whoever signed it when.
pub(super) fn has(policies: &[SignedPcrPolicy], wanted: &SignedPcrPolicy) -> bool {
    let same =
        |policy: &SignedPcrPolicy| (&policy.pcrs, &policy.policy) == (&wanted.pcrs, &wanted.policy);
    policies.iter().any(same)
}
