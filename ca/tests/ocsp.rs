//! OCSP as openssl asks and judges it.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use bootkeep_protocol::ca::Issued;
use common::{node, openssl, request, Database, Front};
use tempfile::TempDir;

/// A folder with the CA's and a node's certificate.
fn folder_of(issued: &Issued) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), &issued.chain_pem).unwrap();
    fs::write(folder.path().join("node.pem"), &issued.certificate_pem).unwrap();
    folder
}

/// What openssl says of the certificate, asking the responder.
async fn ask(front: &Front, folder: &Path, more: &[&str]) -> (bool, String) {
    let url = format!("http://{}/ocsp", front.public);
    let more: Vec<String> = more.iter().map(|text| (*text).to_owned()).collect();
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut arguments = vec!["ocsp"];
        arguments.extend(more.iter().map(String::as_str));
        arguments.extend([
            "-issuer", "ca.pem", "-cert", "node.pem", "-CAfile", "ca.pem", "-url", &url,
        ]);
        openssl(&folder, &arguments)
    })
    .await
    .unwrap()
}

async fn status_follows_revocation(database: Database) {
    let front = Front::start(&database).await;
    let issued = front.issue(&request("one", "web-1.example")).await.unwrap();
    let folder = folder_of(&issued);
    // With SHA-1 and SHA-256 names of the issuer, with a nonce (openssl compares it) and without.
    for more in [&[][..], &["-sha256"], &["-no_nonce"]] {
        let (verified, text) = ask(&front, folder.path(), more).await;
        assert!(
            verified && text.contains("Response verify OK") && text.contains("node.pem: good"),
            "{more:?}: {text}"
        );
        assert!(
            !text.contains("WARNING: no nonce") || more == ["-no_nonce"],
            "{text}"
        );
    }
    front.revoke(&node("one")).await;
    let (_, text) = ask(&front, folder.path(), &[]).await;
    assert!(
        text.contains("node.pem: revoked") && text.contains("Response verify OK"),
        "{text}"
    );
    // A restart forgets nothing.
    front.server.stop().await;
    let front = Front::start(&database).await;
    let (_, text) = ask(&front, folder.path(), &[]).await;
    assert!(text.contains("node.pem: revoked"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_follows_revocation_sqlite() {
    status_follows_revocation(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_follows_revocation_postgresql() {
    status_follows_revocation(Database::postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_ca_are_unknown() {
    let (front, other) = (Front::alone().await, Front::alone().await);
    let theirs = other.issue(&request("one", "web-1.example")).await.unwrap();
    let ours = front.issue(&request("one", "web-1.example")).await.unwrap();
    // Their serial with their issuer, their serial under our name, our serial under theirs.
    let folder = folder_of(&theirs);
    let trusted = folder_of(&ours);
    let ca = fs::read(trusted.path().join("ca.pem")).unwrap();
    fs::write(folder.path().join("ours.pem"), &ca).unwrap();
    let (serial, own) = (format!("0x{}", theirs.serial), format!("0x{}", ours.serial));
    for arguments in [
        vec!["-issuer", "ca.pem", "-serial", &own],
        vec!["-issuer", "ca.pem", "-cert", "node.pem"],
        vec!["-issuer", "ours.pem", "-serial", &serial],
    ] {
        let url = format!("http://{}/ocsp", front.public);
        let mut all = vec!["ocsp", "-CAfile", "ours.pem", "-url", &url];
        all.extend(arguments);
        let all: Vec<String> = all.into_iter().map(String::from).collect();
        let path = folder.path().to_owned();
        let (_, text) = tokio::task::spawn_blocking(move || {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            openssl(&path, &all)
        })
        .await
        .unwrap();
        assert!(text.contains("unknown") && !text.contains("good"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_come_by_get_too_and_bad_ones_are_told_so() {
    use base64::{engine::general_purpose::STANDARD, Engine as _};
    let front = Front::alone().await;
    let issued = front.issue(&request("one", "web-1.example")).await.unwrap();
    let folder = folder_of(&issued);
    let (made, text) = openssl(
        folder.path(),
        &[
            "ocsp",
            "-issuer",
            "ca.pem",
            "-cert",
            "node.pem",
            "-no_nonce",
            "-reqout",
            "r.der",
        ],
    );
    assert!(made, "{text}");
    let asked = STANDARD.encode(fs::read(folder.path().join("r.der")).unwrap());
    let escaped = asked.replace('+', "%2B").replace('=', "%3D");
    for path in [escaped.replace('/', "%2F"), escaped] {
        let (status, kind, body) = front.page(&format!("/ocsp/{path}")).await;
        assert_eq!((status, kind.as_str()), (200, "application/ocsp-response"));
        fs::write(folder.path().join("a.der"), body).unwrap();
        let (_, text) = openssl(
            folder.path(),
            &[
                "ocsp", "-respin", "a.der", "-issuer", "ca.pem", "-cert", "node.pem", "-CAfile",
                "ca.pem",
            ],
        );
        assert!(text.contains("node.pem: good"), "{text}");
    }
    // OCSPResponseStatus malformedRequest (1).
    let malformed = [0x30, 0x03, 0x0a, 0x01, 0x01];
    for path in ["AAAA", "%25%25", &"A".repeat(9000)] {
        assert_eq!(
            front.page(&format!("/ocsp/{path}")).await.2,
            malformed,
            "{path}"
        );
    }
}
