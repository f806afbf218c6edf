//! A new K for a running node: staged at the verifier, its U given to the runtime agent, used from the next boot on.
//!
//! ```text
//! K', envelope, certificate, recovery key; journal durable     ── before anything is sent
//! V', envelope → verifier (staged, durable)                    ── the old K goes on to boot the node
//! own appraisal of the running node, with a nonce of our own
//! U' → node, wrapped to the NK of that quote                   ── the journal has the nonce first
//! node: U' is in NV; the journal goes
//! next boot: K' opens, LUKS is re-keyed, the node says so; the old K and the old certificates go
//! ```

use bootkeep_protocol::{
    ca::RevokeCertificates,
    kept::KeepCall,
    link::{Call, Reply},
    verifier::{NodeStatus, State, Unattended},
    Phase, ShareId,
};
use bootkeep_tpkd::wrap_share;
use serde::Serialize;

use super::{
    enrolment::{failed, Maker},
    follow::refuse_untrusted,
    inputs::Inputs,
    journal::{Journal, Kind},
    retry::{persist, Deadline, Pauses},
    watch::{Timeline, Watch},
};
use crate::{
    appraisal,
    clock::now_ms,
    error::Party,
    local::{LocalNode, Staged, Terms},
    look::activate,
    output::Show,
    policies::Sources,
    record::{self, CheckedRecord},
    recovery,
    services::Services,
    Error, Home,
};

/// What a rotation is made of.
#[derive(Debug)]
pub struct Rotation {
    /// What this home knows of the node.
    pub local: LocalNode,
    /// What it is given.
    pub inputs: Inputs,
    /// When to give up.
    pub deadline: Deadline,
}

/// How far a rotation is.
#[derive(Debug, Serialize)]
pub struct Rotated {
    /// The node.
    pub node_id: String,
    /// Its name.
    pub label: String,
    /// Whether the new K waits for the node's next boot.
    pub staged: bool,
    /// Certificates that were revoked because the node has newer ones.
    pub revoked: Vec<String>,
}

impl Show for Rotated {
    fn human(&self) -> String {
        let Self { label, node_id, .. } = self;
        if self.staged {
            return format!(
                "{label} ({node_id}) has a new K for its next boot. Until then the old one counts.\n\
                 Once it has booted: bootkeep rotate {label} --finish\n"
            );
        }
        format!(
            "{label} ({node_id}) uses its new K; {} older certificates revoked\n",
            self.revoked.len()
        )
    }
}

/// Gives a running node a new K, or goes on where an earlier run was cut short.
///
/// # Errors
/// [`Error::Usage`] for a node that does not boot alone; [`Error::Untrusted`] naming who refused and why;
/// [`Error::TryAgain`] when the node is not running and trusted.
pub async fn rotate(
    home: &Home,
    services: &Services,
    rotation: Rotation,
    watch: &mut dyn Watch,
) -> Result<Rotated, Error> {
    let unattended = check(&rotation)?;
    let mut run = Run {
        home,
        services,
        rotation: &rotation,
        timeline: Timeline::new(watch),
    };
    let record = run.record().await?;
    run.status().await?;
    let mut journal = run.journal(&record, unattended).await?;
    run.stage(&record, &journal).await?;
    let outcome = run.give(&record, &mut journal).await;
    if matches!(outcome, Ok(()) | Err(Error::Untrusted(_))) {
        Journal::remove(home, record.node_id(), Kind::Rotation)?;
    }
    outcome?;
    Ok(Rotated {
        node_id: record.node_id().to_string(),
        label: journal.enrolment().label.clone(),
        staged: true,
        revoked: Vec::new(),
    })
}

/// What the node was told when it was provisioned to boot alone.
fn check(rotation: &Rotation) -> Result<Unattended, Error> {
    let node = &rotation.local;
    let Some(unattended) = &node.unattended else {
        return Err(Error::Usage(format!(
            "{} does not boot alone: it gets a new K with each `bootkeep provision`",
            node.label
        )));
    };
    if !rotation.inputs.opens_the_volume() {
        return Err(Error::Usage(format!(
            "the volume of {} has the image's key: give it with --luks-key",
            node.label
        )));
    }
    Ok(unattended.clone())
}

struct Run<'a> {
    home: &'a Home,
    services: &'a Services,
    rotation: &'a Rotation,
    timeline: Timeline<'a>,
}

impl Run<'_> {
    /// The node's keys as they were when it was provisioned.
    async fn record(&mut self) -> Result<CheckedRecord, Error> {
        let (services, local) = (self.services, &self.rotation.local);
        let node = &local.node_id;
        let record = persist(&self.rotation.deadline, &mut self.timeline, || {
            services.record(node)
        })
        .await?
        .ok_or_else(|| Error::NotFound(format!("{node} is not registered")))?;
        let checked = record::check(self.home, node, &record)?;
        let same = checked.generation() == local.generation
            && checked.ak_digest().as_slice() == local.ak_digest.as_slice();
        if !same {
            return Err(Error::untrusted(
                Party::OwnAppraisal,
                "other-ak",
                "the node's AK is another than when it was provisioned: provision it again",
            ));
        }
        Ok(checked)
    }

    /// Only a node that runs and is trusted: nothing is made for any other.
    async fn status(&mut self) -> Result<(), Error> {
        let (services, node) = (self.services, &self.rotation.local.node_id);
        let status = persist(&self.rotation.deadline, &mut self.timeline, || {
            services.status(node)
        })
        .await?
        .ok_or_else(|| Error::NotFound(format!("{node} is not enrolled")))?;
        refuse_untrusted(&status)?;
        if status.state != State::Trusted {
            return Err(Error::TryAgain(format!(
                "{} is {}: rotate its keys once it runs and is trusted",
                status.label,
                status.state.as_str()
            )));
        }
        Ok(())
    }

    async fn journal(
        &mut self,
        record: &CheckedRecord,
        unattended: Unattended,
    ) -> Result<Journal, Error> {
        let node = record.node_id();
        let inputs = &self.rotation.inputs;
        let fingerprint = inputs.fingerprint()?;
        if let Some(journal) = Journal::load(self.home, node, Kind::Rotation)? {
            if journal.fits(&fingerprint, record.generation(), record.ak_digest()) {
                self.timeline
                    .step("resumed", "going on with the same K as before");
                return Ok(journal);
            }
            Journal::remove(self.home, node, Kind::Rotation)?;
        }
        let unattended = Unattended {
            share_id: ShareId::fresh().map_err(failed)?,
            staged: true,
            ..unattended
        };
        let fresh = Maker {
            home: self.home,
            services: self.services,
            inputs,
            deadline: &self.rotation.deadline,
            timeline: &mut self.timeline,
        }
        .make(record, Some(unattended))
        .await?;
        let (u, enrolment) = (&fresh.share_u, fresh.enrolment);
        Journal::begin(self.home, node, Kind::Rotation, &fingerprint, u, enrolment)
    }

    /// The verifier has it durably before U' goes anywhere.
    async fn stage(&mut self, record: &CheckedRecord, journal: &Journal) -> Result<(), Error> {
        let (services, node) = (self.services, record.node_id());
        let enrolment = journal.enrolment();
        persist(&self.rotation.deadline, &mut self.timeline, || {
            services.enrol(node, enrolment)
        })
        .await?;
        let mut local = self.rotation.local.clone();
        local.staged = Some(Staged {
            at_ms: now_ms(),
            latched_pcr15: enrolment.latched_pcr15.clone(),
            serials: enrolment.serials.clone(),
            terms: Terms {
                label: enrolment.label.clone(),
                addresses: enrolment.addresses.clone(),
                interval_seconds: enrolment.interval_seconds,
                on_failure: enrolment.on_failure,
            },
        });
        local.save(self.home)?;
        let what =
            "the verifier has the new V and payload; the old ones count until the node uses these";
        self.timeline.step("staged", what);
        Ok(())
    }

    /// Gives U', as often as needed.
    async fn give(&mut self, record: &CheckedRecord, journal: &mut Journal) -> Result<(), Error> {
        let mut pauses = Pauses::default();
        loop {
            let error = match self.try_to_give(record, journal).await {
                // The link went away between two calls.
                Err(error) if error.is_transient() || matches!(error, Error::NotFound(_)) => error,
                other => return other,
            };
            if self.rotation.deadline.is_over() {
                return Err(error);
            }
            self.timeline.waiting(&format!("{error}; trying again"));
            pauses.pause(&self.rotation.deadline).await;
        }
    }

    async fn try_to_give(
        &mut self,
        record: &CheckedRecord,
        journal: &mut Journal,
    ) -> Result<(), Error> {
        let (services, node) = (self.services, record.node_id());
        let links = services.links(node).await?;
        let link = links.iter().find(|link| link.phase == Phase::Runtime);
        let link = link.ok_or_else(|| {
            Error::TryAgain(format!("{node} has no link of its running system now"))
        })?;
        activate(services, record, link.phase).await?;
        let sources = Sources {
            home: self.home,
            services,
        };
        let policies = sources.again(&self.rotation.inputs.policies).await?;
        let latched = self.rotation.local.latched_values();
        let running = appraisal::running(services, record, link, &policies, &latched).await?;
        self.timeline.step(
            "appraised",
            "own appraisal of the running system and its boot: good",
        );
        let call = keep_call(&running, record, journal)?;
        journal.sending(self.home, *running.nonce())?;
        match services.relay(node, link.phase, Call::Keep(call)).await? {
            Reply::Keep {} => {
                self.timeline
                    .step("share-u-kept", "the new U is in the node's TPM");
                Ok(())
            }
            _ => Err(Error::untrusted(
                Party::OwnAppraisal,
                "wrong-reply",
                "the node answered another question",
            )),
        }
    }
}

/// Only a good own appraisal makes the `Running` that U' is wrapped for.
fn keep_call(
    running: &appraisal::Running,
    record: &CheckedRecord,
    journal: &Journal,
) -> Result<KeepCall, Error> {
    let id = (journal.enrolment().unattended.as_ref())
        .map(|unattended| unattended.share_id)
        .ok_or_else(|| Error::Failed("the journal of the rotation is damaged".into()))?;
    let (node, nonce) = (record.node_id(), *running.nonce());
    let share = journal.share_u()?;
    let wrapped = wrap_share(running.nk_public(), nonce.as_bytes(), node.as_str(), &share)
        .map_err(|error| Error::untrusted(Party::OwnAppraisal, "nk", error.to_string()))?;
    Ok(KeepCall {
        id,
        nonce,
        encapsulated: wrapped.encapsulated.into(),
        ciphertext: wrapped.ciphertext.into(),
    })
}

/// Whether the node has begun to use the K that was staged.
fn is_used(status: &NodeStatus) -> bool {
    status
        .unattended
        .as_ref()
        .is_some_and(|unattended| !unattended.staged)
}

/// Finishes an earlier rotation when the node has used its K by now; else leaves all as it is.
///
/// # Errors
/// Errors of the services and of files.
pub async fn settle(
    home: &Home,
    services: &Services,
    local: LocalNode,
    watch: &mut dyn Watch,
) -> Result<LocalNode, Error> {
    if local.staged.is_none() {
        return Ok(local);
    }
    let status = services.status(&local.node_id).await?;
    if !status.as_ref().is_some_and(is_used) {
        return Ok(local);
    }
    let mut timeline = Timeline::new(watch);
    let (local, _) = supersede(home, services, local, &mut timeline).await?;
    Ok(local)
}

/// Waits until the node has used the K that was staged, then revokes its older certificates.
///
/// # Errors
/// [`Error::TryAgain`] at the deadline; [`Error::Usage`] when nothing was staged.
pub async fn finish(
    home: &Home,
    services: &Services,
    local: LocalNode,
    deadline: &Deadline,
    watch: &mut dyn Watch,
) -> Result<Rotated, Error> {
    if local.staged.is_none() {
        return Err(Error::Usage(format!(
            "{} has no rotation to finish",
            local.label
        )));
    }
    let mut timeline = Timeline::new(watch);
    let mut after = 0;
    loop {
        let node = &local.node_id;
        let steps = persist(deadline, &mut timeline, || services.steps(node, after)).await?;
        refuse_untrusted(&steps.status)?;
        if is_used(&steps.status) {
            break;
        }
        after = steps.steps.last().map_or(after, |step| step.number);
        if deadline.is_over() {
            return Err(deadline.missed("the node has not booted with its new K"));
        }
        timeline.waiting("waiting for the node to boot with its new K");
    }
    let (local, revoked) = supersede(home, services, local, &mut timeline).await?;
    Ok(Rotated {
        node_id: local.node_id.to_string(),
        label: local.label,
        staged: false,
        revoked,
    })
}

/// What the new K has replaced goes. Each part may be done twice: after a crash all of it is done again.
async fn supersede(
    home: &Home,
    services: &Services,
    mut local: LocalNode,
    timeline: &mut Timeline<'_>,
) -> Result<(LocalNode, Vec<String>), Error> {
    let serials = (local.staged.as_ref()).map_or_else(Vec::new, |staged| staged.serials.clone());
    let mut revoked = Vec::new();
    // Without a certificate in the new payload the node goes on with the one it has.
    if !serials.is_empty() {
        let request = RevokeCertificates {
            reason: "superseded: the node has a newer certificate".into(),
            keep: serials,
        };
        let answer = services
            .revoke_certificates(&local.node_id, &request)
            .await?;
        revoked = answer.map_or_else(Vec::new, |answer| answer.serials);
    }
    recovery::newest_in_use(home, &local.node_id)?;
    // Left by a run that was cut short after the node had its share.
    Journal::remove(home, &local.node_id, Kind::Rotation)?;
    local.promote();
    local.save(home)?;
    timeline.step(
        "superseded",
        format!(
            "the new K is in use; {} older certificates revoked",
            revoked.len()
        ),
    );
    Ok((local, revoked))
}
