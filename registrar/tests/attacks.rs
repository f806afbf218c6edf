//! What went wrong for others, and what a stranger may try. A01, A03, A05, A13, A14, A15, A16 of the attack list.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use bootkeep_link::{HttpClient, HttpError};
use bootkeep_protocol::{
    link::ActivateCall,
    registrar::{ActivateRequest, Activated, Approval, Challenge, NodeRecord, RegisterRequest},
    NodeId, ProblemKind, Role,
};
use bootkeep_swtpm::{Manufacturer, Swtpm};
use bootkeep_tpm::AkKind;
use common::{
    refusal, roots,
    service::{Pki, Wanted},
    Database, Front, Node,
};
use serde_json::json;

async fn ask(front: &Front, request: &RegisterRequest) -> Result<Challenge, HttpError> {
    front
        .stranger()
        .post(&front.url("/v1/nodes"), request)
        .await
}

async fn answer(
    front: &Front,
    node: &NodeId,
    answer: &ActivateRequest,
) -> Result<Activated, HttpError> {
    let url = front.url(&format!("/v1/nodes/{node}/activate"));
    front.stranger().post(&url, answer).await
}

/// The right answer to a challenge, by the TPM.
async fn solve(node: &Node, challenge: &Challenge) -> ActivateRequest {
    let call = ActivateCall {
        challenge_id: challenge.challenge_id.clone(),
        credential_blob: challenge.credential_blob.clone(),
        encrypted_secret: challenge.encrypted_secret.clone(),
    };
    ActivateRequest {
        challenge_id: challenge.challenge_id.clone(),
        proof: node.identity.prove(&node.tpm, &call).await.unwrap(),
    }
}

fn guess(challenge: &Challenge) -> ActivateRequest {
    ActivateRequest {
        challenge_id: challenge.challenge_id.clone(),
        proof: vec![0; 32].into(),
    }
}

/// A01: a key that the TPM does not vouch for is no AK, whatever certificate comes with it.
#[tokio::test]
async fn a01_only_a_restricted_signing_key_of_this_tpm_is_an_ak() {
    const ATTRIBUTES: usize = 4;
    let maker = Arc::new(Manufacturer::new().unwrap());
    let swtpm = Swtpm::made_by(&maker).unwrap();
    let front = Front::alone(roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    // (bit, name): clear each one that must be set, set the one that must be clear. TPM 2.0 Part 2 §8.3.
    for (bit, name) in [
        (1, "fixedTPM"),
        (4, "fixedParent"),
        (5, "sensitiveDataOrigin"),
        (16, "restricted"),
        (17, "decrypt"),
        (18, "sign"),
    ] {
        let mut request = node.request();
        let field = &mut request.ak_public.0[ATTRIBUTES..ATTRIBUTES + 4];
        let flipped = u32::from_be_bytes(field.try_into().unwrap()) ^ (1 << bit);
        field.copy_from_slice(&flipped.to_be_bytes());
        let problem = refusal(ask(&front, &request).await);
        assert_eq!(
            (problem.kind, problem.code.as_str()),
            (ProblemKind::Untrusted, "ak-public"),
            "{name}"
        );
        assert!(problem.detail.contains(name), "{}", problem.detail);
    }
    // The EK is no AK and the AK no EK.
    let swapped = RegisterRequest {
        ak_public: node.request().ek_public,
        ..node.request()
    };
    assert_eq!(refusal(ask(&front, &swapped).await).code, "ak-public");
    let swapped = RegisterRequest {
        ek_public: node.request().ak_public,
        ..node.request()
    };
    assert_eq!(refusal(ask(&front, &swapped).await).code, "ek-public");
    assert!(front.records().await.is_empty());
}

/// A01: a good AK of another TPM. A challenge is made, and no TPM in the world opens it.
#[tokio::test]
async fn a01_an_ak_of_another_tpm_cannot_answer() {
    let maker = Arc::new(Manufacturer::new().unwrap());
    let (one, two) = (
        Swtpm::made_by(&maker).unwrap(),
        Swtpm::made_by(&maker).unwrap(),
    );
    let front = Front::alone(roots(&one)).await;
    let (victim, thief) = (Node::of(&one).await, Node::of(&two).await);
    let mixed = RegisterRequest {
        ak_public: thief.request().ak_public,
        ..victim.request()
    };
    let challenge = ask(&front, &mixed).await.unwrap();
    assert_eq!(&challenge.node_id, victim.id());
    for node in [&victim, &thief] {
        let call = ActivateCall {
            challenge_id: challenge.challenge_id.clone(),
            credential_blob: challenge.credential_blob.clone(),
            encrypted_secret: challenge.encrypted_secret.clone(),
        };
        assert!(node.identity.prove(&node.tpm, &call).await.is_err());
    }
    let problem = refusal(answer(&front, victim.id(), &guess(&challenge)).await);
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Untrusted, "proof")
    );
    assert!(front.records().await.is_empty());
}

/// A03: whoever reads a record gets EK, AK and generation that belong together, also while they change.
async fn a03(database: Database) {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::start(&database, roots(&swtpm)).await;
    let mut node = Node::of(&swtpm).await;
    front.register(&node).await.unwrap();
    let mut keys = vec![node.identity.ak_public.clone()];
    for round in 0..6 {
        let kind = [AkKind::Rsa2048, AkKind::EccP256][round % 2];
        node = node.with_ak(kind).await;
        keys.push(node.identity.ak_public.clone());
        let registering = front.register(&node);
        let reading = async {
            for _ in 0..20 {
                let record = front.record(&swtpm_id(&node)).await.unwrap();
                let expected = &keys[record.generation as usize - 1];
                assert_eq!(
                    &record.ak_public.0, expected,
                    "generation {}",
                    record.generation
                );
                assert_eq!(
                    NodeId::of_ek_public(record.ek_public.as_slice()),
                    record.node_id
                );
            }
        };
        let (registered, ()) = tokio::join!(registering, reading);
        assert_eq!(registered.unwrap().generation, round as u64 + 2);
    }
}

fn swtpm_id(node: &Node) -> NodeId {
    node.id().clone()
}

#[tokio::test]
async fn a03_a_record_never_mixes_two_keys_sqlite() {
    a03(Database::sqlite()).await;
}

#[tokio::test]
async fn a03_a_record_never_mixes_two_keys_postgresql() {
    a03(Database::postgres()).await;
}

/// A05: nothing that would move a cursor or a log line gets in, by path or by body.
#[tokio::test]
async fn a05_ids_and_notes_are_plain() {
    let front = Front::alone(common::no_roots()).await;
    let tenant = front.client(Role::Tenant);
    let good = NodeId::of_ek_public(b"x");
    for id in [
        "x".to_owned(),
        good.as_str().to_uppercase(),
        format!("{good}0"),
        good.as_str()[1..].to_owned(),
        format!("{}%0a", &good.as_str()[1..]),
        format!("{}%1b", &good.as_str()[1..]),
        format!("%2e%2e%2f{}", &good.as_str()[9..]),
        format!("{}%ef%bc%91", &good.as_str()[1..]),
        "a".repeat(2000),
    ] {
        let url = front.url(&format!("/v1/approvals/{id}"));
        let approval = Approval { note: "n".into() };
        let problem = refusal(tenant.put::<serde_json::Value>(&url, &approval).await);
        assert_eq!(problem.kind, ProblemKind::Malformed, "{id}");
    }
    for note in ["a\nb", "\u{1b}[2J", "a\rb", "\u{7}", &"x".repeat(257)] {
        assert_eq!(
            refusal(front.approve(&good, note).await).code,
            "bad-note",
            "{note:?}"
        );
    }
    assert!(front.approve(&good, &"ö".repeat(256)).await.is_ok());
}

/// A13: a wrong proof is told nothing, and there is no second try.
#[tokio::test]
async fn a13_a_refused_proof_learns_nothing_and_has_one_try() {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::alone(roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    for cut in [0, 16, 31, 32] {
        let challenge = ask(&front, &node.request()).await.unwrap();
        let right = solve(&node, &challenge).await;
        let mut wrong = right.clone();
        wrong.proof.0.truncate(cut);
        if cut == 32 {
            wrong.proof.0[31] ^= 1;
        }
        let problem = refusal(answer(&front, node.id(), &wrong).await);
        assert_eq!(problem.code, "proof");
        let text = serde_json::to_string(&problem).unwrap();
        for form in [STANDARD.encode(&right.proof.0), hex::encode(&right.proof.0)] {
            assert!(
                !text.contains(&form) && !text.contains(&form[..16]),
                "{text}"
            );
        }
        let problem = refusal(answer(&front, node.id(), &right).await);
        assert_eq!(
            problem.code, "no-challenge",
            "a second try after {cut} bytes"
        );
    }
    assert!(front.records().await.is_empty());
}

/// A14: rows of an attacker or of a bad disk hide themselves, nothing else.
async fn a14(database: Database) {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::start(&database, roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    front.register(&node).await.unwrap();
    let pool = database.pool().await;
    let stolen = hex::encode(&node.identity.ek_public);
    let approval = r#"{"by":"approval","note":""}"#;
    let bad = NodeId::of_ek_public(b"bad");
    for (id, ek, certificate, assurance, generation) in [
        (bad.as_str(), stolen.as_str(), "", approval, 1_i64),
        ("\u{1b}[31mred", "00", "", approval, 1),
        ("no-hex", "zz", "", approval, 1),
        ("odd", "0", "00", approval, 1),
        ("unknown assurance", "00", "", r#"{"by":"magic"}"#, 1),
        ("negative", "00", "", approval, -1),
    ] {
        sqlx::query("INSERT INTO nodes (node_id, ek_public, ek_key, ek_certificate, assurance, generation) VALUES ($1, $2, $1, $3, $4, $5)")
            .bind(id).bind(ek).bind(certificate).bind(assurance).bind(generation)
            .execute(&pool).await.unwrap();
        sqlx::query("INSERT INTO aks (node_id, generation, ak_public, activated_at) VALUES ($1, $2, '00', 1)")
            .bind(id).bind(generation)
            .execute(&pool).await.unwrap();
    }
    sqlx::query("INSERT INTO approvals (node_id, note, approved_at) VALUES ('evil', 'x', 1)")
        .execute(&pool)
        .await
        .unwrap();

    let ids: Vec<NodeId> = front
        .records()
        .await
        .into_iter()
        .map(|record| record.node_id)
        .collect();
    assert_eq!(ids, [node.id().clone()]);
    assert!(front.record(node.id()).await.is_ok());
    assert_eq!(
        refusal(front.record(&bad).await).kind,
        ProblemKind::Internal
    );
    let approvals: Vec<serde_json::Value> = front
        .client(Role::Tenant)
        .get(&front.url("/v1/approvals"))
        .await
        .unwrap();
    assert!(approvals.is_empty());
    assert_eq!(front.register(&node).await.unwrap().generation, 1);
}

#[tokio::test]
async fn a14_a_bad_row_hides_only_itself_sqlite() {
    a14(Database::sqlite()).await;
}

#[tokio::test]
async fn a14_a_bad_row_hides_only_itself_postgresql() {
    a14(Database::postgres()).await;
}

/// A15: a node's id is its EK. Another TPM cannot take it, by no order of messages.
#[tokio::test]
async fn a15_another_tpm_never_takes_a_node() {
    let maker = Arc::new(Manufacturer::new().unwrap());
    let (one, two) = (
        Swtpm::made_by(&maker).unwrap(),
        Swtpm::made_by(&maker).unwrap(),
    );
    let front = Front::alone(roots(&one)).await;
    let (victim, thief) = (Node::of(&one).await, Node::of(&two).await);
    front.register(&victim).await.unwrap();
    let before = front.record(victim.id()).await.unwrap();

    // The thief's own, right answer, in the victim's name.
    let challenge = ask(&front, &thief.request()).await.unwrap();
    let right = solve(&thief, &challenge).await;
    assert_eq!(
        refusal(answer(&front, victim.id(), &right).await).code,
        "no-challenge"
    );
    // The attempt used the challenge up, for the thief's own name too.
    assert_eq!(
        refusal(answer(&front, thief.id(), &right).await).code,
        "no-challenge"
    );

    // The victim's EK and certificate with the thief's AK; the victim's certificate with the thief's EK.
    let mixed = RegisterRequest {
        ak_public: thief.request().ak_public,
        ..victim.request()
    };
    let challenge = ask(&front, &mixed).await.unwrap();
    assert_eq!(
        refusal(answer(&front, victim.id(), &guess(&challenge)).await).code,
        "proof"
    );
    let mixed = RegisterRequest {
        ek_certificate: victim.request().ek_certificate,
        ..thief.request()
    };
    assert_eq!(refusal(ask(&front, &mixed).await).code, "ek-untrusted");
    assert_eq!(front.record(victim.id()).await.unwrap(), before);

    assert_eq!(front.register(&thief).await.unwrap().generation, 1);
    assert_eq!(front.record(victim.id()).await.unwrap(), before);
}

/// A15: one EK key is one node. The same key in the public area of another template would have another id.
async fn one_key_has_one_id(database: Database) {
    // TPM2_PolicyAuthorizeNV or policy A: the authPolicy of template H-1 (EK Credential Profile, Policy B).
    const POLICY_B: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::start(&database, roots(&swtpm)).await;
    let mut node = Node::of(&swtpm).await;
    front.register(&node).await.unwrap();
    let first = node.id().clone();
    let area = &mut node.identity.ek_public;
    area[7] |= 0x40; // userWithAuth
    area[10..42].copy_from_slice(&hex::decode(POLICY_B).unwrap());
    node.identity.node_id = NodeId::of_ek_public(area);
    let problem = common::refused(front.register(&node).await);
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Conflict, "ek-other-id")
    );
    let ids: Vec<NodeId> = front
        .records()
        .await
        .into_iter()
        .map(|record| record.node_id)
        .collect();
    assert_eq!(ids, [first]);
}

#[tokio::test]
async fn a15_one_key_has_one_id_sqlite() {
    one_key_has_one_id(Database::sqlite()).await;
}

#[tokio::test]
async fn a15_one_key_has_one_id_postgresql() {
    one_key_has_one_id(Database::postgres()).await;
}

/// What a client may be: a name, and whether it gets through to the routes for verifiers and for tenants.
fn clients(front: &Front) -> Vec<(&'static str, HttpClient, bool, bool)> {
    let own = &front.server.pki;
    let foreign = Pki::new("owner");
    let with = |pki: &Pki, wanted: &Wanted| {
        let identity = pki.issue(wanted);
        HttpClient::new(own.client_tls(&identity), Role::Registrar)
    };
    let tenant = Wanted::role(Role::Tenant);
    let two_roles = Wanted::uris(&[&Role::Tenant.uri(), &Role::Verifier.uri()]);
    vec![
        ("no certificate", front.stranger(), false, false),
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
        (
            "not yet valid",
            with(own, &tenant.clone().not_yet()),
            false,
            false,
        ),
        ("no role", with(own, &Wanted::uris(&[])), false, false),
        ("two roles", with(own, &two_roles), false, false),
        (
            "a node's URI",
            with(own, &Wanted::uris(&["bootkeep://node/00"])),
            false,
            false,
        ),
        (
            "role in other letters",
            with(own, &Wanted::uris(&["bootkeep://role/Tenant"])),
            false,
            false,
        ),
        ("registrar", front.client(Role::Registrar), false, false),
        ("ca", front.client(Role::Ca), false, false),
        ("verifier", front.client(Role::Verifier), true, false),
        ("tenant", front.client(Role::Tenant), true, true),
    ]
}

/// A16: each admin route with each kind of certificate.
#[tokio::test]
async fn a16_each_admin_route_demands_its_role() {
    type Value = serde_json::Value;
    let front = Front::alone(common::no_roots()).await;
    let id = NodeId::of_ek_public(b"x");
    let (nodes, node) = (
        front.url("/v1/nodes"),
        front.url(&format!("/v1/nodes/{id}")),
    );
    let (approvals, approval) = (
        front.url("/v1/approvals"),
        front.url(&format!("/v1/approvals/{id}")),
    );
    let note = Approval { note: "n".into() };
    for (name, client, reads, rules) in clients(&front) {
        let check = |route: &str, answer: Result<(), HttpError>, allowed: bool| {
            // A route lets through when it answers, or says that there is no such thing.
            let through = match &answer {
                Ok(()) => true,
                Err(HttpError::Refused(problem)) => problem.kind == ProblemKind::NotFound,
                Err(_) => false,
            };
            assert_eq!(through, allowed, "{name} at {route}: {answer:?}");
        };
        check(
            "GET nodes",
            client.get::<Value>(&nodes).await.map(drop),
            reads,
        );
        check(
            "GET node",
            client.get::<Value>(&node).await.map(drop),
            reads,
        );
        check("DELETE node", client.delete(&node).await, rules);
        check(
            "GET approvals",
            client.get::<Value>(&approvals).await.map(drop),
            rules,
        );
        check(
            "PUT approval",
            client.put::<Value>(&approval, &note).await.map(drop),
            rules,
        );
        check("DELETE approval", client.delete(&approval).await, rules);
    }
}

/// Truncated, oversized, unknown, repeated and reordered messages.
#[tokio::test]
async fn bent_messages_are_refused_and_change_nothing() {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::alone(roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    let url = front.url("/v1/nodes");
    let client = front.stranger();
    let good = serde_json::to_value(node.request()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut bent = good.clone();
        bent[key] = value;
        bent
    };
    let without = |key: &str| {
        let mut bent = good.clone();
        bent.as_object_mut().unwrap().remove(key);
        bent
    };
    let base64 = |length: usize| json!(STANDARD.encode(vec![1_u8; length]));
    for (name, body, kind) in [
        ("empty", json!({}), ProblemKind::Malformed),
        ("a list", json!([]), ProblemKind::Malformed),
        ("no EK", without("ek_public"), ProblemKind::Malformed),
        ("no AK", without("ak_public"), ProblemKind::Malformed),
        (
            "a key too many",
            with("node_id", json!("me")),
            ProblemKind::Malformed,
        ),
        (
            "no base64",
            with("ak_public", json!("??")),
            ProblemKind::Malformed,
        ),
        (
            "url base64",
            with("ak_public", json!("_-8=")),
            ProblemKind::Malformed,
        ),
        (
            "a number",
            with("ak_public", json!(7)),
            ProblemKind::Malformed,
        ),
        (
            "long EK",
            with("ek_public", base64(1025)),
            ProblemKind::TooLarge,
        ),
        (
            "long AK",
            with("ak_public", base64(1025)),
            ProblemKind::TooLarge,
        ),
        (
            "long certificate",
            with("ek_certificate", base64(8193)),
            ProblemKind::TooLarge,
        ),
        (
            "long body",
            with("ek_certificate", base64(60_000)),
            ProblemKind::TooLarge,
        ),
        (
            "empty EK",
            with("ek_public", json!("")),
            ProblemKind::Untrusted,
        ),
        (
            "EK of ones",
            with("ek_public", base64(314)),
            ProblemKind::Untrusted,
        ),
    ] {
        let problem = refusal(client.post::<Challenge>(&url, &body).await);
        assert_eq!(problem.kind, kind, "{name}");
    }
    // Every cut of both keys.
    for key in ["ek_public", "ak_public"] {
        let bytes = STANDARD.decode(good[key].as_str().unwrap()).unwrap();
        for length in 0..bytes.len() {
            let body = with(key, json!(STANDARD.encode(&bytes[..length])));
            let problem = refusal(client.post::<Challenge>(&url, &body).await);
            assert_eq!(
                problem.kind,
                ProblemKind::Untrusted,
                "{key} cut to {length}"
            );
        }
        let longer = with(
            key,
            json!(STANDARD.encode([bytes.as_slice(), &[0]].concat())),
        );
        assert_eq!(
            refusal(client.post::<Challenge>(&url, &longer).await).kind,
            ProblemKind::Untrusted
        );
    }
    assert!(front.records().await.is_empty());
}

#[tokio::test]
async fn answers_count_once_and_only_for_their_challenge() {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::alone(roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    // Before any challenge.
    let early = ActivateRequest {
        challenge_id: "00".repeat(16),
        proof: vec![0; 32].into(),
    };
    assert_eq!(
        refusal(answer(&front, node.id(), &early).await).code,
        "no-challenge"
    );
    // Two challenges answered crosswise.
    let (one, two) = (
        ask(&front, &node.request()).await.unwrap(),
        ask(&front, &node.request()).await.unwrap(),
    );
    assert_ne!(one.challenge_id, two.challenge_id);
    assert_ne!(one.credential_blob, two.credential_blob);
    let crossed = ActivateRequest {
        challenge_id: one.challenge_id.clone(),
        ..solve(&node, &two).await
    };
    assert_eq!(
        refusal(answer(&front, node.id(), &crossed).await).code,
        "proof"
    );
    // The other one still stands, once.
    let right = solve(&node, &two).await;
    assert_eq!(
        answer(&front, node.id(), &right).await.unwrap().generation,
        1
    );
    assert_eq!(
        refusal(answer(&front, node.id(), &right).await).code,
        "no-challenge"
    );
    // A challenge does not outlive the registrar.
    let late = ask(&front, &node.request()).await.unwrap();
    let right = solve(&node, &late).await;
    let again = Front::alone(roots(&swtpm)).await;
    assert_eq!(
        refusal(answer(&again, node.id(), &right).await).code,
        "no-challenge"
    );
}

#[tokio::test]
async fn a_stranger_cannot_fill_the_memory_with_challenges() {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::alone(roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    let mut last = None;
    for _ in 0..16 {
        last = Some(ask(&front, &node.request()).await.unwrap());
    }
    let problem = refusal(ask(&front, &node.request()).await);
    assert_eq!(problem.kind, ProblemKind::Busy);
    // One answer makes room for one more.
    let right = solve(&node, &last.unwrap()).await;
    assert!(answer(&front, node.id(), &right).await.is_ok());
    assert!(ask(&front, &node.request()).await.is_ok());
    let record: NodeRecord = front.record(node.id()).await.unwrap();
    assert_eq!(record.generation, 1);
}

/// Each refusal is counted under its stable code.
#[tokio::test]
async fn refusals_are_counted() {
    let front = Front::alone(common::no_roots()).await;
    let swtpm = Swtpm::bare().unwrap();
    let node = Node::of(&swtpm).await;
    for _ in 0..2 {
        assert_eq!(
            refusal(ask(&front, &node.request()).await).code,
            "ek-no-certificate"
        );
    }
    front.approve(node.id(), "n").await.unwrap();
    front.register(&node).await.unwrap();
    let text = front.metrics().await;
    for line in [
        "bootkeep_registrar_refusals_total{code=\"ek-no-certificate\"} 2",
        "bootkeep_registrar_challenges_total 1",
        "bootkeep_registrar_activations_total 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
}

/// The approval is looked at again when the answer comes.
#[tokio::test]
async fn an_approval_withdrawn_meanwhile_counts() {
    let swtpm = Swtpm::bare().unwrap();
    let front = Front::alone(common::no_roots()).await;
    let node = Node::of(&swtpm).await;
    front.approve(node.id(), "n").await.unwrap();
    let challenge = ask(&front, &node.request()).await.unwrap();
    let right = solve(&node, &challenge).await;
    let url = front.url(&format!("/v1/approvals/{}", node.id()));
    front.client(Role::Tenant).delete(&url).await.unwrap();
    assert_eq!(
        refusal(answer(&front, node.id(), &right).await).code,
        "approval-withdrawn"
    );
    assert!(front.records().await.is_empty());
}
