//! `bootkeep revoke` and `bootkeep remove`.

use std::{fs, io::ErrorKind};

use bootkeep_protocol::{
    ca::RevokeCertificates,
    limits::MAX_TEXT,
    verifier::{RevokeRequest, State},
    NodeId,
};
use serde::Serialize;

use crate::{
    cli, node_name,
    output::Show,
    recovery::{self, FILE as RECOVERY_FILE},
    services::Services,
    Error, Home,
};

/// What was revoked.
#[derive(Debug, Serialize)]
pub struct Revoked {
    /// The node.
    pub node_id: NodeId,
    /// Where the verifier sees it now; absent when it is not enrolled.
    pub state: Option<State>,
    /// Serial numbers of its certificates that are revoked.
    pub certificates: Vec<String>,
    /// Its entry in the revocation log; absent when the verifier keeps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
}

impl Show for Revoked {
    fn human(&self) -> String {
        let verifier = match self.state {
            Some(state) => format!("the verifier calls it {}", state.as_str()),
            None => "the verifier has no enrolment of it".into(),
        };
        let log = match self.entry {
            Some(entry) => format!(
                "entry {entry} of the log is on its way to every peer: `bootkeep revocations` shows who has acted on it\n"
            ),
            None => String::new(),
        };
        format!(
            "{}: {verifier}; {} certificates revoked\n{log}",
            self.node_id,
            self.certificates.len()
        )
    }
}

/// Declares a node revoked at the verifier and revokes its certificates.
///
/// # Errors
/// [`Error::NotFound`] when neither verifier nor CA know it; errors of the services. What was done stays done: the
/// command can be given again.
pub async fn revoke(
    home: &Home,
    services: &Services,
    options: &cli::Revoke,
) -> Result<Revoked, Error> {
    let reason = options.reason.clone();
    if reason.trim().is_empty() || reason.chars().count() > MAX_TEXT {
        return Err(Error::Usage(format!(
            "a reason of 1 to {MAX_TEXT} characters is needed"
        )));
    }
    let node_id = node_name::find(home, services, &options.node).await?;
    let request = RevokeRequest {
        reason: reason.clone(),
    };
    // First the verifier, which stops at once; a CA that is away must not delay that.
    let status = services.revoke(&node_id, &request).await?;
    let request = RevokeCertificates {
        reason,
        keep: Vec::new(),
    };
    // The verifier has told the CA as well: whose notice came first does not matter.
    services.revoke_certificates(&node_id, &request).await?;
    let certificates = revoked_certificates(services, &node_id).await?;
    if status.is_none() && certificates.is_empty() {
        return Err(Error::NotFound(format!(
            "{node_id} is not enrolled and has no certificate"
        )));
    }
    Ok(Revoked {
        node_id,
        state: status.as_ref().map(|status| status.state),
        entry: status.and_then(|status| status.revocation),
        certificates,
    })
}

async fn revoked_certificates(services: &Services, node: &NodeId) -> Result<Vec<String>, Error> {
    let all = services.certificates().await?;
    let revoked = all
        .into_iter()
        .filter(|record| record.node_id == *node && record.revoked_at.is_some());
    Ok(revoked.map(|record| record.serial).collect())
}

/// What was forgotten.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The node.
    pub node_id: NodeId,
    /// Whether the verifier had an enrolment.
    pub enrolment: bool,
    /// Whether the registrar had a registration and was asked to forget it.
    pub registration: bool,
    /// Whether this home had something of it.
    pub local: bool,
    /// Whether its recovery keys are still in this home.
    pub recovery_kept: bool,
}

impl Show for Removed {
    fn human(&self) -> String {
        let what = [
            (self.enrolment, "enrolment"),
            (self.registration, "registration"),
            (self.local, "local state"),
        ];
        let names: Vec<&str> = what
            .iter()
            .filter(|(was, _)| *was)
            .map(|(_, name)| *name)
            .collect();
        let rest = match self.recovery_kept {
            true => {
                "its recovery key stays in this home; `bootkeep remove --recovery` forgets it\n"
            }
            false => "",
        };
        format!("{}: removed {}\n{rest}", self.node_id, names.join(", "))
    }
}

/// Forgets a node.
///
/// # Errors
/// [`Error::NotFound`] when there was nothing to forget; errors of the services and of files.
pub async fn remove(
    home: &Home,
    services: &Services,
    options: &cli::Remove,
) -> Result<Removed, Error> {
    let node_id = node_name::find(home, services, &options.node).await?;
    let enrolment = services.forget_enrolment(&node_id).await?;
    let registration = options.registration && services.forget_record(&node_id).await?;
    let removed = Removed {
        local: forget_locally(home, &node_id, options.recovery)?,
        recovery_kept: recovery::is_kept(home, &node_id),
        enrolment,
        registration,
        node_id,
    };
    if !removed.enrolment && !removed.registration && !removed.local {
        return Err(Error::NotFound(format!(
            "{}: nothing to remove{}",
            removed.node_id,
            if options.registration {
                ""
            } else {
                "; its registration goes with --registration"
            }
        )));
    }
    Ok(removed)
}

/// Forgets what this home has of a node, but for its recovery keys unless they are to go too: its disk may still be about.
fn forget_locally(home: &Home, node: &NodeId, recovery: bool) -> Result<bool, Error> {
    let folder = home.node_folder(node);
    let in_folder = |source| Error::File {
        path: folder.clone(),
        source,
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.map_err(in_folder)?,
    };
    let mut removed = false;
    for entry in entries {
        let path = entry.map_err(in_folder)?.path();
        if recovery || path.file_name() != Some(RECOVERY_FILE.as_ref()) {
            fs::remove_file(&path).map_err(in_folder)?;
            removed = true;
        }
    }
    // It stays while the recovery keys are in it.
    match fs::remove_dir(&folder) {
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(in_folder(error)),
        Err(_) => Ok(removed),
        Ok(()) => Ok(true),
    }
}
