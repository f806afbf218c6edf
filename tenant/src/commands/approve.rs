//! `bootkeep approve` and `bootkeep approvals`.

use std::collections::BTreeMap;

use bootkeep_protocol::{
    limits::{clean_text, MAX_TEXT},
    registrar::Approval,
    NodeId,
};
use serde::Serialize;

use crate::{
    approvals::Approvals,
    cli,
    output::{table, Show},
    services::Services,
    Error, Home,
};

/// What was approved or taken back.
#[derive(Debug, Serialize)]
pub struct Approved {
    /// The EK's node.
    pub node_id: NodeId,
    /// Whether it is approved now.
    pub approved: bool,
}

impl Show for Approved {
    fn human(&self) -> String {
        let what = match self.approved {
            true => "may register without an EK certificate",
            false => "needs an EK certificate again",
        };
        format!("{} {what}\n", self.node_id)
    }
}

/// Accepts an EK without a certificate, at the registrar and for this program's own check.
///
/// # Errors
/// [`Error::Usage`] for a hash or note that is none; errors of the registrar and of files.
pub async fn approve(
    home: &Home,
    services: &Services,
    options: &cli::Approve,
) -> Result<Approved, Error> {
    let node_id: NodeId = options.ek_hash.parse().map_err(|_| {
        Error::Usage(format!(
            "{:?} is not the SHA-256 of an EK's public area: 64 lower-case hex digits",
            options.ek_hash
        ))
    })?;
    if options.withdraw {
        return withdraw(home, services, node_id).await;
    }
    let note = options.note.clone().unwrap_or_default();
    if note.trim().is_empty() || note.chars().count() > MAX_TEXT || clean_text(&note) != note {
        return Err(Error::Usage(format!(
            "a note of 1 to {MAX_TEXT} printable characters is needed"
        )));
    }
    services
        .approve(&node_id, &Approval { note: note.clone() })
        .await?;
    Approvals::load(home)?.add(home, &node_id, &note)?;
    Ok(Approved {
        node_id,
        approved: true,
    })
}

async fn withdraw(home: &Home, services: &Services, node_id: NodeId) -> Result<Approved, Error> {
    let here = Approvals::load(home)?.withdraw(home, &node_id)?;
    let there = services.withdraw(&node_id).await?;
    if !here && !there {
        return Err(Error::NotFound(format!("{node_id} was not approved")));
    }
    Ok(Approved {
        node_id,
        approved: false,
    })
}

/// One approved EK.
#[derive(Debug, Default, Serialize)]
pub struct ApprovedLine {
    /// The registrar's note; absent when only this home approves it.
    pub registrar: Option<String>,
    /// This home's note; absent when only the registrar approves it.
    pub own: Option<String>,
}

/// Approved EKs by node.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct ApprovedList(pub BTreeMap<NodeId, ApprovedLine>);

impl Show for ApprovedList {
    fn human(&self) -> String {
        if self.0.is_empty() {
            return "No EK is approved without a certificate.\n".into();
        }
        let mut rows = vec![["NODE", "REGISTRAR", "OWN CHECK"]
            .map(String::from)
            .to_vec()];
        for (node, line) in &self.0 {
            let cell = |note: &Option<String>| clean_text(note.as_deref().unwrap_or("-"));
            rows.push(vec![
                node.to_string(),
                cell(&line.registrar),
                cell(&line.own),
            ]);
        }
        table(&rows)
    }
}

/// EKs accepted without a certificate, by the registrar and by this home.
///
/// # Errors
/// Errors of the registrar and of files.
pub async fn approvals(home: &Home, services: &Services) -> Result<ApprovedList, Error> {
    let mut lines: BTreeMap<NodeId, ApprovedLine> = BTreeMap::new();
    for approved in services.approvals().await? {
        lines.entry(approved.node_id).or_default().registrar = Some(approved.note);
    }
    for (node, note) in Approvals::load(home)?.iter() {
        lines.entry(node.clone()).or_default().own = Some(note.to_owned());
    }
    Ok(ApprovedList(lines))
}
