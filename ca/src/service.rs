//! The CA: its parts, and what it does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::Router;
use bootkeep_pki::{
    node::{NodeAuthority, NodeCertificateTerms},
    ocsp::{OcspRequest, SerialStatus},
    state_key::StateKey,
};
use bootkeep_protocol::{
    ca::{CertificateRecord, IssueRequest, Issued, RevokedCertificates},
    NodeId,
};
use rustls_pki_types::{pem::PemObject, CertificateDer};
use zeroize::Zeroizing;

use crate::{
    api,
    config::{Lifetimes, Urls},
    crl::{self, now, Crl, InForce},
    store::{CrlContents, Database, StoredAuthority},
    CaError,
};

/// How often another process's list is looked for, and the own one's age checked.
const LOOK: Duration = Duration::from_secs(15);
const KEY_CONTEXT: &[u8] = b"bootkeep ca issuing key";
const COMMON_NAME: &str = "Bootkeep node authority";

/// Issues node certificates and says which are not good any more.
pub struct Ca {
    authority: NodeAuthority,
    database: Database,
    in_force: InForce,
    urls: Urls,
    lifetimes: Lifetimes,
}

impl Ca {
    /// Opens the database, makes the issuing key when there is none yet, and puts a revocation list in force.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn open(
        database_url: &str,
        state_key: &StateKey,
        urls: Urls,
        lifetimes: Lifetimes,
    ) -> Result<Arc<Self>, CaError> {
        let database = Database::open(database_url).await?;
        let ca = Self {
            authority: authority(&database, state_key).await?,
            database,
            in_force: InForce::default(),
            urls,
            lifetimes,
        };
        ca.refresh().await?;
        Ok(Arc::new(ca))
    }

    /// The routes of the API.
    pub fn router(self: &Arc<Self>) -> Router {
        api::router(self.clone())
    }

    /// The routes everyone may read, over plain HTTP: revocation list and certificate.
    pub fn public_router(self: &Arc<Self>) -> Router {
        api::public_router(self.clone())
    }

    /// Keeps the revocation list fresh. Never ends.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.refresh().await {
                tracing::error!(%error, "the revocation list cannot be renewed; trying again");
            }
        }
    }

    async fn refresh(&self) -> Result<(), CaError> {
        let stored = self.database.crl().await?;
        match stored {
            Some(crl) if !crl.is_old(now(), self.crl_life()) => self.in_force.put(crl),
            _ => {
                let crl = self.database.renew(now(), |new| self.sign(new)).await?;
                tracing::info!(number = crl.number, "revocation list renewed");
                self.in_force.put(crl);
            }
        }
        Ok(())
    }

    fn crl_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.lifetimes.crl_hours.max(1)) * 3600)
    }

    fn sign(&self, contents: &CrlContents) -> Result<Crl, CaError> {
        crl::sign(&self.authority, contents, self.crl_life())
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    pub(crate) fn certificate_der(&self) -> Result<Vec<u8>, CaError> {
        CertificateDer::from_pem_slice(self.certificate_pem().as_bytes())
            .map(|certificate| certificate.to_vec())
            .map_err(|_| CaError::Row("authority"))
    }

    pub(crate) fn crl(&self) -> Option<Arc<Crl>> {
        self.in_force.get()
    }

    /// Answers an OCSP request.
    pub(crate) async fn ocsp(&self, request: &OcspRequest) -> Result<Vec<u8>, CaError> {
        let mut known = HashMap::new();
        for serial in request.serials() {
            let status = self.database.status(&serial).await?;
            known.insert(serial, status);
        }
        let status = |serial: &str| known.get(serial).copied().unwrap_or(SerialStatus::Unknown);
        let life = Duration::from_secs(u64::from(self.lifetimes.ocsp_minutes.max(1)) * 60);
        Ok(self.authority.ocsp(request, status, life)?)
    }

    pub(crate) async fn issue(&self, request: &IssueRequest) -> Result<Issued, CaError> {
        let terms = NodeCertificateTerms {
            node: &request.node_id,
            label: &request.label,
            days: self.lifetimes.certificate_days,
            crl_url: &self.urls.crl,
            ocsp_url: self.urls.ocsp.as_deref(),
            ca_url: self.urls.ca.as_deref(),
        };
        let new = self.authority.issue(request.csr.as_slice(), &terms)?;
        let record = CertificateRecord {
            serial: new.serial.clone(),
            node_id: request.node_id.clone(),
            issued_at: now(),
            not_after: new.not_after,
            revoked_at: None,
        };
        // A certificate that is not in the books could not be revoked: it leaves only after it is.
        self.database.add(&record, &request.label).await?;
        tracing::info!(
            node = request.node_id.short(),
            serial = new.serial,
            label = request.label,
            "certificate issued"
        );
        Ok(Issued {
            serial: new.serial,
            certificate_pem: new.certificate_pem,
            chain_pem: self.certificate_pem().into(),
        })
    }

    pub(crate) async fn certificates(&self) -> Result<Vec<CertificateRecord>, CaError> {
        self.database.certificates().await
    }

    pub(crate) async fn revoke(
        &self,
        node: &NodeId,
        reason: &str,
        keep: &[String],
    ) -> Result<RevokedCertificates, CaError> {
        let (serials, crl) = self
            .database
            .revoke(node, reason, keep, now(), |new| self.sign(new))
            .await?;
        let crl_number = crl.number;
        let der = crl.der.clone();
        self.in_force.put(crl);
        tracing::warn!(
            node = node.short(),
            ?serials,
            crl_number,
            reason,
            "certificates revoked"
        );
        Ok(RevokedCertificates {
            serials,
            crl_number,
            crl: der.into(),
        })
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

/// The issuing key of the database; makes it at the first start.
async fn authority(database: &Database, state_key: &StateKey) -> Result<NodeAuthority, CaError> {
    if database.authority().await?.is_none() {
        let new = NodeAuthority::generate(COMMON_NAME)?;
        let stored = StoredAuthority {
            certificate_pem: new.certificate_pem().into(),
            sealed_key: state_key.seal(KEY_CONTEXT, new.key_pem().as_bytes())?,
        };
        database.keep_authority(&stored).await?;
    }
    let stored = database
        .authority()
        .await?
        .ok_or(CaError::Row("authority"))?;
    let key = state_key.open(KEY_CONTEXT, &stored.sealed_key)?;
    let key = std::str::from_utf8(&key).map_err(|_| CaError::Row("sealed_key"))?;
    let key = Zeroizing::new(key.to_owned());
    Ok(NodeAuthority::from_pem(&stored.certificate_pem, &key)?)
}
