//! Every refusal is a problem document, and none repeats what the client sent (A13).
#![allow(clippy::unwrap_used)]

mod common;

use axum::{extract::Path, routing::post, Router};
use bootkeep_link::HttpClient;
use bootkeep_protocol::{
    limits::MAX_BODY, problem::PROBLEM_JSON, registrar::Approval, Problem, ProblemKind, Role,
};
use bootkeep_service::{BoundedJson, Limits, Peer, ProblemResponse};
use common::Server;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;

const SECRET: &str = "correct horse battery staple";

fn routes() -> Router {
    async fn approve(
        peer: Peer,
        BoundedJson(approval): BoundedJson<Approval>,
    ) -> Result<String, ProblemResponse> {
        peer.require(&[Role::Tenant])?;
        serde_json::to_string(&approval.note)
            .map_err(|_| Problem::new(ProblemKind::Internal, "x", "x").into())
    }
    async fn number(Path(_): Path<u32>) {}
    #[allow(clippy::panic)]
    async fn panics() {
        panic!("{SECRET}")
    }
    Router::new()
        .route("/approve", post(approve))
        .route("/number/{n}", post(number))
        .route("/panics", post(panics))
}

/// Sends a request as it is and gives status, content type and body.
async fn raw(server: &Server, request: Request<Full<Bytes>>) -> (u16, String, Vec<u8>) {
    let stream = common::raw::connect(server, None).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(driver);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type");
    let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, body.to_vec())
}

#[tokio::test]
async fn a_good_request_passes() {
    let server = Server::start(Limits::default(), routes()).await;
    let approval = Approval { note: "x".into() };
    let client = server.client(Role::Tenant);
    let url = format!("{}/approve", server.url);
    let note: String = client.post(&url, &approval).await.unwrap();
    assert_eq!(note, "x");
    server.stop().await;
}

#[tokio::test]
async fn every_refusal_is_a_problem_and_repeats_nothing() {
    let server = Server::start(Limits::default(), routes()).await;
    let json = "application/json";
    let huge = format!("{{\"note\":\"{}\"}}", "x".repeat(MAX_BODY));
    let unknown = format!("{{\"note\":\"x\",\"{SECRET}\":1}}");
    let wrong_type = format!("{{\"note\":[\"{SECRET}\"]}}");
    let no_json = format!("{SECRET}{{");
    let cases: Vec<(&str, &str, &str, &str, &str, u16, &str)> = vec![
        (
            "no JSON", "POST", "/approve", json, &no_json, 400, "bad-json",
        ),
        (
            "unknown key",
            "POST",
            "/approve",
            json,
            &unknown,
            400,
            "bad-json",
        ),
        (
            "wrong type",
            "POST",
            "/approve",
            json,
            &wrong_type,
            400,
            "bad-json",
        ),
        ("no body", "POST", "/approve", json, "", 400, "bad-json"),
        (
            "other media type",
            "POST",
            "/approve",
            "text/plain",
            "{}",
            400,
            "not-json",
        ),
        (
            "too large",
            "POST",
            "/approve",
            json,
            &huge,
            413,
            "too-large",
        ),
        (
            "no certificate",
            "POST",
            "/approve",
            json,
            "{\"note\":\"x\"}",
            403,
            "no-certificate",
        ),
        (
            "no route",
            "POST",
            "/sesame",
            json,
            "{}",
            404,
            "no-such-route",
        ),
        (
            "no method",
            "PATCH",
            "/approve",
            json,
            "{}",
            405,
            "method-not-allowed",
        ),
        (
            "bad path part",
            "POST",
            "/number/one",
            json,
            "{}",
            400,
            "bad-request",
        ),
        ("panic", "POST", "/panics", json, "{}", 500, "internal"),
    ];
    for (name, method, path, kind, body, status, code) in cases {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "x")
            .header("content-type", kind)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let (seen, media, body) = raw(&server, request).await;
        assert_eq!((seen, media.as_str()), (status, PROBLEM_JSON), "{name}");
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (status, code),
            "{name}"
        );
        let text = String::from_utf8(body).unwrap();
        assert!(!text.contains("horse"), "{name}: {text}");
    }
    // The panic has not taken the service with it.
    let url = format!("{}/approve", server.url);
    let approval = Approval { note: "x".into() };
    let client: HttpClient = server.client(Role::Tenant);
    assert!(client.post::<String>(&url, &approval).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let server = Server::start(Limits::default(), routes()).await;
    let chunk = Bytes::from(vec![b' '; 8 * 1024]);
    let chunks = std::iter::repeat_n(chunk, 2 * MAX_BODY / (8 * 1024));
    let frames = futures_util::stream::iter(
        chunks.map(|chunk| Ok::<_, std::io::Error>(hyper::body::Frame::data(chunk))),
    );
    let stream = common::raw::connect(&server, None).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(driver);
    let request = Request::post("/approve")
        .header("host", "x")
        .header("content-type", "application/json")
        .body(http_body_util::StreamBody::new(frames))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 413);
    server.stop().await;
}

#[tokio::test]
async fn the_client_gives_the_refusal_typed() {
    let server = Server::start(Limits::default(), routes()).await;
    let approval = Approval { note: "x".into() };
    let url = format!("{}/approve", server.url);
    let error = server
        .client(Role::Ca)
        .post::<String>(&url, &approval)
        .await
        .unwrap_err();
    assert!(error.is_refusal());
    let problem = error.problem().unwrap();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert_eq!(problem.code, "wrong-role");
    server.stop().await;
}
