//! Who is believed: the server by the client, the client by the server (A16).
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use axum::{routing::get, Json, Router};
use bootkeep_link::{certificate_role, ClientTls, HttpClient, HttpError, RoleError};
use bootkeep_protocol::{Problem, ProblemKind, Role};
use bootkeep_service::{Limits, Peer, ProblemResponse};
use common::{raw, Pki, Server, Wanted};
use rustls_pki_types::{pem::PemObject, CertificateDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The roles that pass, for every route.
fn routes() -> Router {
    async fn tenant_only(peer: Peer) -> Result<Json<Role>, ProblemResponse> {
        Ok(Json(peer.require(&[Role::Tenant])?))
    }
    async fn readers(peer: Peer) -> Result<Json<Role>, ProblemResponse> {
        Ok(Json(peer.require(&[Role::Tenant, Role::Verifier])?))
    }
    Router::new()
        .route(
            "/tenant",
            get(tenant_only).put(tenant_only).delete(tenant_only),
        )
        .route("/readers", get(readers))
}

async fn ask(client: &HttpClient, server: &Server, path: &str) -> Result<Role, HttpError> {
    client.get(&format!("{}{path}", server.url)).await
}

#[tokio::test]
async fn roles_open_their_routes_and_no_others() {
    let server = Server::start(Limits::default(), routes()).await;
    let table = [
        ("/tenant", vec![Role::Tenant]),
        ("/readers", vec![Role::Tenant, Role::Verifier]),
    ];
    for (path, allowed) in table {
        for role in Role::ALL {
            let seen = ask(&server.client(role), &server, path).await;
            match allowed.contains(&role) {
                true => assert_eq!(seen.unwrap(), role, "{path}"),
                false => {
                    let kind = seen.unwrap_err().problem().map(|p: &Problem| p.kind);
                    assert_eq!(kind, Some(ProblemKind::Forbidden), "{path} {role}");
                }
            }
        }
        let stranger = ask(&server.stranger(), &server, path).await.unwrap_err();
        assert_eq!(
            stranger.problem().map(|p| p.code.as_str()),
            Some("no-certificate"),
            "{path}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn certificates_without_one_good_role_open_nothing() {
    let server = Server::start(Limits::default(), routes()).await;
    let tenant = Role::Tenant.uri();
    let cases: [(&str, Vec<&str>); 6] = [
        ("none", vec![]),
        ("unknown", vec!["bootkeep://role/king"]),
        ("two", vec![&tenant, "bootkeep://role/verifier"]),
        ("known and unknown", vec![&tenant, "bootkeep://role/king"]),
        ("longer", vec!["bootkeep://role/tenant/x"]),
        ("other scheme", vec!["https://role/tenant"]),
    ];
    for (name, uris) in cases {
        let identity = server.pki.issue(&Wanted::uris(&uris));
        let client = HttpClient::new(server.pki.client_tls(&identity), Role::Verifier);
        let error = ask(&client, &server, "/tenant").await.unwrap_err();
        assert_eq!(
            error.problem().map(|p| p.code.as_str()),
            Some("no-certificate"),
            "{name}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn certificates_of_others_or_out_of_time_do_not_connect() {
    let server = Server::start(Limits::default(), routes()).await;
    let wanted = Wanted::role(Role::Tenant);
    let other_ca = Pki::new("test CA");
    let cases = [
        ("other CA of the same name", other_ca.issue(&wanted)),
        ("expired", server.pki.issue(&wanted.clone().expired())),
        ("not yet valid", server.pki.issue(&wanted.not_yet())),
    ];
    for (name, identity) in cases {
        let client = HttpClient::new(server.pki.client_tls(&identity), Role::Verifier);
        for path in ["/tenant", "/readers"] {
            let error = ask(&client, &server, path).await.unwrap_err();
            assert!(
                matches!(error, HttpError::Unreachable(_)),
                "{name}: {error}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_counts_only_in_its_own_role() {
    let pki = Arc::new(Pki::new("test CA"));
    for role in Role::ALL {
        let identity = pki.issue(&Wanted::role(role));
        let server =
            Server::start_as(Arc::clone(&pki), &identity, Limits::default(), routes()).await;
        for dialled in Role::ALL {
            let client = HttpClient::new(pki.node_tls(), dialled);
            let error = ask(&client, &server, "/tenant").await.unwrap_err();
            // In its own role the handshake succeeds and the service itself answers.
            assert_eq!(
                error.problem().is_some(),
                dialled == role,
                "{role} as {dialled}: {error}"
            );
            if dialled != role {
                assert!(error.to_string().contains(role.as_str()), "{error}");
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn servers_of_others_out_of_time_or_misnamed_are_not_believed() {
    let pki = Arc::new(Pki::new("test CA"));
    let wanted = Wanted::role(Role::Verifier);
    let tenant = Role::Tenant.uri();
    let verifier = Role::Verifier.uri();
    let cases = [
        ("expired", pki.issue(&wanted.clone().expired())),
        ("not yet valid", pki.issue(&wanted.clone().not_yet())),
        (
            "other name",
            pki.issue(&wanted.clone().named("elsewhere.example")),
        ),
        ("no role", pki.issue(&Wanted::uris(&[]))),
        ("two roles", pki.issue(&Wanted::uris(&[&tenant, &verifier]))),
        ("other CA", Pki::new("test CA").issue(&wanted)),
    ];
    for (name, identity) in cases {
        let server =
            Server::start_as(Arc::clone(&pki), &identity, Limits::default(), routes()).await;
        let client = HttpClient::new(pki.node_tls(), Role::Verifier);
        let error = ask(&client, &server, "/tenant").await.unwrap_err();
        assert!(
            matches!(error, HttpError::Unreachable(_)),
            "{name}: {error}"
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let server = Server::start(Limits::default(), routes()).await;
    // The head of a TLS 1.2 hello: no supported_versions extension.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let answer = common::raw::exchange(&server, &hello).await;
    // An alert, fatal.
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_service_never_resumes() {
    let server = Server::start(Limits::default(), routes()).await;
    // A client that keeps every ticket it gets; the answer to a request comes after any ticket.
    let config = Arc::new(raw::config(&server, None));
    for _ in 0..3 {
        let mut stream = raw::connect_with(&server, Arc::clone(&config))
            .await
            .unwrap();
        let request = b"GET /tenant HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 403"));
        assert!(!raw::is_resumed(&stream));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_client_never_resumes() {
    let pki = Arc::new(Pki::new("test CA"));
    let identity = pki.issue(&Wanted::role(Role::Verifier));
    // A service that gives tickets and would take them.
    let service = raw::TicketGiver::start(&identity).await;
    for _ in 0..3 {
        let client = HttpClient::new(pki.node_tls(), Role::Verifier);
        let _ = client.get::<()>(&service.url).await;
        let client = client.clone();
        let _ = client.get::<()>(&service.url).await;
    }
    let resumed = service.resumed.lock().unwrap().clone();
    assert_eq!(resumed, [false; 6]);
}

#[test]
fn roles_are_read_out_of_certificates() {
    let pki = Pki::new("test CA");
    let role = |uris: &[&str]| {
        let identity = pki.issue(&Wanted::uris(uris));
        let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        certificate_role(&der)
    };
    for wanted in Role::ALL {
        assert_eq!(role(&[&wanted.uri()]), Ok(wanted));
    }
    assert_eq!(role(&[]), Err(RoleError::None));
    assert_eq!(role(&["https://x"]), Err(RoleError::None));
    assert_eq!(role(&["bootkeep://role/x"]), Err(RoleError::Ambiguous));
    assert_eq!(
        role(&["bootkeep://role/ca", "bootkeep://role/ca"]),
        Err(RoleError::Ambiguous)
    );
    let garbage = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
    assert_eq!(certificate_role(&garbage), Err(RoleError::Certificate));
}

#[test]
fn key_and_certificate_must_belong_together() {
    let pki = Pki::new("test CA");
    let one = pki.issue(&Wanted::role(Role::Tenant));
    let other = pki.issue(&Wanted::role(Role::Tenant));
    let made = ClientTls::with_identity(
        pki.ca_pem.as_bytes(),
        one.certificate.as_bytes(),
        other.key.as_bytes(),
    );
    assert!(made.is_err());
    assert!(ClientTls::new(b"nothing").is_err());
}
