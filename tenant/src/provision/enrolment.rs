//! One K with its envelope and its enrolment.

use bootkeep_pki::node::new_key_and_csr;
use bootkeep_protocol::{
    ca::IssueRequest,
    verifier::{Enrolment, Unattended},
};
use bootkeep_tpkd::{
    latch_digest, latched_pcr15, seal_envelope, BootstrapKey, Envelope, Identity, Item, Share, U,
};

use super::{
    inputs::Inputs,
    retry::{persist, Deadline},
    watch::Timeline,
};
use crate::{record::CheckedRecord, recovery, services::Services, Error, Home};

/// A new K, split.
pub(super) struct Fresh {
    pub(super) share_u: Share<U>,
    /// With V.
    pub(super) enrolment: Enrolment,
}

/// Who it is for and what with.
pub(super) struct Maker<'a, 't> {
    pub(super) home: &'a Home,
    pub(super) services: &'a Services,
    pub(super) inputs: &'a Inputs,
    pub(super) deadline: &'a Deadline,
    pub(super) timeline: &'a mut Timeline<'t>,
}

impl Maker<'_, '_> {
    /// Makes K, splits it, seals the payload under it. Nothing of it has left this program yet, but for the recovery key,
    /// which is on the disk as only the offline key reads it.
    pub(super) async fn make(
        &mut self,
        record: &CheckedRecord,
        unattended: Option<Unattended>,
    ) -> Result<Fresh, Error> {
        let (inputs, node) = (self.inputs, record.node_id());
        let (items, serials) = self.items(record, unattended.as_ref()).await?;
        let key = BootstrapKey::generate().map_err(failed)?;
        let (share_u, share_v) = key.split().map_err(failed)?;
        let latch = latch_digest(&inputs.volume, key.latch_secret().as_slice());
        let envelope = seal_envelope(&key, node.as_str(), &Envelope { items })
            .map_err(|error| Error::Usage(error.to_string()))?;
        if let Some(public) = inputs.recovery() {
            recovery::keep(self.home, node, public, &inputs.volume, &key)?;
        }
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
            unattended,
        };
        self.timeline
            .step("sealed", "K made and split, payload sealed under K");
        Ok(Fresh { share_u, enrolment })
    }

    fn label(&self, record: &CheckedRecord) -> String {
        let given = self.inputs.label.clone();
        given.unwrap_or_else(|| record.node_id().short().to_owned())
    }

    /// The payload, and the serial numbers of the certificates in it.
    async fn items(
        &mut self,
        record: &CheckedRecord,
        unattended: Option<&Unattended>,
    ) -> Result<(Vec<Item>, Vec<String>), Error> {
        let mut items = self.inputs.items(record.node_id())?;
        let mut serials = Vec::new();
        if let Some(unattended) = unattended {
            let authorities = unattended.authorities.iter();
            items.push(Item::Unattended {
                authorities: authorities.map(bootkeep_authorize::from_wire).collect(),
            });
        }
        if self.inputs.certificate {
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
        let issued = persist(self.deadline, self.timeline, || services.issue(&request)).await?;
        self.timeline
            .step("certificate", format!("serial {}", issued.serial));
        let identity = Identity {
            certificate_pem: issued.certificate_pem,
            key_pem: key_pem.to_string(),
            chain_pem: issued.chain_pem,
        };
        Ok((Item::Identity(identity), issued.serial))
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}
