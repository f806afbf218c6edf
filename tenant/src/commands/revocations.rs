//! `bootkeep revocations`: the verifier's log, verified here, and who has acted on it.

use std::time::Duration;

use bootkeep_protocol::{
    limits::clean_text,
    revocation::{Acknowledgement, Action, Enforcement, Entry, Record},
    verifier::Reason,
    NodeId,
};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    cli::{self, Form},
    clock::{ago, now_ms, written},
    log::Follow,
    node_name,
    output::{self, Show},
    services::Services,
    Error, Home,
};

/// Pause between two looks of `--follow`.
const PAUSE: Duration = Duration::from_secs(1);
/// The log's head is a heartbeat too: an older one means that the verifier does not go on (milliseconds).
const OLD_HEAD_MS: u64 = 60_000;

/// One entry, verified, with what the verifier says of its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number.
    pub sequence: u64,
    /// When it was made, milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// What happened.
    pub action: Action,
    /// To which node.
    pub node_id: NodeId,
    /// Its name.
    pub label: String,
    /// Serial numbers of its certificates.
    pub serials: Vec<String>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// When the CA had it on its list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_at_ms: Option<u64>,
    /// What each peer has done, and when.
    pub acknowledgements: Vec<Acknowledgement>,
}

/// The log.
#[derive(Debug, Serialize)]
pub struct Log {
    /// Its name.
    pub log: String,
    /// Of its newest entry.
    pub sequence: u64,
    /// When the verifier signed that this is all.
    pub head_at_ms: u64,
    /// The entries that were asked for.
    pub records: Vec<Line>,
}

impl Line {
    fn new(entry: Entry, record: Record) -> Self {
        Self {
            sequence: entry.sequence,
            at_ms: entry.at_ms,
            action: entry.action,
            node_id: entry.node_id,
            label: entry.label,
            serials: entry.serials,
            reasons: entry.reasons,
            ca_at_ms: record.ca_at_ms,
            acknowledgements: record.acknowledgements,
        }
    }
}

impl Show for Line {
    fn human(&self) -> String {
        let action = match self.action {
            Action::Revoke => "revoked",
            Action::Reinstate => "reinstated",
        };
        let mut text = format!(
            "{}  {}  {} ({}) {action}\n",
            self.sequence,
            written(self.at_ms),
            clean_text(&self.label),
            self.node_id.short()
        );
        for reason in &self.reasons {
            text.push_str(&format!(
                "   {}: {}\n",
                clean_text(&reason.code),
                clean_text(&reason.detail)
            ));
        }
        text.push_str(&format!("   CA: {}\n", self.authority()));
        for peer in &self.acknowledgements {
            text.push_str(&format!(
                "   {}: {}\n",
                clean_text(&peer.label),
                self.peer(peer)
            ));
        }
        text
    }
}

impl Line {
    /// Milliseconds after the entry, or how long ago when the clocks do not agree.
    fn after(&self, at_ms: u64) -> String {
        match at_ms.checked_sub(self.at_ms) {
            Some(after) => format!("after {after} ms"),
            None => ago(at_ms),
        }
    }

    fn authority(&self) -> String {
        match (self.action, self.ca_at_ms) {
            (_, Some(at)) => format!("on its list {}", self.after(at)),
            (Action::Revoke, None) => "not on its list yet".into(),
            (Action::Reinstate, None) => "nothing to do: the new certificate is another one".into(),
        }
    }

    fn peer(&self, peer: &Acknowledgement) -> String {
        let Some(at) = peer.at_ms else {
            return "has not acknowledged".into();
        };
        let when = self.after(at);
        let Some(done) = &peer.done else {
            return format!("acknowledged {when}, with a later entry");
        };
        let how = match done.outcome {
            Enforcement::Ike => "enforced by IKE",
            Enforcement::Kernel => "enforced in the kernel",
            Enforcement::NothingToDo => "has no IPsec",
            Enforcement::Failed => "NOT ENFORCED",
        };
        format!(
            "{how}, acknowledged {when} ({} us there; {})",
            done.took_us,
            clean_text(&done.detail)
        )
    }
}

impl Show for Log {
    fn human(&self) -> String {
        let mut text: String = self.records.iter().map(Show::human).collect();
        if self.records.is_empty() {
            text.push_str("No entry.\n");
        }
        text.push_str(&format!(
            "log {}: {} entries, each signed and chained; the verifier said so {}\n",
            self.log,
            self.sequence,
            ago(self.head_at_ms)
        ));
        if now_ms().saturating_sub(self.head_at_ms) > OLD_HEAD_MS {
            text.push_str(
                "warning: that is old; the verifier does not go on, or the clocks differ\n",
            );
        }
        text
    }
}

/// Shows the log.
///
/// # Errors
/// [`Error::Untrusted`] when the log is not what the verifier's key signed; errors of the services.
pub async fn revocations(
    form: Form,
    home: &Home,
    services: &Services,
    options: &cli::Revocations,
) -> Result<(), Error> {
    let node = match &options.node {
        Some(name) => Some(node_name::find(home, services, name).await?),
        None => None,
    };
    let log = read(home, services, node.as_ref()).await?;
    output::print(form, &log)?;
    if options.follow {
        follow(form, home, services, node.as_ref(), log).await?;
    }
    Ok(())
}

async fn read(home: &Home, services: &Services, node: Option<&NodeId>) -> Result<Log, Error> {
    let mut follow = Follow::begin(home)?;
    let mut lines = Vec::new();
    while !follow.is_done() {
        let page = services.revocations(follow.sequence()).await?;
        for (entry, record) in follow.take(page)? {
            if node.is_none_or(|node| node == &entry.node_id) {
                lines.push(Line::new(entry, record));
            }
        }
    }
    let head = follow.finish(home)?;
    Ok(Log {
        log: head.log,
        sequence: head.sequence,
        head_at_ms: head.at_ms,
        records: lines,
    })
}

/// Prints each entry again whenever something of it changes.
async fn follow(
    form: Form,
    home: &Home,
    services: &Services,
    node: Option<&NodeId>,
    mut last: Log,
) -> Result<(), Error> {
    loop {
        sleep(PAUSE).await;
        let log = match read(home, services, node).await {
            Err(error) if error.is_transient() => continue,
            other => other?,
        };
        for line in log
            .records
            .iter()
            .filter(|line| !last.records.contains(line))
        {
            output::print(form, line)?;
        }
        last = log;
    }
}
