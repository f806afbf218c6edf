//! The steps, in their order.

use bootkeep_pki::node::new_key_and_csr;
use bootkeep_protocol::{
    ca::IssueRequest,
    verifier::{Enrolment, NodeStatus, State},
};
use bootkeep_tpkd::{
    latch_digest, latched_pcr15, seal_envelope, BootstrapKey, Envelope, Identity, Item,
};
use serde::Serialize;

use super::{
    follow::{Followed, Follower},
    inputs::Inputs,
    journal::Journal,
    retry::{persist, Deadline, Pauses},
    watch::{Moment, Timeline, Watch},
};
use crate::{
    cli::Until,
    local::LocalNode,
    node_name::{self, Named},
    output::Show,
    policies::{Policies, Sources},
    record::{self, Belief, CheckedRecord},
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
        Journal::remove(home, record.node_id())?;
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
        if let Some(journal) = Journal::load(self.home, node)? {
            if journal.fits(&fingerprint, record.generation(), record.ak_digest()) {
                self.timeline
                    .step("resumed", "going on with the same K as before");
                return Ok(journal);
            }
            self.timeline.step(
                "restarted",
                "inputs or AK differ from the run that was cut short: new K",
            );
            Journal::remove(self.home, node)?;
        }
        let (items, serials) = self.items(record).await?;
        let key = BootstrapKey::generate().map_err(failed)?;
        let (share_u, share_v) = key.split().map_err(failed)?;
        let envelope = seal_envelope(&key, node.as_str(), &Envelope { items })
            .map_err(|error| Error::Usage(error.to_string()))?;
        let inputs = &self.options.inputs;
        let latch = latch_digest(&inputs.volume, key.latch_secret().as_slice());
        let enrolment = Enrolment {
            label: self.label(record),
            generation: record.generation(),
            ak_digest: record.ak_digest().as_slice().into(),
            share_v: share_v.expose().as_slice().into(),
            envelope: envelope.into(),
            latched_pcr15: latched_pcr15(&latch).as_slice().into(),
            boot_policy: inputs.policies.boot.source.clone(),
            runtime_policy: inputs.policies.runtime.source.clone(),
            interval_seconds: inputs.interval,
            addresses: inputs.addresses.clone(),
            serials,
            on_failure: inputs.on_failure,
            unattended: None,
        };
        let journal = Journal::begin(self.home, node, &fingerprint, &share_u, enrolment)?;
        self.timeline
            .step("sealed", "K made and split, payload sealed under K");
        Ok(journal)
    }

    fn label(&self, record: &CheckedRecord) -> String {
        let given = self.options.inputs.label.clone();
        given.unwrap_or_else(|| record.node_id().short().to_owned())
    }

    /// The payload, and the serial numbers of the certificates in it.
    async fn items(&mut self, record: &CheckedRecord) -> Result<(Vec<Item>, Vec<String>), Error> {
        let mut items = self.options.inputs.items(record.node_id())?;
        let mut serials = Vec::new();
        if self.options.inputs.certificate {
            let (item, serial) = self.certificate(record).await?;
            items.push(item);
            serials.push(serial);
        }
        Ok((items, serials))
    }

    async fn certificate(&mut self, record: &CheckedRecord) -> Result<(Item, String), Error> {
        let label = self.label(record);
        let (key_pem, csr) = new_key_and_csr(&label).map_err(failed)?;
        let request = IssueRequest {
            node_id: record.node_id().clone(),
            label,
            csr: csr.into(),
        };
        let services = self.services;
        let issued = persist(&self.options.deadline, &mut self.timeline, || {
            services.issue(&request)
        })
        .await?;
        self.timeline
            .step("certificate", format!("serial {}", issued.serial));
        let identity = Identity {
            certificate_pem: issued.certificate_pem,
            key_pem: key_pem.to_string(),
            chain_pem: issued.chain_pem,
        };
        Ok((Item::Identity(identity), issued.serial))
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
        LocalNode::of(node, enrolment).save(self.home)?;
        let status = persist(&self.options.deadline, &mut self.timeline, || {
            services.enrol(node, enrolment)
        })
        .await?;
        let what = "the verifier has V, the sealed payload and the policies";
        self.timeline.step("enrolled", what);
        Ok(status)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}
