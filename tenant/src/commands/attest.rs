//! `bootkeep attest`: one look at a node with own eyes.

use bootkeep_protocol::{
    registrar::NodeRecord,
    verifier::{LinkInfo, Reason},
    NodeId, Phase,
};
use serde::Serialize;

use crate::{
    appraisal, cli,
    error::Refusal,
    evidence_file::EvidenceFile,
    local::LocalNode,
    look::{activate, look, Wanted},
    node_name,
    output::Show,
    policies::{Policies, PolicyChoice, Sources},
    record::{self, CheckedRecord},
    services::Services,
    Error, Home,
};

/// The verdict of one look.
#[derive(Debug, Serialize)]
pub struct Attested {
    /// The node.
    pub node_id: NodeId,
    /// Whether everything was good.
    pub trusted: bool,
    /// Which agent answered.
    pub phase: Phase,
    /// Measured files that were appraised.
    pub ima_entries: u64,
    /// Why it is not trusted.
    pub reasons: Vec<Reason>,
    #[serde(skip)]
    refusal: Option<Refusal>,
}

impl Attested {
    /// The verdict as the command's outcome.
    ///
    /// # Errors
    /// [`Error::Untrusted`] unless trusted.
    pub fn verdict(self) -> Result<(), Error> {
        self.refusal
            .map_or(Ok(()), |refusal| Err(Error::Untrusted(refusal)))
    }
}

impl Show for Attested {
    fn human(&self) -> String {
        if !self.trusted {
            return format!("{}: not trusted\n", self.node_id);
        }
        format!(
            "{}: trusted, by own appraisal of its {} ({} measured files)\n",
            self.node_id, self.phase, self.ima_entries
        )
    }
}

/// A node, its checked record and one of its links.
pub(super) struct Subject {
    registration: NodeRecord,
    record: CheckedRecord,
    link: LinkInfo,
}

impl Subject {
    /// Which agent answers.
    pub(super) fn phase(&self) -> Phase {
        self.link.phase
    }

    /// What the node shows, after it has proved its AK.
    ///
    /// # Errors
    /// Errors of the relay.
    pub(super) async fn evidence(&self, services: &Services) -> Result<EvidenceFile, Error> {
        activate(services, &self.record, self.link.phase).await?;
        let everything = Wanted::Everything { ima_offset: 0 };
        let look = look(services, &self.record, &self.link, everything).await?;
        Ok(EvidenceFile::new(
            self.registration.clone(),
            self.link.phase,
            look,
        ))
    }
}

/// Finds a node that has an open link, the runtime agent's before the initramfs'.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Untrusted`] when its record is not believed, [`Error::TryAgain`] without a link.
pub(super) async fn subject(
    home: &Home,
    services: &Services,
    name: &str,
) -> Result<Subject, Error> {
    let node = node_name::find(home, services, name).await?;
    let registration = services
        .record(&node)
        .await?
        .ok_or_else(|| Error::NotFound(format!("{node} is not registered")))?;
    let record = record::check(home, &node, &registration)?;
    let mut links = services.links(&node).await?;
    links.sort_by_key(|link| link.phase);
    let link = links
        .pop()
        .ok_or_else(|| Error::TryAgain(format!("{node} has no open link now")))?;
    Ok(Subject {
        registration,
        record,
        link,
    })
}

/// Looks at a node: registration, own credential, quote, own appraisal.
///
/// # Errors
/// Errors of the services and of files; a refusal is a verdict, not an error.
pub async fn attest(
    home: &Home,
    services: &Services,
    options: &cli::Attest,
) -> Result<Attested, Error> {
    let subject = subject(home, services, &options.node).await?;
    let node_id = subject.record.node_id().clone();
    let looked = look_at(home, services, &subject, options).await;
    let (ima_entries, refusal) = match looked {
        Ok(entries) => (entries, None),
        Err(Error::Untrusted(refusal)) => (0, Some(refusal)),
        Err(error) => return Err(error),
    };
    Ok(Attested {
        node_id,
        trusted: refusal.is_none(),
        phase: subject.link.phase,
        ima_entries,
        reasons: refusal
            .as_ref()
            .map_or_else(Vec::new, |it| it.reasons.clone()),
        refusal,
    })
}

async fn look_at(
    home: &Home,
    services: &Services,
    subject: &Subject,
    options: &cli::Attest,
) -> Result<u64, Error> {
    let Subject { record, link, .. } = subject;
    activate(services, record, link.phase).await?;
    if let Some(path) = &options.save {
        subject.evidence(services).await?.write(path)?;
    }
    let kept = LocalNode::load(home, record.node_id())?;
    let sources = Sources { home, services };
    let choices = (
        options.boot_policy.as_ref(),
        options.runtime_policy.as_ref(),
    );
    let policies = chosen(&sources, choices, kept.as_ref()).await?;
    if link.phase == Phase::Initramfs {
        let look = look(services, record, link, Wanted::Everything { ima_offset: 0 }).await?;
        let booted = appraisal::boot(record, &look, &policies)?;
        return Ok(booted.ima().entries());
    }
    let latched = latched(kept.as_ref())?;
    let running = appraisal::running(services, record, link, &policies, &latched).await?;
    Ok(running.attested().ima_entries())
}

/// The policies that are named, else those the node was provisioned with.
pub(super) async fn chosen(
    sources: &Sources<'_>,
    choices: (Option<&PolicyChoice>, Option<&PolicyChoice>),
    kept: Option<&LocalNode>,
) -> Result<Policies, Error> {
    match (choices, kept) {
        ((Some(boot), Some(runtime)), _) => sources.pair(boot, runtime).await,
        ((boot, runtime), Some(kept)) => {
            let mut policies = sources.of(kept).await?;
            if let Some(choice) = boot {
                policies.boot = sources.boot(choice).await?;
            }
            if let Some(choice) = runtime {
                policies.runtime = sources.runtime(choice).await?;
            }
            Ok(policies)
        }
        _ => Err(Error::Usage(
            "this home has not provisioned the node: name --boot-policy and --runtime-policy"
                .into(),
        )),
    }
}

fn latched(kept: Option<&LocalNode>) -> Result<Vec<[u8; 32]>, Error> {
    kept.map(LocalNode::latched_values)
        .filter(|values| !values.is_empty())
        .ok_or_else(|| {
            Error::Usage(
                "this home has not provisioned the node: its latch value is not known".into(),
            )
        })
}
