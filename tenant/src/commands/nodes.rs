//! `bootkeep nodes`: what registrar and verifier know, side by side.

use std::collections::BTreeMap;

use bootkeep_protocol::{
    registrar::{EkAssurance, NodeRecord},
    verifier::{NodeStatus, PolicyUse, State, UnattendedStatus},
    NodeId, Phase,
};
use serde::Serialize;

use crate::{
    output::{table, Show},
    services::Services,
    Error, Home,
};

/// One node.
#[derive(Debug, Serialize)]
pub struct NodeLine {
    /// The node.
    pub node_id: NodeId,
    /// Its name; empty unless enrolled.
    pub label: String,
    /// Whether the registrar knows it.
    pub registered: bool,
    /// Generation of its AK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why the registrar believes its EK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assurance: Option<EkAssurance>,
    /// Whether the verifier has an enrolment.
    pub enrolled: bool,
    /// Where it stands; absent unless enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Until when it is trusted, milliseconds since 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_until_ms: Option<u64>,
    /// The policies that count for it now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyUse>,
    /// Its entry in the revocation log, while it is revoked there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<u64>,
    /// For a node that boots alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattended: Option<UnattendedStatus>,
    /// Agents with an open link.
    pub links: Vec<Phase>,
}

/// All nodes.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct NodeList(pub Vec<NodeLine>);

impl NodeLine {
    fn new(node_id: NodeId) -> Self {
        Self {
            node_id,
            label: String::new(),
            registered: false,
            generation: None,
            assurance: None,
            enrolled: false,
            state: None,
            trusted_until_ms: None,
            policies: Vec::new(),
            revocation: None,
            unattended: None,
            links: Vec::new(),
        }
    }

    fn registered(&mut self, record: NodeRecord) {
        self.registered = true;
        self.generation = Some(record.generation);
        self.assurance = Some(record.assurance);
    }

    fn enrolled(&mut self, status: NodeStatus) {
        self.enrolled = true;
        self.label = status.label;
        self.state = Some(status.state);
        self.trusted_until_ms = status.trusted_until_ms;
        self.policies = status.policies;
        self.revocation = status.revocation;
        self.unattended = status.unattended;
        self.links = status.links;
    }

    fn state_word(&self) -> &'static str {
        match self.state {
            Some(state) => state.as_str(),
            None if self.links.is_empty() => "registered",
            None => "waits for you",
        }
    }

    /// Names and generations of the policies that are followed, `own` for documents.
    fn policy_words(&self) -> String {
        let word = |used: &PolicyUse| match &used.name {
            None => "own".to_owned(),
            Some(name) => {
                let numbers: Vec<String> = used.generations.iter().map(u64::to_string).collect();
                format!("@{name}:{}", numbers.join(","))
            }
        };
        let words: Vec<String> = self.policies.iter().map(word).collect();
        words.join(" ")
    }

    /// How it boots: by itself, by itself with a new K, or when the owner gives U.
    fn boot_word(&self) -> &'static str {
        match &self.unattended {
            Some(kept) if kept.staged => "alone, new K",
            Some(kept) if kept.kept_at_ms.is_some() => "alone",
            _ if self.enrolled => "asks you",
            _ => "",
        }
    }

    fn row(&self) -> Vec<String> {
        let links: Vec<&str> = self.links.iter().map(|phase| phase.as_str()).collect();
        let assurance = match &self.assurance {
            Some(EkAssurance::Certificate { .. }) => "certificate",
            Some(EkAssurance::Approval { .. }) => "approval",
            None => "not registered",
        };
        vec![
            self.label.clone(),
            self.node_id.short().to_owned(),
            self.state_word().to_owned(),
            assurance.to_owned(),
            self.policy_words(),
            self.boot_word().to_owned(),
            links.join(" "),
        ]
    }
}

impl Show for NodeList {
    fn human(&self) -> String {
        if self.0.is_empty() {
            return "No node has registered yet.\n".into();
        }
        let head = ["LABEL", "NODE", "STATE", "EK", "POLICIES", "BOOTS", "LINKS"].map(String::from);
        let mut rows = vec![head.to_vec()];
        rows.extend(self.0.iter().map(NodeLine::row));
        table(&rows)
    }
}

/// Every node that registrar or verifier know.
///
/// # Errors
/// Errors of the services.
pub async fn nodes(_home: &Home, services: &Services) -> Result<NodeList, Error> {
    let mut lines: BTreeMap<NodeId, NodeLine> = BTreeMap::new();
    for record in services.records().await? {
        let node = record.node_id.clone();
        line(&mut lines, node).registered(record);
    }
    for status in services.statuses().await? {
        let node = status.node_id.clone();
        line(&mut lines, node).enrolled(status);
    }
    let mut lines: Vec<NodeLine> = lines.into_values().collect();
    for line in lines.iter_mut().filter(|line| !line.enrolled) {
        let links = services.links(&line.node_id).await?;
        line.links = links.into_iter().map(|link| link.phase).collect();
    }
    Ok(NodeList(lines))
}

fn line(lines: &mut BTreeMap<NodeId, NodeLine>, node: NodeId) -> &mut NodeLine {
    lines
        .entry(node.clone())
        .or_insert_with(|| NodeLine::new(node))
}
