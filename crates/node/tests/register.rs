//! Registration with a software TPM at registrars of every mood.
#![allow(clippy::unwrap_used)]

#[path = "../../service/tests/common/mod.rs"]
mod common;
mod node;

use std::{slice::from_ref, sync::Arc};

use axum::{routing::post, Json, Router};
use bootkeep_credential::make_credential;
use bootkeep_evidence::{AkPublic, EkPublic};
use bootkeep_link::{HttpClient, HttpError};
use bootkeep_node::identity::IdentityError;
use bootkeep_protocol::{
    registrar::{activation_message, ActivateRequest, Activated, Challenge, RegisterRequest},
    NodeId, Problem, ProblemKind, Role,
};
use bootkeep_service::{BoundedJson, Limits, ProblemResponse};
use common::{Pki, Server, Wanted};
use hmac::{Hmac, Mac};
use node::Node;
use tokio::net::TcpListener;

const SECRET: [u8; 32] = [9; 32];

/// What a registrar does with a node that asks.
#[derive(Clone, Copy)]
enum Mood {
    Good,
    WrongNode,
    Refuses(ProblemKind),
}

fn challenge(mood: Mood, request: &RegisterRequest) -> Result<Challenge, ProblemResponse> {
    if let Mood::Refuses(kind) = mood {
        return Err(Problem::new(kind, "for-the-test", "no").into());
    }
    let ek = EkPublic::parse(request.ek_public.as_slice()).unwrap();
    let ak = AkPublic::parse(request.ak_public.as_slice()).unwrap();
    let made = make_credential(&ek, ak.name(), &SECRET).unwrap();
    let node_id = match mood {
        Mood::WrongNode => NodeId::of_ek_public(b"another"),
        _ => NodeId::of_ek_public(request.ek_public.as_slice()),
    };
    Ok(Challenge {
        node_id,
        challenge_id: "one".into(),
        credential_blob: made.blob.into(),
        encrypted_secret: made.encrypted_secret.into(),
    })
}

async fn registrar(pki: &Arc<Pki>, mood: Mood) -> Server {
    let register = move |BoundedJson(request): BoundedJson<RegisterRequest>| async move {
        challenge(mood, &request).map(Json)
    };
    let activate = |axum::extract::Path(node_id): axum::extract::Path<NodeId>,
                    BoundedJson(request): BoundedJson<ActivateRequest>| async move {
        let mac = Hmac::<sha2::Sha256>::new_from_slice(&SECRET).unwrap();
        let message = activation_message(&request.challenge_id, &node_id);
        let verified = mac
            .chain_update(message)
            .verify_slice(request.proof.as_slice());
        let generation = u64::from(verified.is_ok());
        Json(Activated {
            node_id,
            generation,
        })
    };
    let router = Router::new()
        .route("/v1/nodes", post(register))
        .route("/v1/nodes/{id}/activate", post(activate));
    let identity = pki.issue(&Wanted::role(Role::Registrar));
    Server::start_as(Arc::clone(pki), &identity, Limits::default(), router).await
}

async fn register(node: &Node, pki: &Pki, urls: &[String]) -> Result<Activated, IdentityError> {
    let client = HttpClient::new(pki.node_tls(), Role::Registrar);
    let attester = &node.attester;
    attester
        .identity
        .register(&attester.tpm, &client, urls)
        .await
}

#[tokio::test]
async fn one_good_registrar_among_others_is_enough() {
    let node = Node::start().await;
    let pki = Arc::new(Pki::new("test CA"));
    let good = registrar(&pki, Mood::Good).await;
    let busy = registrar(&pki, Mood::Refuses(ProblemKind::Busy)).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let urls = [
        format!("https://{}", silent.local_addr().unwrap()),
        format!("https://{closed}"),
        busy.url.clone(),
        format!("{}/", good.url),
    ];
    let activated = register(&node, &pki, &urls).await.unwrap();
    assert_eq!(activated.node_id, node.attester.identity.node_id);
    assert_eq!(activated.generation, 1, "the proof was not good");
}

#[tokio::test]
async fn what_goes_wrong_is_typed() {
    let node = Node::start().await;
    let pki = Arc::new(Pki::new("test CA"));
    let untrusted = registrar(&pki, Mood::Refuses(ProblemKind::Untrusted)).await;
    let wrong = registrar(&pki, Mood::WrongNode).await;
    let other_ca = registrar(&Arc::new(Pki::new("test CA")), Mood::Good).await;

    let error = register(&node, &pki, from_ref(&untrusted.url)).await;
    assert!(matches!(error, Err(IdentityError::Registrar(e)) if e.is_refusal()));
    let error = register(&node, &pki, from_ref(&wrong.url)).await;
    assert!(matches!(error, Err(IdentityError::OtherNode(_))));
    for urls in [vec![], vec![other_ca.url.clone()]] {
        let error = register(&node, &pki, &urls).await.unwrap_err();
        let unreachable = matches!(error, IdentityError::Registrar(HttpError::Unreachable(_)));
        assert!(unreachable, "{error}");
    }
}
