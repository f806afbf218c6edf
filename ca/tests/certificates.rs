//! What the CA issues and revokes, as openssl sees it; with both databases.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use bootkeep_ca::CaError;
use bootkeep_protocol::ca::CertificateRecord;
use bootkeep_protocol::Role;
use common::{node, openssl, request, verify, Database, Front};

async fn a_certificate_is_good_until_it_is_revoked(database: Database) {
    let front = Front::start(&database).await;
    let one = front.issue(&request("one", "web-1.example")).await.unwrap();
    let also_one = front.issue(&request("one", "web-1.example")).await.unwrap();
    let two = front.issue(&request("two", "web-2.example")).await.unwrap();
    let before = front.crl().await;
    for issued in [&one, &also_one, &two] {
        verify(issued, &before).unwrap();
    }

    let revoked = front.revoke(&node("one")).await;
    let mut serials = [one.serial.clone(), also_one.serial.clone()];
    serials.sort();
    assert_eq!(revoked.serials, serials);
    let after = front.crl().await;
    for issued in [&one, &also_one] {
        let refused = verify(issued, &after).unwrap_err();
        assert!(refused.contains("certificate revoked"), "{refused}");
    }
    verify(&two, &after).unwrap();

    // Once more changes nothing but the list's number; a node without certificates is no error.
    let again = front.revoke(&node("one")).await;
    assert!(again.serials.is_empty() && again.crl_number > revoked.crl_number);
    assert!(front.revoke(&node("nobody")).await.serials.is_empty());
    assert!(verify(&one, &front.crl().await).is_err());

    // The books say so too, after a restart.
    front.server.stop().await;
    let front = Front::start(&database).await;
    let records: Vec<CertificateRecord> = front
        .client(Role::Tenant)
        .get(&front.url("/v1/certificates"))
        .await
        .unwrap();
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!(
            record.revoked_at.is_some(),
            record.node_id == node("one"),
            "{record:?}"
        );
        assert!(record.not_after > record.issued_at);
    }
    assert!(verify(&one, &front.crl().await).is_err());
    verify(&two, &front.crl().await).unwrap();
    // The same authority: what is issued now chains to what was there before.
    let three = front
        .issue(&request("three", "web-3.example"))
        .await
        .unwrap();
    assert_eq!(three.chain_pem, two.chain_pem);
}

#[tokio::test]
async fn a_certificate_is_good_until_it_is_revoked_sqlite() {
    a_certificate_is_good_until_it_is_revoked(Database::sqlite()).await;
}

#[tokio::test]
async fn a_certificate_is_good_until_it_is_revoked_postgresql() {
    a_certificate_is_good_until_it_is_revoked(Database::postgres()).await;
}

async fn a_late_notice_leaves_the_new_certificate_alone(database: Database) {
    let front = Front::start(&database).await;
    let old = front.issue(&request("one", "web-1.example")).await.unwrap();
    let new = front.issue(&request("one", "web-1.example")).await.unwrap();
    let other = front.issue(&request("two", "web-2.example")).await.unwrap();
    let keep = [new.serial.as_str(), other.serial.as_str()];
    let revoked = front.revoke_but(&node("one"), &keep).await;
    assert_eq!(revoked.serials, std::slice::from_ref(&old.serial));
    let crl = front.crl().await;
    assert_eq!(revoked.crl.as_slice(), crl);
    assert!(verify(&old, &crl).is_err());
    verify(&new, &crl).unwrap();
}

#[tokio::test]
async fn a_late_notice_leaves_the_new_certificate_alone_sqlite() {
    a_late_notice_leaves_the_new_certificate_alone(Database::sqlite()).await;
}

#[tokio::test]
async fn a_late_notice_leaves_the_new_certificate_alone_postgresql() {
    a_late_notice_leaves_the_new_certificate_alone(Database::postgres()).await;
}

#[tokio::test]
async fn a_certificate_says_what_ipsec_and_tls_need() {
    let front = Front::alone().await;
    let issued = front.issue(&request("one", "web-1.example")).await.unwrap();
    let spaced = front.issue(&request("two", "Web server 2")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = |pem: &str| {
        fs::write(folder.path().join("c.pem"), pem).unwrap();
        openssl(folder.path(), &["x509", "-in", "c.pem", "-noout", "-text"]).1
    };
    let certificate = text(&issued.certificate_pem);
    for part in [
        "Version: 3",
        "prime256v1",
        "ecdsa-with-SHA256",
        "CN = web-1.example",
        &format!("URI:bootkeep://node/{}", node("one")),
        "DNS:web-1.example",
        &format!("DNS:{}", node("one").host_name()),
        "OCSP - URI:http://crl.example/ocsp",
        "CA Issuers - URI:http://crl.example/ca.der",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Key Usage: critical",
        "Digital Signature",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "CA:FALSE",
        "URI:http://crl.example/crl.der",
    ] {
        assert!(certificate.contains(part), "no {part:?} in\n{certificate}");
    }
    let certificate = text(&spaced.certificate_pem);
    assert!(
        certificate.contains("CN = Web server 2") && certificate.matches("DNS:").count() == 1,
        "{certificate}"
    );
    let authority = text(&issued.chain_pem);
    for part in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier",
    ] {
        assert!(authority.contains(part), "no {part:?} in\n{authority}");
    }
    assert_eq!(issued.serial.len(), 32);
    assert_ne!(issued.serial, spaced.serial);
}

#[tokio::test]
async fn the_list_says_when_the_next_one_comes() {
    let front = Front::alone().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("crl.der"), front.crl().await).unwrap();
    let (good, text) = openssl(
        folder.path(),
        &["crl", "-inform", "DER", "-in", "crl.der", "-noout", "-text"],
    );
    assert!(good, "{text}");
    for part in [
        "Version 2",
        "X509v3 CRL Number",
        "X509v3 Authority Key Identifier",
        "Next Update",
        "No Revoked Certificates",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let (status, kind, ca) = front.page("/ca.der").await;
    assert_eq!((status, kind.as_str()), (200, "application/pkix-cert"));
    fs::write(folder.path().join("ca.der"), ca).unwrap();
    let (good, text) = openssl(
        folder.path(),
        &[
            "x509", "-inform", "DER", "-in", "ca.der", "-noout", "-subject",
        ],
    );
    assert!(good && text.contains("Bootkeep node authority"), "{text}");
    // The public listener has nothing else.
    for path in ["/v1/certificates", "/", "/../ca.db"] {
        assert_eq!(front.page(path).await.0, 404, "{path}");
    }
}

async fn two_processes_never_give_the_same_number(database: Database) {
    let (one, two) = (Front::start(&database).await, Front::start(&database).await);
    for n in 0..8 {
        one.issue(&request(&format!("n{n}"), "x")).await.unwrap();
    }
    let (a, b) = tokio::join!(
        async {
            let mut numbers = Vec::new();
            for n in 0..4 {
                numbers.push(one.revoke(&node(&format!("n{n}"))).await.crl_number);
            }
            numbers
        },
        async {
            let mut numbers = Vec::new();
            for n in 4..8 {
                numbers.push(two.revoke(&node(&format!("n{n}"))).await.crl_number);
            }
            numbers
        }
    );
    let mut numbers = [a, b].concat();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8, "{numbers:?}");
    // The newest list has all of them.
    let newest = Front::start(&database).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("crl.der"), newest.crl().await).unwrap();
    let (_, text) = openssl(
        folder.path(),
        &["crl", "-inform", "DER", "-in", "crl.der", "-noout", "-text"],
    );
    assert_eq!(text.matches("Serial Number:").count(), 8, "{text}");
}

#[tokio::test]
async fn two_processes_never_give_the_same_number_sqlite() {
    two_processes_never_give_the_same_number(Database::sqlite()).await;
}

#[tokio::test]
async fn two_processes_never_give_the_same_number_postgresql() {
    two_processes_never_give_the_same_number(Database::postgres()).await;
}

#[tokio::test]
async fn a_list_past_half_of_its_life_is_renewed() {
    let database = Database::sqlite();
    let before = Front::start(&database).await.crl().await;
    let same = Front::start(&database).await.crl().await;
    assert_eq!(before, same, "renewed without need");
    sqlx::query("UPDATE crl SET next_update = next_update - 13 * 3600")
        .execute(&database.pool().await)
        .await
        .unwrap();
    let after = Front::start(&database).await.crl().await;
    assert_ne!(before, after);
}

#[tokio::test]
async fn the_issuing_key_opens_only_with_the_state_key_and_is_nowhere_in_clear() {
    let database = Database::sqlite();
    let front = Front::start(&database).await;
    front.issue(&request("one", "x")).await.unwrap();
    let Database::Sqlite(folder) = &database else {
        unreachable!()
    };
    // The OID of an EC private key's algorithm with its curve, as PKCS #8 has it, in every form a leak would have.
    for file in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for leak in [
            "PRIVATE KEY",
            "308187020100301306072a8648ce3d020106082a8648ce3d030107",
        ] {
            assert!(!text.contains(leak), "{leak}");
        }
    }
    assert!(matches!(database.open(2).await, Err(CaError::Pki(_))));
    assert!(database.open(1).await.is_ok());
    let swapped = "UPDATE authority SET sealed_key = (SELECT sealed_key || '00' FROM authority)";
    sqlx::query(swapped)
        .execute(&database.pool().await)
        .await
        .unwrap();
    assert!(database.open(1).await.is_err());
}
