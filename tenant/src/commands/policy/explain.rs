//! `bootkeep policy explain`: a dry run. What would fail on a node under a policy, and which package owns it.
//!
//! Evidence is fetched anew and quoted for a nonce of our own. Only for a node that has no link the verifier's last
//! evidence of the boot is taken, and said to be that.

use std::path::Path;

use bootkeep_evidence::{eventlog::EventLog, ima::Entry, PcrValues};
use bootkeep_policy::{KnownGood, RuntimeRules};
use bootkeep_protocol::{
    limits::clean_text,
    verifier::{LastEvidence, Reason},
    NodeId, Phase,
};
use serde::Serialize;

use crate::{
    cli::{Explain, Form},
    commands::attest::{chosen, subject},
    error::{Party, Refusal},
    local::LocalNode,
    node_name,
    output::{self, Show},
    packages::Owners,
    policies::{Now, PolicyChoice, Sources},
    services::Services,
    Error, Home,
};

/// Files that are printed for people; JSON has all.
const SHOWN: usize = 50;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "source")]
enum Evidence {
    /// Quoted by the node just now, for a nonce of our own.
    Quoted {
        /// Which agent answered.
        phase: Phase,
        /// Measured files that were looked at.
        ima_entries: usize,
    },
    /// The verifier's word about the boot; nothing is known of measured files.
    Verifier {
        /// When it appraised it, milliseconds since 1970 (UTC).
        at_ms: u64,
    },
}

/// A measured file that would be refused.
#[derive(Debug, Serialize)]
struct Finding {
    /// Number of the entry in the node's list, from 0.
    number: u64,
    /// Its path, or what stands there.
    path: String,
    /// Which check.
    code: String,
    /// What is wrong.
    detail: String,
    /// The packages that own the path.
    owners: Vec<String>,
}

/// The dry run's outcome.
#[derive(Debug, Serialize)]
struct Explained {
    node_id: NodeId,
    /// Whether nothing would fail.
    passes: bool,
    evidence: Evidence,
    /// What the boot policy refuses.
    boot: Vec<Reason>,
    /// What the runtime policy refuses.
    files: Vec<Finding>,
}

impl Show for Explained {
    fn human(&self) -> String {
        let mut text = match self.evidence {
            Evidence::Quoted { phase, ima_entries } => {
                format!(
                    "{}: {phase} quoted just now, {ima_entries} measured files\n",
                    self.node_id
                )
            }
            Evidence::Verifier { at_ms } => format!(
                "{}: no open link; only the boot, as the verifier appraised it {}\n",
                self.node_id,
                crate::clock::ago(at_ms)
            ),
        };
        for reason in &self.boot {
            text.push_str(&format!(
                "boot: {}: {}\n",
                clean_text(&reason.code),
                clean_text(&reason.detail)
            ));
        }
        for finding in self.files.iter().take(SHOWN) {
            text.push_str(&finding.line());
        }
        if self.files.len() > SHOWN {
            text.push_str(&format!(
                "and {} more (--output json has all)\n",
                self.files.len() - SHOWN
            ));
        }
        text.push_str(if self.passes {
            "nothing would fail\n"
        } else {
            "it would be refused\n"
        });
        text
    }
}

impl Finding {
    fn line(&self) -> String {
        let owner = match self.owners.as_slice() {
            [] => "no package known owns it".to_owned(),
            owners => format!("of {}", owners.join(", ")),
        };
        format!(
            "file: {}: {}; {}\n",
            clean_text(&self.code),
            clean_text(&self.detail),
            clean_text(&owner)
        )
    }
}

/// What a boot is judged by.
struct Boot<'a> {
    pcrs: &'a PcrValues,
    log: Option<&'a EventLog>,
    signatures: Option<&'a [u8]>,
    clock: Option<&'a bootkeep_evidence::ClockInfo>,
}

fn boot_reasons(now: &Now<'_>, boot: &Boot<'_>) -> Vec<Reason> {
    let live = now.boot();
    let verdict = live.dry_run_with(boot.pcrs, boot.log, boot.signatures, boot.clock);
    verdict.map_or_else(|refusal| refusal.reasons(), |()| Vec::new())
}

fn findings(now: &Now<'_>, entries: &[Entry], owners: &Owners) -> Vec<Finding> {
    let rules = now.runtime();
    let entries = (0..).zip(entries);
    entries
        .filter(|(_, entry)| entry.path != "boot_aggregate")
        .filter_map(|(number, entry)| Some((number, entry, rules.refusal(number, entry)?)))
        .map(|(number, entry, reason)| Finding {
            number,
            path: entry.path.clone(),
            code: reason.code,
            detail: reason.detail,
            owners: owners.of(&entry.path),
        })
        .collect()
}

fn of_node(
    node_id: NodeId,
    phase: Phase,
    good: &KnownGood,
    now: &Now<'_>,
    owners: &Owners,
) -> Explained {
    let boot = Boot {
        pcrs: &good.pcrs,
        log: good.event_log.as_ref(),
        signatures: good.pcr_signatures.as_deref(),
        clock: Some(&good.clock),
    };
    explained(
        node_id,
        Evidence::Quoted {
            phase,
            ima_entries: good.ima.len(),
        },
        boot_reasons(now, &boot),
        findings(now, &good.ima, owners),
    )
}

fn of_verifier(node_id: NodeId, last: &LastEvidence, now: &Now<'_>) -> Result<Explained, Error> {
    let bad = |what: &str| Error::Failed(format!("the verifier's last evidence: {what}"));
    let mut pcrs = PcrValues::default();
    for pcr in &last.pcrs {
        let digest = pcr.digest.as_slice().try_into();
        pcrs.set(
            pcr.index,
            digest.map_err(|_| bad("a PCR is not 32 bytes long"))?,
        );
    }
    let log = last
        .event_log
        .as_ref()
        .map(|log| EventLog::parse(log.as_slice()));
    let log = log.transpose().map_err(|error| bad(&error.to_string()))?;
    let boot = Boot {
        pcrs: &pcrs,
        log: log.as_ref(),
        // The verifier does not keep them.
        signatures: None,
        clock: None,
    };
    let evidence = Evidence::Verifier { at_ms: last.at_ms };
    Ok(explained(
        node_id,
        evidence,
        boot_reasons(now, &boot),
        Vec::new(),
    ))
}

fn explained(
    node_id: NodeId,
    evidence: Evidence,
    boot: Vec<Reason>,
    files: Vec<Finding>,
) -> Explained {
    Explained {
        node_id,
        passes: boot.is_empty() && files.is_empty(),
        evidence,
        boot,
        files,
    }
}

fn policy_file(choice: Option<&PolicyChoice>) -> Option<&Path> {
    match choice {
        Some(PolicyChoice::File(path)) => Some(path),
        _ => None,
    }
}

async fn look(home: &Home, services: &Services, options: &Explain) -> Result<Explained, Error> {
    let node = node_name::find(home, services, &options.node).await?;
    let kept = LocalNode::load(home, &node)?;
    let sources = Sources { home, services };
    let choices = (
        options.boot_policy.as_ref(),
        options.runtime_policy.as_ref(),
    );
    let policies = chosen(&sources, choices, kept.as_ref()).await?;
    let now = policies.at_any_time(choices);
    let owners = Owners::load(home, &options.packages, policy_file(choices.1))?;
    match subject(home, services, node.as_str()).await {
        Ok(subject) => {
            let phase = subject.phase();
            let good = subject.evidence(services).await?.known_good(home)?;
            Ok(of_node(node, phase, &good, &now, &owners))
        }
        Err(Error::TryAgain(no_link)) => match services.last_evidence(&node).await? {
            Some(last) => of_verifier(node, &last, &now),
            None => Err(Error::TryAgain(no_link)),
        },
        Err(error) => Err(error),
    }
}

/// `bootkeep policy explain`.
pub(super) async fn explain(form: Form, home: &Home, options: &Explain) -> Result<(), Error> {
    let explained = look(home, &Services::open(home)?, options).await?;
    output::print(form, &explained)?;
    if explained.passes {
        return Ok(());
    }
    let count = explained.boot.len() + explained.files.len();
    Err(Error::Untrusted(Refusal::new(
        Party::OwnAppraisal,
        "dry-run",
        format!("{count} findings: this policy would refuse the node"),
    )))
}
