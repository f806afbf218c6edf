//! A node with a real (software) TPM registers over real TLS, with both databases.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bootkeep_protocol::{registrar::EkAssurance, ProblemKind, Role};
use bootkeep_swtpm::{Manufacturer, Swtpm};
use bootkeep_tpm::AkKind;
use common::{no_roots, refused, roots, Database, Front, Node};

async fn a_node_is_known_for_ever(database: Database) {
    let mut swtpm = Swtpm::certified().unwrap();
    let front = Front::start(&database, roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    let activated = front.register(&node).await.unwrap();
    assert_eq!((&activated.node_id, activated.generation), (node.id(), 1));

    let record = front.record(node.id()).await.unwrap();
    assert_eq!(record.ek_public.as_slice(), node.identity.ek_public);
    assert_eq!(record.ak_public.as_slice(), node.identity.ak_public);
    assert_eq!(record.generation, 1);
    assert!(
        matches!(&record.assurance, EkAssurance::Certificate { root } if root.contains("swtpm"))
    );
    let certificate = record.ek_certificate.clone().unwrap();
    assert!(node
        .identity
        .ek_certificate
        .as_ref()
        .unwrap()
        .starts_with(&certificate.0));

    // Each boot registers anew: same keys, same generation, same record.
    let id = node.id().clone();
    drop(node);
    swtpm.power_cycle().unwrap();
    let node = Node::of(&swtpm).await;
    assert_eq!(node.id(), &id);
    assert_eq!(front.register(&node).await.unwrap().generation, 1);
    assert_eq!(front.record(&id).await.unwrap(), record);

    // And the registrar may have been restarted.
    let pki = Arc::clone(&front.server.pki);
    front.server.stop().await;
    let front = Front::start_in(pki, &database, roots(&swtpm)).await;
    assert_eq!(front.records().await, [record]);
    assert_eq!(front.register(&node).await.unwrap().generation, 1);
}

#[tokio::test]
async fn a_node_is_known_for_ever_sqlite() {
    a_node_is_known_for_ever(Database::sqlite()).await;
}

#[tokio::test]
async fn a_node_is_known_for_ever_postgresql() {
    a_node_is_known_for_ever(Database::postgres()).await;
}

async fn another_ak_is_another_generation(database: Database) {
    let swtpm = Swtpm::certified().unwrap();
    let front = Front::start(&database, roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    let first = node.identity.ak_public.clone();
    assert_eq!(front.register(&node).await.unwrap().generation, 1);
    let node = node.with_ak(AkKind::Rsa2048).await;
    assert_eq!(front.register(&node).await.unwrap().generation, 2);
    assert_eq!(front.register(&node).await.unwrap().generation, 2);
    let record = front.record(node.id()).await.unwrap();
    assert_eq!(
        (record.generation, &record.ak_public.0),
        (2, &node.identity.ak_public)
    );
    // The old key again is news again: who pinned generation 1 must hear that there was another one.
    let node = node.with_ak(AkKind::EccP256).await;
    assert_eq!(node.identity.ak_public, first);
    assert_eq!(front.register(&node).await.unwrap().generation, 3);

    // Forgetting a node does not start its generations anew.
    let url = front.url(&format!("/v1/nodes/{}", node.id()));
    front.client(Role::Tenant).delete(&url).await.unwrap();
    assert_eq!(
        common::refusal(front.record(node.id()).await).kind,
        ProblemKind::NotFound
    );
    let node = node.with_ak(AkKind::Rsa2048).await;
    assert_eq!(front.register(&node).await.unwrap().generation, 4);
    let history = sqlx::query("SELECT generation FROM aks WHERE node_id = $1")
        .bind(node.id().as_str())
        .fetch_all(&database.pool().await)
        .await
        .unwrap();
    assert_eq!(history.len(), 4);
}

#[tokio::test]
async fn another_ak_is_another_generation_sqlite() {
    another_ak_is_another_generation(Database::sqlite()).await;
}

#[tokio::test]
async fn another_ak_is_another_generation_postgresql() {
    another_ak_is_another_generation(Database::postgres()).await;
}

async fn without_a_certificate_only_the_owner_lets_it_in(database: Database) {
    let swtpm = Swtpm::bare().unwrap();
    let front = Front::start(&database, no_roots()).await;
    let node = Node::of(&swtpm).await;
    let problem = refused(front.register(&node).await);
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Untrusted, "ek-no-certificate")
    );

    front.approve(node.id(), "rack 7, slot 2").await.unwrap();
    assert_eq!(front.register(&node).await.unwrap().generation, 1);
    let record = front.record(node.id()).await.unwrap();
    let note = "rack 7, slot 2".to_owned();
    assert_eq!(
        (record.assurance, record.ek_certificate),
        (EkAssurance::Approval { note }, None)
    );

    // Taken back: the registration goes with it, and does not come again.
    let url = front.url(&format!("/v1/approvals/{}", node.id()));
    front.client(Role::Tenant).delete(&url).await.unwrap();
    assert_eq!(
        common::refusal(front.record(node.id()).await).kind,
        ProblemKind::NotFound
    );
    assert_eq!(
        refused(front.register(&node).await).code,
        "ek-no-certificate"
    );
}

#[tokio::test]
async fn without_a_certificate_only_the_owner_lets_it_in_sqlite() {
    without_a_certificate_only_the_owner_lets_it_in(Database::sqlite()).await;
}

#[tokio::test]
async fn without_a_certificate_only_the_owner_lets_it_in_postgresql() {
    without_a_certificate_only_the_owner_lets_it_in(Database::postgres()).await;
}

#[tokio::test]
async fn a_p256_ek_registers_too() {
    let swtpm = Swtpm::certified().unwrap();
    swtpm.certify_p256().unwrap();
    let front = Front::alone(roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    assert_eq!(node.identity.ek_public[..2], [0, 0x23], "not an ECC key");
    let activated = front.register(&node).await.unwrap();
    assert_eq!(&activated.node_id, node.id());
}

#[tokio::test]
async fn a_certificate_counts_only_for_its_ek_and_from_a_known_maker() {
    let maker = Arc::new(Manufacturer::new().unwrap());
    let (mine, sibling) = (
        Swtpm::made_by(&maker).unwrap(),
        Swtpm::made_by(&maker).unwrap(),
    );
    let stranger = Swtpm::certified().unwrap();
    let front = Front::alone(roots(&mine)).await;

    let node = Node::of(&stranger).await;
    let problem = refused(front.register(&node).await);
    assert_eq!(
        (problem.kind, problem.code.as_str()),
        (ProblemKind::Untrusted, "ek-untrusted")
    );

    let mut node = Node::of(&mine).await;
    let own = node
        .identity
        .ek_certificate
        .replace(Node::of(&sibling).await.identity.ek_certificate.unwrap());
    let problem = refused(front.register(&node).await);
    assert_eq!(problem.code, "ek-untrusted");
    assert!(problem.detail.contains("another key"), "{}", problem.detail);

    let own = own.unwrap();
    for (what, certificate) in [
        ("cut short", own[..own.len() / 2].to_vec()),
        ("nothing", Vec::new()),
        ("changed", {
            let mut bytes = own.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("a root", maker_root(&mine)),
    ] {
        node.identity.ek_certificate = Some(certificate);
        assert_eq!(
            refused(front.register(&node).await).code,
            "ek-untrusted",
            "{what}"
        );
    }
    // Padding, as NV indices have it.
    node.identity.ek_certificate = Some([own.clone(), vec![0xff; 300]].concat());
    assert_eq!(front.register(&node).await.unwrap().generation, 1);
    let record = front.record(node.id()).await.unwrap();
    assert!(!record.ek_certificate.unwrap().0.ends_with(&[0xff; 8]));
}

fn maker_root(swtpm: &Swtpm) -> Vec<u8> {
    use rustls_pki_types::{pem::PemObject, CertificateDer};
    let path = swtpm.roots().join("swtpm-localca-rootca-cert.pem");
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}
