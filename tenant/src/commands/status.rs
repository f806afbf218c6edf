//! `bootkeep status NODE`.

use bootkeep_protocol::{
    boot_files::{BootFile, BootFiles},
    limits::clean_text,
    registrar::{EkAssurance, NodeRecord},
    verifier::{LinkInfo, NodeStatus, PolicyUse, UnattendedStatus},
    NodeId,
};
use serde::Serialize;

use crate::{
    clock::{ago, now_ms, written},
    node_name,
    output::{table, Show},
    services::Services,
    Error, Home,
};

/// Where one node stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The node.
    pub node_id: NodeId,
    /// What the verifier says; absent when it has no enrolment.
    pub verifier: Option<NodeStatus>,
    /// What the registrar says; absent when it does not know the node.
    pub registrar: Option<NodeRecord>,
    /// Open links.
    pub links: Vec<LinkInfo>,
}

/// What is known of one node.
///
/// # Errors
/// [`Error::NotFound`] when neither registrar nor verifier know it; errors of the services.
pub async fn status(home: &Home, services: &Services, name: &str) -> Result<Status, Error> {
    let node_id = node_name::find(home, services, name).await?;
    let status = Status {
        verifier: services.status(&node_id).await?,
        registrar: services.record(&node_id).await?,
        links: services.links(&node_id).await?,
        node_id,
    };
    if status.verifier.is_none() && status.registrar.is_none() {
        return Err(Error::NotFound(format!(
            "{} is neither registered nor enrolled",
            status.node_id
        )));
    }
    Ok(status)
}

impl Show for Status {
    fn human(&self) -> String {
        let mut rows = vec![row("node", self.node_id.to_string())];
        match &self.verifier {
            Some(status) => rows.extend(verifier_rows(status)),
            None => rows.push(row("state", "not enrolled")),
        }
        match &self.registrar {
            Some(record) => rows.push(row("registered", registration(record))),
            None => rows.push(row("registered", "no")),
        }
        for link in &self.links {
            rows.push(row(
                "link",
                format!("{} of boot {}", link.phase, link.boot_id),
            ));
        }
        table(&rows)
    }
}

fn row(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

fn registration(record: &NodeRecord) -> String {
    let why = match &record.assurance {
        EkAssurance::Certificate { root } => format!("EK certificate, root {root}"),
        EkAssurance::Approval { note } => format!("EK approved: {note}"),
    };
    format!("AK generation {}, {}", record.generation, clean_text(&why))
}

/// A policy in force, for people.
pub(super) fn policy_text(used: &PolicyUse) -> String {
    let kind = used.kind.as_str();
    let Some(name) = &used.name else {
        return format!("{kind}: a document of its own");
    };
    let numbers: Vec<String> = used.generations.iter().map(u64::to_string).collect();
    if numbers.is_empty() {
        return format!("{kind}: @{name}, no generation of which counts now");
    }
    format!("{kind}: @{name}, generation {}", numbers.join(" and "))
}

/// Whether a node keeps its share, for people.
fn unattended_text(kept: &UnattendedStatus) -> String {
    let mut text = match kept.kept_at_ms {
        Some(at) => format!("its share was kept {}", ago(at)),
        None => "not yet: it has kept no share; `bootkeep provision` gives one".to_owned(),
    };
    if kept.shares.len() > 1 {
        text += &format!(
            ", {} since then without its word that they arrived",
            kept.shares.len() - 1
        );
    }
    if kept.staged {
        text += "; a new K waits for its next boot (`bootkeep rotate NODE --finish` after it)";
    }
    text
}

/// What the node says its next boot will use. Nobody has proved it.
fn boot_file_rows(report: &BootFiles) -> Vec<Vec<String>> {
    let version = report.version.as_deref().map(clean_text);
    let of = version.map_or_else(String::new, |version| format!(" of {version}"));
    let head = format!(
        "reported {}{of}; `bootkeep policy authorize` signs them",
        ago(report.at_ms)
    );
    let mut rows = vec![row("next boot", head)];
    rows.extend(
        report
            .files
            .iter()
            .map(|file| row("", boot_file_text(file))),
    );
    rows
}

fn boot_file_text(file: &BootFile) -> String {
    let short = |digest: &str| clean_text(digest).chars().take(16).collect::<String>();
    let role = format!("{:?}", file.role).to_lowercase();
    let mut text = format!(
        "{role} {} sha256 {}",
        clean_text(&file.path),
        short(&file.sha256)
    );
    if let Some(authenticode) = &file.authenticode {
        text += &format!(" authenticode {}", short(authenticode));
    }
    text
}

fn verifier_rows(status: &NodeStatus) -> Vec<Vec<String>> {
    let state = format!("{}, since {}", status.state.as_str(), ago(status.since_ms));
    let mut rows = vec![row("label", status.label.as_str()), row("state", state)];
    if let Some(until) = status.trusted_until_ms {
        let left = until.saturating_sub(now_ms()) / 1000;
        rows.push(row(
            "trusted for",
            format!(
                "{left} s more, unless attested again (until {})",
                written(until)
            ),
        ));
    }
    rows.extend(
        status
            .policies
            .iter()
            .map(|used| row("policy", policy_text(used))),
    );
    if let Some(kept) = &status.unattended {
        rows.push(row("boots alone", unattended_text(kept)));
    }
    if let Some(entry) = status.revocation {
        let text = format!(
            "entry {entry} of the log; `bootkeep revocations` shows who has acknowledged it"
        );
        rows.push(row("revoked", text));
    }
    for reason in &status.reasons {
        let text = format!(
            "{}: {}",
            clean_text(&reason.code),
            clean_text(&reason.detail)
        );
        rows.push(row("reason", text));
    }
    for claim in &status.claims {
        let text = format!("{}: {}", clean_text(&claim.code), clean_text(&claim.detail));
        rows.push(row("node says", text));
    }
    let good = format!(
        "{} good in this boot, {} measured files, every {} s",
        status.attestations, status.ima_entries, status.interval_seconds
    );
    rows.push(row("attestations", good));
    rows.extend(status.boot_files.iter().flat_map(boot_file_rows));
    if status.clock_safe == Some(false) {
        rows.push(row("TPM clock", "not safe: the last power-off was unclean"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use bootkeep_protocol::{boot_files::BootFileRole, ShareId};

    use super::*;

    #[test]
    fn people_read_whether_a_node_boots_alone() {
        let status = |shares: usize, staged, kept_at_ms| {
            unattended_text(&UnattendedStatus {
                shares: vec![ShareId::from([0; 16]); shares],
                staged,
                kept_at_ms,
            })
        };
        assert!(status(1, false, None).starts_with("not yet"));
        assert!(status(3, false, Some(1)).contains("2 since then"));
        assert!(status(1, true, Some(1)).contains("--finish"));
    }

    #[test]
    fn what_a_node_reports_cannot_paint_the_terminal() {
        let report = BootFiles {
            at_ms: 1,
            version: Some("6\u{1b}[31m".into()),
            files: vec![BootFile {
                role: BootFileRole::Initrd,
                path: "/boot/\u{1b}[2J".into(),
                size: 1,
                sha256: "\u{1b}".repeat(64),
                authenticode: None,
            }],
        };
        let text: String = boot_file_rows(&report).concat().concat();
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
