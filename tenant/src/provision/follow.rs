//! Following a node from its waiting link to the end: own look, U, confirmation, trust.

use std::time::Duration;

use bootkeep_policy::Booted;
use bootkeep_protocol::{
    link::{Call, Reply, ShareCall, SharePart, LATCH_PCR},
    verifier::{LinkInfo, NodeStatus, State, Steps},
    Bytes, Phase,
};
use bootkeep_tpkd::wrap_share;
use tokio::time::timeout;

use super::{
    flow::Run,
    journal::Journal,
    retry::{persist, Pauses},
};
use crate::{
    appraisal,
    cli::Until,
    error::{Party, Refusal},
    look::{activate, look, Look, Wanted},
    record::CheckedRecord,
    Error,
};

/// What the following of one node remembers.
pub(super) struct Follower<'r, 'a> {
    run: &'r mut Run<'a>,
    record: &'r CheckedRecord,
    journal: &'r mut Journal,
    /// Number of the last step seen.
    after: u64,
    /// Exporter of the link over which U was given.
    served: Option<Bytes>,
    /// Whether something failed that is to be tried again soon.
    again: bool,
    pauses: Pauses,
    combined_ms: Option<u64>,
}

/// How it ended well.
pub(super) struct Followed {
    /// Where the verifier sees the node.
    pub(super) state: State,
    /// When K was confirmed, milliseconds since the beginning.
    pub(super) combined_ms: u64,
}

impl<'r, 'a> Follower<'r, 'a> {
    pub(super) fn new(
        run: &'r mut Run<'a>,
        record: &'r CheckedRecord,
        journal: &'r mut Journal,
    ) -> Self {
        Self {
            run,
            record,
            journal,
            after: 0,
            served: None,
            again: false,
            pauses: Pauses::default(),
            combined_ms: None,
        }
    }

    /// Until K is confirmed and, when asked for, the booted system is trusted.
    pub(super) async fn follow(mut self, mut status: NodeStatus) -> Result<Followed, Error> {
        loop {
            refuse_untrusted(&status)?;
            if !self.journal.confirmed() || !keeps(self.journal, &status) {
                self.serve().await?;
            }
            if let Some(done) = self.done(&status) {
                return Ok(done);
            }
            let missing = missing(self.journal, &status);
            if self.run.options.deadline.is_over() {
                return Err(self.run.options.deadline.missed(missing));
            }
            self.run.timeline.waiting(missing);
            if let Some(steps) = self.news().await? {
                self.check_confirmation(steps.confirmation.as_ref())?;
                status = steps.status;
            }
        }
    }

    fn done(&mut self, status: &NodeStatus) -> Option<Followed> {
        // Until the node keeps its share this home must be able to give U once more.
        if !self.journal.confirmed() || !keeps(self.journal, status) {
            return None;
        }
        let now = self.run.timeline.elapsed_ms();
        let combined_ms = *self.combined_ms.get_or_insert(now);
        let enough = self.run.options.until == Until::Combined || status.state == State::Trusted;
        enough.then_some(Followed {
            state: status.state,
            combined_ms,
        })
    }

    /// The verifier's news: when there is some, or after a pause when something is to be tried again.
    async fn news(&mut self) -> Result<Option<Steps>, Error> {
        let run = &mut *self.run;
        let (services, node, after) = (run.services, self.record.node_id(), self.after);
        let news = persist(&run.options.deadline, &mut run.timeline, || {
            services.steps(node, after)
        });
        let longest = if self.again {
            self.pauses.longer()
        } else {
            Duration::MAX
        };
        let Ok(steps) = timeout(longest.min(run.options.deadline.left()), news).await else {
            return Ok(None);
        };
        let steps = steps?;
        for step in &steps.steps {
            run.timeline.told(step);
        }
        // A verifier that counts anew after a restart is followed from its beginning.
        let newest = steps.steps.last().map(|step| step.number);
        self.after = newest.unwrap_or(self.after);
        Ok(Some(steps))
    }

    /// Gives U over the link of the initramfs, if there is one that has not had it.
    async fn serve(&mut self) -> Result<(), Error> {
        match self.try_to_serve().await {
            Err(error) if error.is_transient() => {
                self.again = true;
                self.run.timeline.waiting(&format!("{error}; trying again"));
                Ok(())
            }
            // The link went away between two calls.
            Err(Error::NotFound(_)) => {
                self.again = true;
                Ok(())
            }
            other => {
                self.again = false;
                self.pauses = Pauses::default();
                other
            }
        }
    }

    async fn try_to_serve(&mut self) -> Result<(), Error> {
        let links = self.run.services.links(self.record.node_id()).await?;
        let of = |phase: Phase| links.iter().find(move |link| link.phase == phase);
        match (of(Phase::Initramfs), of(Phase::Runtime)) {
            (Some(link), _) if self.served.as_ref() != Some(&link.exporter) => {
                self.serve_link(link).await
            }
            (None, Some(link)) if self.journal.sent() && !self.journal.confirmed() => {
                self.look_at_latch(link).await
            }
            _ => Ok(()),
        }
    }

    async fn serve_link(&mut self, link: &LinkInfo) -> Result<(), Error> {
        let services = self.run.services;
        self.run.timeline.step(
            "link",
            format!("{} link, boot {}", link.phase, link.boot_id),
        );
        activate(services, self.record, link.phase).await?;
        let what = "own credential: AK and EK live in one TPM";
        self.run.timeline.step("ak-proved", what);
        let everything = Wanted::Everything { ima_offset: 0 };
        let look = look(services, self.record, link, everything).await?;
        if self.shows_latch(&look)? {
            return Ok(());
        }
        let policies = self.run.policies().await?;
        let booted = appraisal::boot(self.record, &look, &policies)?;
        self.run.timeline.step(
            "appraised",
            "own appraisal of quote, boot log and measurement list: good",
        );
        self.run.authorize(self.record, self.journal, &look).await?;
        self.send_share(&booted).await?;
        self.served = Some(link.exporter.clone());
        Ok(())
    }

    /// Only a good own appraisal makes the `Booted` that U is wrapped for.
    async fn send_share(&mut self, booted: &Booted) -> Result<(), Error> {
        let (node, nonce) = (self.record.node_id(), *booted.nonce());
        let share = self.journal.share_u()?;
        let wrapped = wrap_share(booted.nk_public(), nonce.as_bytes(), node.as_str(), &share)
            .map_err(|error| Error::untrusted(Party::OwnAppraisal, "nk", error.to_string()))?;
        let call = Call::Share(ShareCall {
            part: SharePart::U,
            nonce,
            encapsulated: wrapped.encapsulated.into(),
            ciphertext: wrapped.ciphertext.into(),
            envelope: None,
            kept: None,
        });
        let sent_before = self.journal.sent();
        self.journal.sending(self.run.home, nonce)?;
        let reply = match self.run.services.relay(node, Phase::Initramfs, call).await {
            // It has U from an earlier link and takes no other: its confirmation is on the way.
            Err(Error::Untrusted(refusal)) if sent_before && has(&refusal, "no-shares-here") => {
                return Ok(());
            }
            other => other?,
        };
        self.run.timeline.step(
            "share-u-sent",
            "U is at the node, wrapped to the key in its quote",
        );
        match reply {
            Reply::Share { confirmation } => self.check_confirmation(confirmation.as_ref()),
            _ => Err(Error::untrusted(
                Party::OwnAppraisal,
                "wrong-reply",
                "the node answered another question",
            )),
        }
    }

    /// The booted system shows the latch of our K: it has had K, even if its word for it was lost.
    async fn look_at_latch(&mut self, link: &LinkInfo) -> Result<(), Error> {
        let look = look(self.run.services, self.record, link, Wanted::Latch).await?;
        self.shows_latch(&look).map(drop)
    }

    fn shows_latch(&mut self, look: &Look) -> Result<bool, Error> {
        if !self.journal.sent() {
            return Ok(false);
        }
        let quote = look.quote(self.record).map_err(Error::Untrusted)?;
        let latched = self.journal.enrolment().latched_pcr15.as_slice();
        let shown = quote.pcrs().get(LATCH_PCR).map(<[u8; 32]>::as_slice) == Some(latched);
        if shown {
            self.confirm("PCR 15 shows that the node has used K")?;
        }
        Ok(shown)
    }

    fn check_confirmation(&mut self, confirmation: Option<&Bytes>) -> Result<(), Error> {
        match confirmation {
            Some(it) if !self.journal.confirmed() && self.journal.confirms(it.as_slice())? => {
                self.confirm("the node has shown that it knows K")
            }
            // Of an earlier provisioning in the same boot, or made up: it says nothing about this K.
            _ => Ok(()),
        }
    }

    fn confirm(&mut self, how: &str) -> Result<(), Error> {
        if self.journal.confirmed() {
            return Ok(());
        }
        self.journal.confirm(self.run.home)?;
        self.run.timeline.step("confirmed", how);
        Ok(())
    }
}

fn has(refusal: &Refusal, code: &str) -> bool {
    refusal.reasons.iter().any(|reason| reason.code == code)
}

/// Whether the node needs U from here no more.
fn keeps(journal: &Journal, status: &NodeStatus) -> bool {
    journal.enrolment().unattended.is_none()
        || (status.unattended.as_ref()).is_some_and(|kept| kept.kept_at_ms.is_some())
}

pub(super) fn refuse_untrusted(status: &NodeStatus) -> Result<(), Error> {
    if !matches!(status.state, State::Untrusted | State::Revoked) {
        return Ok(());
    }
    let reasons = status.reasons.clone();
    if reasons.is_empty() {
        let detail = "the verifier gave no reason";
        return Err(Error::untrusted(
            Party::Verifier,
            status.state.as_str(),
            detail,
        ));
    }
    Err(Error::Untrusted(Refusal {
        by: Party::Verifier,
        reasons,
    }))
}

fn missing(journal: &Journal, status: &NodeStatus) -> &'static str {
    if journal.confirmed() && !keeps(journal, status) {
        return "K is confirmed; waiting for the node to keep its share for later boots";
    }
    if journal.confirmed() {
        return "K is confirmed; waiting for the booted system to be trusted";
    }
    match (journal.sent(), status.links.contains(&Phase::Initramfs)) {
        (true, _) => "U is sent; waiting for the verifier's share and the node's confirmation",
        (false, true) => "the node waits in its initramfs",
        (false, false) => "waiting for the node's initramfs to open its link",
    }
}
