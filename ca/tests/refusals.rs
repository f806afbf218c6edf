//! What the CA does not do, and for whom it does nothing (A16).
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_link::{HttpClient, HttpError};
use bootkeep_protocol::{
    ca::{IssueRequest, Issued, RevokeCertificates},
    ProblemKind, Role,
};
use common::{
    node, refusal, request,
    service::{Pki, Wanted},
    Front,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use serde_json::{json, Value};

fn clients(front: &Front) -> Vec<(&'static str, HttpClient, bool, bool)> {
    let own = &front.server.pki;
    let foreign = Pki::new("owner");
    let with = |pki: &Pki, wanted: &Wanted| {
        let identity = pki.issue(wanted);
        HttpClient::new(own.client_tls(&identity), Role::Ca)
    };
    let tenant = Wanted::role(Role::Tenant);
    vec![
        (
            "no certificate",
            HttpClient::new(own.node_tls(), Role::Ca),
            false,
            false,
        ),
        (
            "another CA of the same name",
            with(&foreign, &tenant),
            false,
            false,
        ),
        (
            "expired",
            with(own, &tenant.clone().expired()),
            false,
            false,
        ),
        ("no role", with(own, &Wanted::uris(&[])), false, false),
        (
            "a node's certificate",
            with(own, &Wanted::uris(&["bootkeep://node/00"])),
            false,
            false,
        ),
        ("registrar", front.client(Role::Registrar), false, false),
        ("ca", front.client(Role::Ca), false, false),
        ("verifier", front.client(Role::Verifier), false, true),
        ("tenant", front.client(Role::Tenant), true, true),
    ]
}

#[tokio::test]
async fn a16_each_route_demands_its_role() {
    let front = Front::alone().await;
    let certificates = front.url("/v1/certificates");
    let revoke = front.url(&format!("/v1/nodes/{}/revoke", node("one")));
    let why = RevokeCertificates {
        reason: "x".into(),
        keep: Vec::new(),
    };
    for (name, client, issues, revokes) in clients(&front) {
        let check = |route: &str, answer: Result<Value, HttpError>, allowed: bool| {
            assert_eq!(answer.is_ok(), allowed, "{name} at {route}: {answer:?}");
        };
        check(
            "issue",
            client.post(&certificates, &request("one", "x")).await,
            issues,
        );
        check("list", client.get(&certificates).await, issues);
        check("revoke", client.post(&revoke, &why).await, revokes);
    }
}

/// A certificate the CA issued itself opens nothing: it is no service's.
#[tokio::test]
async fn a_node_certificate_is_no_service_certificate() {
    let front = Front::alone().await;
    let (key, csr) = bootkeep_pki::node::new_key_and_csr("x").unwrap();
    let request = IssueRequest {
        node_id: node("one"),
        label: "tenant".into(),
        csr: csr.into(),
    };
    let issued = front.issue(&request).await.unwrap();
    let identity = common::service::Identity {
        certificate: issued.certificate_pem,
        key: key.to_string(),
    };
    let client = HttpClient::new(front.server.pki.client_tls(&identity), Role::Ca);
    assert!(client
        .get::<Value>(&front.url("/v1/certificates"))
        .await
        .is_err());
}

fn csr_with(build: impl FnOnce(&mut CertificateParams) -> KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let key = build(&mut params);
    params
        .serialize_request(&key)
        .unwrap()
        .der()
        .as_ref()
        .to_vec()
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let front = Front::alone().await;
    let good = request("one", "x");
    let csr = good.csr.0.clone();
    let p384 = csr_with(|_| KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    let ed25519 = csr_with(|_| KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let odd = csr_with(|params| {
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])];
        KeyPair::generate().unwrap()
    });
    let mut forged = csr.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for (name, csr) in [
        ("nothing", Vec::new()),
        ("cut", csr[..csr.len() - 1].to_vec()),
        ("forged", forged),
        ("P-384", p384),
        ("Ed25519", ed25519),
        ("an extension nobody knows", odd),
        ("too long", vec![0x30; 9000]),
    ] {
        let request = IssueRequest {
            csr: csr.into(),
            ..good.clone()
        };
        let problem = refusal(front.issue(&request).await);
        assert_eq!(
            (problem.kind, problem.code.as_str()),
            (ProblemKind::Malformed, "bad-csr"),
            "{name}"
        );
    }
    for label in ["", "a\nb", "\u{1b}[2J", &"x".repeat(257)] {
        let request = IssueRequest {
            label: label.into(),
            ..good.clone()
        };
        assert_eq!(
            refusal(front.issue(&request).await).code,
            "bad-label",
            "{label:?}"
        );
    }
    let tenant = front.client(Role::Tenant);
    let records: Vec<Value> = tenant.get(&front.url("/v1/certificates")).await.unwrap();
    assert!(records.is_empty(), "something was issued");
}

/// What a request asks for beside its key is not given: no other name, no CA.
#[tokio::test]
async fn only_the_key_of_a_request_is_used() {
    let front = Front::alone().await;
    let csr = csr_with(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let role = Role::Tenant.uri();
        params.subject_alt_names = vec![rcgen::SanType::URI(role.as_str().try_into().unwrap())];
        KeyPair::generate().unwrap()
    });
    let request = IssueRequest {
        csr: csr.into(),
        ..request("one", "x")
    };
    let issued = front.issue(&request).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.pem"), issued.certificate_pem).unwrap();
    let (_, text) = common::openssl(folder.path(), &["x509", "-in", "c.pem", "-noout", "-text"]);
    for part in ["bootkeep://role", "CA:TRUE", "Certificate Sign"] {
        assert!(!text.contains(part), "{part} in\n{text}");
    }
}

#[tokio::test]
async fn bent_messages_are_refused() {
    let front = Front::alone().await;
    let tenant = front.client(Role::Tenant);
    let url = front.url("/v1/certificates");
    let good = serde_json::to_value(request("one", "x")).unwrap();
    let with = |key: &str, value: Value| {
        let mut bent = good.clone();
        bent[key] = value;
        bent
    };
    for (name, body, kind) in [
        ("empty", json!({}), ProblemKind::Malformed),
        (
            "a key too many",
            with("days", json!(99_999)),
            ProblemKind::Malformed,
        ),
        (
            "node id of another form",
            with("node_id", json!("ABC")),
            ProblemKind::Malformed,
        ),
        (
            "no base64",
            with("csr", json!("??")),
            ProblemKind::Malformed,
        ),
        (
            "too large",
            with("label", json!("x".repeat(70_000))),
            ProblemKind::TooLarge,
        ),
    ] {
        assert_eq!(
            refusal(tenant.post::<Issued>(&url, &body).await).kind,
            kind,
            "{name}"
        );
    }
    for id in ["x", "%0a", &"A".repeat(64)] {
        let url = front.url(&format!("/v1/nodes/{id}/revoke"));
        let why = RevokeCertificates {
            reason: "x".into(),
            keep: Vec::new(),
        };
        assert_eq!(
            refusal(tenant.post::<Value>(&url, &why).await).kind,
            ProblemKind::Malformed,
            "{id}"
        );
    }
}
