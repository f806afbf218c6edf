//! The services, as this program asks them.

use bootkeep_link::{ClientTls, HttpClient, HttpError};
use bootkeep_policy::SignedPolicy;
use bootkeep_protocol::{
    ca::{CertificateRecord, IssueRequest, Issued, RevokeCertificates, RevokedCertificates},
    dsse::Envelope,
    link::{Call, Reply},
    policy::{PolicyAnswer, PolicyKind, PolicyRecord},
    registrar::{Approval, ApprovedEk, NodeRecord},
    revocation::Revocations,
    verifier::{Enrolment, LastEvidence, LinkInfo, NodeStatus, RelayRequest, RevokeRequest, Steps},
    NodeId, Phase, ProblemKind, Role,
};
use serde::{de::DeserializeOwned, Serialize};

use crate::{
    error::{Party, Refusal},
    files, Error, Home,
};

/// Largest PEM file that is read (bytes).
const MAX_PEM: u64 = 256 * 1024;

/// One service.
#[derive(Clone, Debug)]
struct Service {
    party: Party,
    base: String,
    client: HttpClient,
}

/// All of them, with the tenant's identity.
#[derive(Clone, Debug)]
pub struct Services {
    registrar: Service,
    verifier: Service,
    ca: Service,
}

impl Services {
    /// Reads the home's configuration and identity. Connects to nothing yet.
    ///
    /// # Errors
    /// Errors of the configuration and its files.
    pub fn open(home: &Home) -> Result<Self, Error> {
        let config = home.config()?;
        let server_ca = files::read(&home.resolve(&config.server_ca), MAX_PEM)?;
        let certificate = files::read(&home.resolve(&config.certificate), MAX_PEM)?;
        let key = files::read_private(&home.resolve(&config.key), MAX_PEM)?;
        let tls = ClientTls::with_identity(&server_ca, &certificate, &key)
            .map_err(|error| Error::Usage(format!("{}: {error}", home.config_path().display())))?;
        let service = |party, role, base: &str| Service {
            party,
            base: base.trim_end_matches('/').to_owned(),
            client: HttpClient::new(tls.clone(), role),
        };
        Ok(Self {
            registrar: service(Party::Registrar, Role::Registrar, &config.registrar),
            verifier: service(Party::Verifier, Role::Verifier, &config.verifier),
            ca: service(Party::Ca, Role::Ca, &config.ca),
        })
    }

    /// Every registered node.
    ///
    /// # Errors
    /// Errors of the service; as all below.
    pub async fn records(&self) -> Result<Vec<NodeRecord>, Error> {
        self.registrar.get("/v1/nodes").await
    }

    /// One registered node; absent when it has not registered.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn record(&self, node: &NodeId) -> Result<Option<NodeRecord>, Error> {
        found(self.registrar.get(&format!("/v1/nodes/{node}")).await)
    }

    /// Forgets a registration; whether there was one.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn forget_record(&self, node: &NodeId) -> Result<bool, Error> {
        self.registrar.forget(&format!("/v1/nodes/{node}")).await
    }

    /// EKs accepted without a certificate.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn approvals(&self) -> Result<Vec<ApprovedEk>, Error> {
        self.registrar.get("/v1/approvals").await
    }

    /// Accepts an EK without a certificate.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn approve(&self, node: &NodeId, approval: &Approval) -> Result<(), Error> {
        let _: serde_json::Value = self
            .registrar
            .put(&format!("/v1/approvals/{node}"), approval)
            .await?;
        Ok(())
    }

    /// Takes an approval back; whether there was one.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn withdraw(&self, node: &NodeId) -> Result<bool, Error> {
        self.registrar
            .forget(&format!("/v1/approvals/{node}"))
            .await
    }

    /// Every enrolled node.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn statuses(&self) -> Result<Vec<NodeStatus>, Error> {
        self.verifier.get("/v1/nodes").await
    }

    /// One enrolled node; absent when it is not enrolled.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn status(&self, node: &NodeId) -> Result<Option<NodeStatus>, Error> {
        found(self.verifier.get(&format!("/v1/nodes/{node}")).await)
    }

    /// Enrols a node.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn enrol(&self, node: &NodeId, enrolment: &Enrolment) -> Result<NodeStatus, Error> {
        self.verifier
            .put(&format!("/v1/nodes/{node}"), enrolment)
            .await
    }

    /// Steps newer than `after`; waits for one.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn steps(&self, node: &NodeId, after: u64) -> Result<Steps, Error> {
        self.verifier
            .get(&format!("/v1/nodes/{node}/steps?after={after}"))
            .await
    }

    /// The node's open links; none when the verifier does not know it.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn links(&self, node: &NodeId) -> Result<Vec<LinkInfo>, Error> {
        let links = self.verifier.get(&format!("/v1/nodes/{node}/links")).await;
        Ok(found(links)?.unwrap_or_default())
    }

    /// Puts a call to the node over one of its links. What is refused as untrusted or in
    /// conflict with the node's state is refused by the node.
    ///
    /// # Errors
    /// Errors of the service, refusals of the node.
    pub async fn relay(&self, node: &NodeId, phase: Phase, call: Call) -> Result<Reply, Error> {
        let path = format!("/v1/nodes/{node}/relay");
        let answer = self
            .verifier
            .post(&path, &RelayRequest { phase, call })
            .await;
        answer.map_err(|error| match error {
            Error::Untrusted(refusal) => Error::Untrusted(Refusal {
                by: Party::Node,
                ..refusal
            }),
            Error::Refused { problem, .. } if problem.kind == ProblemKind::Conflict => {
                Error::untrusted(Party::Node, &problem.code, problem.detail)
            }
            other => other,
        })
    }

    /// Declares a node revoked; absent when it is not enrolled.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn revoke(
        &self,
        node: &NodeId,
        request: &RevokeRequest,
    ) -> Result<Option<NodeStatus>, Error> {
        let path = format!("/v1/nodes/{node}/revoke");
        found(self.verifier.post(&path, request).await)
    }

    /// Forgets an enrolment; whether there was one.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn forget_enrolment(&self, node: &NodeId) -> Result<bool, Error> {
        self.verifier.forget(&format!("/v1/nodes/{node}")).await
    }

    /// Every generation of every policy the verifier has.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>, Error> {
        self.verifier.get("/v1/policies").await
    }

    /// One generation of a policy, with the signed object.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn policy(
        &self,
        kind: PolicyKind,
        name: &str,
        generation: u64,
    ) -> Result<PolicyAnswer, Error> {
        self.verifier
            .get(&policy_path(kind, name, generation))
            .await
    }

    /// Gives the verifier a signed policy.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn put_policy(
        &self,
        policy: &SignedPolicy,
        envelope: &Envelope,
    ) -> Result<PolicyRecord, Error> {
        let path = policy_path(policy.kind(), policy.name(), policy.generation());
        self.verifier.put(&path, envelope).await
    }

    /// Retires a generation.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn retire_policy(
        &self,
        kind: PolicyKind,
        name: &str,
        generation: u64,
    ) -> Result<PolicyRecord, Error> {
        let path = policy_path(kind, name, generation) + "/retire";
        self.verifier.post(&path, &serde_json::json!({})).await
    }

    /// The last evidence of a node that the verifier appraised; absent when it has none.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn last_evidence(&self, node: &NodeId) -> Result<Option<LastEvidence>, Error> {
        found(
            self.verifier
                .get(&format!("/v1/nodes/{node}/evidence"))
                .await,
        )
    }

    /// The revocation log after an entry, at most one page of it.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn revocations(&self, after: u64) -> Result<Revocations, Error> {
        self.verifier
            .get(&format!("/v1/revocations?after={after}"))
            .await
    }

    /// Issues a node certificate.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn issue(&self, request: &IssueRequest) -> Result<Issued, Error> {
        self.ca.post("/v1/certificates", request).await
    }

    /// Every certificate.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn certificates(&self) -> Result<Vec<CertificateRecord>, Error> {
        self.ca.get("/v1/certificates").await
    }

    /// Revokes all certificates of a node; absent when it has none.
    ///
    /// # Errors
    /// Errors of the service.
    pub async fn revoke_certificates(
        &self,
        node: &NodeId,
        request: &RevokeCertificates,
    ) -> Result<Option<RevokedCertificates>, Error> {
        found(
            self.ca
                .post(&format!("/v1/nodes/{node}/revoke"), request)
                .await,
        )
    }
}

impl Service {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let answer = self.client.get(&self.url(path)).await;
        answer.map_err(|error| self.error(error))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let answer = self.client.post(&self.url(path), body).await;
        answer.map_err(|error| self.error(error))
    }

    async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let answer = self.client.put(&self.url(path), body).await;
        answer.map_err(|error| self.error(error))
    }

    async fn forget(&self, path: &str) -> Result<bool, Error> {
        let answer = self.client.delete(&self.url(path)).await;
        Ok(found(answer.map_err(|error| self.error(error)))?.is_some())
    }

    fn error(&self, error: HttpError) -> Error {
        match error {
            HttpError::Refused(problem) => Error::from_problem(self.party, problem),
            HttpError::Unreachable(detail) => Error::Unreachable {
                service: self.party,
                detail,
            },
            other => Error::Failed(format!("the {}: {other}", self.party)),
        }
    }
}

fn policy_path(kind: PolicyKind, name: &str, generation: u64) -> String {
    format!("/v1/policies/{}/{name}/{generation}", kind.as_str())
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
