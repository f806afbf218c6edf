//! The steps, in their order.

use bootkeep_authorize::{to_wire, AuthorityKey};
use bootkeep_protocol::{
    kept::SignedPcrPolicy,
    verifier::{NodeStatus, State, Unattended},
    Phase, ShareId,
};
use serde::Serialize;

use super::{
    enrolment::{failed, Maker},
    follow::{Followed, Follower},
    inputs::Inputs,
    journal::{Journal, Kind},
    retry::{persist, Deadline, Pauses},
    unattended,
    watch::{Moment, Timeline, Watch},
};
use crate::{
    appraisal,
    cli::Until,
    local::LocalNode,
    look::{activate, look, Look, Wanted},
    node_name::{self, Named},
    output::Show,
    policies::{Policies, Sources},
    record::{self, Belief, CheckedRecord},
    recovery,
    services::Services,
    Error, Home,
};

/// How to provision.
#[derive(Debug)]
pub struct Options {
    /// Which node, as the user names it.
    pub node: String,
    /// What it is given.
    pub inputs: Inputs,
    /// Until when to wait.
    pub until: Until,
    /// When to give up.
    pub deadline: Deadline,
}

/// A node that was provisioned.
#[derive(Debug, Serialize)]
pub struct Provisioned {
    /// The node.
    pub node_id: String,
    /// Its name.
    pub label: String,
    /// Generation of its AK.
    pub generation: u64,
    /// Why its EK is believed.
    pub ek: String,
    /// Where the verifier sees it.
    pub state: State,
    /// Milliseconds from the beginning until the node had shown that it knows K.
    pub combined_ms: u64,
    /// Milliseconds from the beginning to the end.
    pub total_ms: u64,
    /// All steps.
    pub steps: Vec<Moment>,
}

impl Show for Provisioned {
    fn human(&self) -> String {
        format!(
            "{} ({}) is provisioned and {}\n",
            self.label,
            self.node_id,
            self.state.as_str()
        )
    }
}

/// Provisions a node, or goes on where an earlier run was cut short.
///
/// # Errors
/// [`Error::Untrusted`] naming who refused and why; [`Error::TryAgain`] or [`Error::Unreachable`] at the deadline.
pub async fn provision(
    home: &Home,
    services: &Services,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Provisioned, Error> {
    let mut run = Run {
        home,
        services,
        options,
        timeline: Timeline::new(watch),
    };
    let record = run.checked_record().await?;
    let mut journal = run.journal(&record).await?;
    let status = run.enrol(&record, &journal).await?;
    let outcome = Follower::new(&mut run, &record, &mut journal)
        .follow(status)
        .await;
    if matches!(outcome, Ok(_) | Err(Error::Untrusted(_))) {
        // Done or refused: U has served. Another try is a new provisioning with a new K.
        Journal::remove(home, record.node_id(), Kind::Provisioning)?;
    }
    if outcome.is_ok() {
        recovery::newest_in_use(home, record.node_id())?;
    }
    let Followed { state, combined_ms } = outcome?;
    let ek = match record.belief() {
        Belief::Certificate(root) => format!("certificate, root {root}"),
        Belief::Approval(note) => format!("approved: {note}"),
    };
    Ok(Provisioned {
        node_id: record.node_id().to_string(),
        label: journal.enrolment().label.clone(),
        generation: record.generation(),
        ek,
        state,
        combined_ms,
        total_ms: run.timeline.elapsed_ms(),
        steps: run.timeline.into_moments(),
    })
}

/// One run of the program.
pub(super) struct Run<'a> {
    pub(super) home: &'a Home,
    pub(super) services: &'a Services,
    pub(super) options: &'a Options,
    pub(super) timeline: Timeline<'a>,
}

impl Run<'_> {
    /// Waits for the node's registration; the record is read once, and everything after speaks of its keys.
    async fn checked_record(&mut self) -> Result<CheckedRecord, Error> {
        let (home, services, name) = (self.home, self.services, self.options.node.as_str());
        let mut pauses = Pauses::default();
        let record = loop {
            let found = persist(&self.options.deadline, &mut self.timeline, || {
                node_name::registered(home, services, name)
            })
            .await?;
            match found {
                Named::Record(record) => break record,
                Named::NotYet => self
                    .timeline
                    .waiting(&format!("waiting for {name} to register")),
            }
            if self.options.deadline.is_over() {
                return Err(self.options.deadline.missed("the node has not registered"));
            }
            pauses.pause(&self.options.deadline).await;
        };
        self.timeline.step("registered", record.node_id.as_str());
        let checked = record::check(home, &record.node_id, &record)?;
        let why = match checked.belief() {
            Belief::Certificate(root) => format!("own check of the EK certificate: root {root}"),
            Belief::Approval(note) => format!("EK approved by you: {note}"),
        };
        self.timeline.step("ek-trusted", why);
        Ok(checked)
    }

    /// Goes on with the journal of a run that was cut short, or begins one.
    async fn journal(&mut self, record: &CheckedRecord) -> Result<Journal, Error> {
        let node = record.node_id();
        let fingerprint = self.options.inputs.fingerprint()?;
        if let Some(journal) = Journal::load(self.home, node, Kind::Provisioning)? {
            if journal.fits(&fingerprint, record.generation(), record.ak_digest()) {
                self.timeline
                    .step("resumed", "going on with the same K as before");
                return Ok(journal);
            }
            self.timeline.step(
                "restarted",
                "inputs or AK differ from the run that was cut short: new K",
            );
            Journal::remove(self.home, node, Kind::Provisioning)?;
        }
        let unattended = self.unattended(record).await?;
        let inputs = &self.options.inputs;
        let fresh = Maker {
            home: self.home,
            services: self.services,
            inputs,
            deadline: &self.options.deadline,
            timeline: &mut self.timeline,
        }
        .make(record, unattended)
        .await?;
        Journal::begin(
            self.home,
            node,
            Kind::Provisioning,
            &fingerprint,
            &fresh.share_u,
            fresh.enrolment,
        )
    }

    /// What the enrolment says of boots with nobody here. A node that waits already is appraised first: its PCR policy
    /// then is there before V is, which a volume with a key under an earlier K needs.
    async fn unattended(&mut self, record: &CheckedRecord) -> Result<Option<Unattended>, Error> {
        let Some(wanted) = &self.options.inputs.unattended else {
            return Ok(None);
        };
        let boot = &self.options.inputs.policies.boot.source;
        let key = unattended::owner_key(self.home, boot, record.node_id())?;
        let authorities = wanted.authorities(&key);
        let pcr_policies = self.preview(record, &key, wanted.pcrs.as_deref()).await?;
        Ok(Some(Unattended {
            share_id: ShareId::fresh().map_err(failed)?,
            authorities: authorities.iter().map(to_wire).collect(),
            pcr_policies: pcr_policies.into_iter().collect(),
            staged: false,
        }))
    }

    /// The PCR policy of the boot in which the node waits now, once our own appraisal has found it good.
    async fn preview(
        &mut self,
        record: &CheckedRecord,
        key: &AuthorityKey,
        pcrs: Option<&[u8]>,
    ) -> Result<Option<SignedPcrPolicy>, Error> {
        match self.look_early(record, key, pcrs).await {
            // There is time for it later.
            Err(error) if error.is_transient() => Ok(None),
            Err(Error::NotFound(_)) => Ok(None),
            other => other,
        }
    }

    async fn look_early(
        &mut self,
        record: &CheckedRecord,
        key: &AuthorityKey,
        pcrs: Option<&[u8]>,
    ) -> Result<Option<SignedPcrPolicy>, Error> {
        let links = self.services.links(record.node_id()).await?;
        let Some(link) = links.iter().find(|link| link.phase == Phase::Initramfs) else {
            return Ok(None);
        };
        activate(self.services, record, link.phase).await?;
        let everything = Wanted::Everything { ima_offset: 0 };
        let look = look(self.services, record, link, everything).await?;
        appraisal::boot(record, &look, &self.options.inputs.policies)?;
        let signed = unattended::sign(key, pcrs, record, &look)?;
        self.timeline.step("pcr-policy", told(&signed));
        Ok(Some(signed))
    }

    /// Adds the PCR policy of the boot that was appraised, and has the verifier know it before U is given.
    pub(super) async fn authorize(
        &mut self,
        record: &CheckedRecord,
        journal: &mut Journal,
        look: &Look,
    ) -> Result<(), Error> {
        let (Some(wanted), Some(enrolled)) = (
            &self.options.inputs.unattended,
            &journal.enrolment().unattended,
        ) else {
            return Ok(());
        };
        let boot = &journal.enrolment().boot_policy;
        let key = unattended::owner_key(self.home, boot, record.node_id())?;
        unattended::check_owner(&key, &enrolled.authorities)?;
        let signed = unattended::sign(&key, wanted.pcrs.as_deref(), record, look)?;
        if unattended::has(&enrolled.pcr_policies, &signed) {
            return Ok(());
        }
        self.timeline.step("pcr-policy", told(&signed));
        journal.authorize(self.home, signed)?;
        self.enrol(record, journal).await.map(drop)
    }

    /// The policies as they count now: a name that is followed may have a newer generation than at the beginning.
    pub(super) async fn policies(&mut self) -> Result<Policies, Error> {
        let sources = Sources {
            home: self.home,
            services: self.services,
        };
        sources.again(&self.options.inputs.policies).await
    }

    async fn enrol(
        &mut self,
        record: &CheckedRecord,
        journal: &Journal,
    ) -> Result<NodeStatus, Error> {
        let (services, node) = (self.services, record.node_id());
        let enrolment = journal.enrolment();
        LocalNode::of(node, enrolment, &self.options.inputs).save(self.home)?;
        let status = persist(&self.options.deadline, &mut self.timeline, || {
            services.enrol(node, enrolment)
        })
        .await?;
        let what = "the verifier has V, the sealed payload and the policies";
        self.timeline.step("enrolled", what);
        Ok(status)
    }
}

fn told(signed: &SignedPcrPolicy) -> String {
    let pcrs: Vec<String> = signed.pcrs.iter().map(u8::to_string).collect();
    format!("signed for this boot: PCR {}", pcrs.join(", "))
}
