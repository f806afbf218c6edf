//! Webhooks, to a real receiver over TLS: told in order, signed, again until taken, also across a restart.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc, Mutex,
    },
    time::Duration,
};

use axum::{
    http::{HeaderMap, StatusCode},
    routing::post,
    Router,
};
use bootkeep_protocol::{verifier::State, Role};
use bootkeep_verifier::{WebhookConfig, WebhookTarget};
use common::{
    node::{running, Node},
    World,
};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

const SECRET: &[u8] = b"thirty-two bytes of a test secret";

/// Takes events, after it has refused some.
#[derive(Clone, Default)]
struct Receiver {
    taken: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    refuse: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Receiver {
    fn router(&self) -> Router {
        let receiver = self.clone();
        let take = |headers: HeaderMap, body: String| async move {
            receiver.asked.fetch_add(1, Ordering::SeqCst);
            let more = |left: usize| left.checked_sub(1);
            if receiver
                .refuse
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
                .is_ok()
            {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            receiver.taken.lock().unwrap().push((headers, body));
            StatusCode::NO_CONTENT
        };
        Router::new().route("/hook", post(take))
    }

    /// The names of the first `count` events, once they are there.
    async fn events(&self, count: usize) -> Vec<String> {
        for _ in 0..1200 {
            let names: Vec<String> = {
                let taken = self.taken.lock().unwrap();
                let name = |headers: &HeaderMap| headers["bootkeep-event"].to_str().unwrap().into();
                taken.iter().map(|(headers, _)| name(headers)).collect()
            };
            if names.len() >= count {
                return names;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no {count} events: {:?}", self.taken.lock().unwrap());
    }
}

/// A target of the world: its own secret file, the world's CA.
fn target(world: &World, url: &str, events: Option<Vec<&str>>) -> WebhookTarget {
    let secret = world.folder.path().join("webhook.key");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config: WebhookConfig = serde_json::from_value(serde_json::json!({
        "url": format!("{url}/hook"),
        "secret_file": secret,
        "ca": world.folder.path().join("ca.pem"),
        "events": events,
    }))
    .unwrap();
    WebhookTarget::open(&config).unwrap()
}

/// A node that was good and then ran something else.
async fn goes_bad(world: &World) -> String {
    let (machine, _) = world.enrolled("node").await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    node.close().await;
    let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    world.until(&machine.node, State::Trusted).await;
    // The observer looks when it is woken, and every other second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.run_file("/usr/bin/evil", b"evil").await;
    world.until(&machine.node, State::Untrusted).await;
    machine.node.to_string()
}

fn signed_by(secret: &[u8], headers: &HeaderMap, body: &str) -> bool {
    let text = headers["bootkeep-signature"].to_str().unwrap();
    let (seconds, signature) = text.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(format!("{seconds}.{body}").as_bytes());
    mac.verify_slice(&hex::decode(signature).unwrap()).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_signed_in_order_and_come_again_until_they_are_taken() {
    let world = World::new().await;
    let receiver = Receiver::default();
    receiver.refuse.store(2, Ordering::SeqCst);
    let (url, _serving) = world.serve(Role::Registrar, receiver.router()).await;
    let all = ["trusted", "untrusted"];
    world
        .verifier()
        .start_webhooks(vec![target(&world, &url, Some(all.to_vec()))]);
    let node = goes_bad(&world).await;
    assert_eq!(receiver.events(2).await, all);
    assert_eq!(receiver.asked.load(Ordering::SeqCst), 4);
    let taken = receiver.taken.lock().unwrap().clone();
    for (headers, body) in &taken {
        assert!(signed_by(SECRET, headers, body));
        assert!(!signed_by(
            b"another secret of the same length",
            headers,
            body
        ));
        let event: Value = serde_json::from_str(body).unwrap();
        assert_eq!(event["node_id"], node.as_str());
        assert_eq!(event["id"], headers["bootkeep-delivery"].to_str().unwrap());
    }
    let event: Value = serde_json::from_str(&taken[1].1).unwrap();
    assert_eq!(event["reasons"][0]["code"], "file-not-listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_no_verifier_ran_is_told_once_and_a_dead_target_holds_up_nobody() {
    let mut world = World::new().await;
    // Nobody listens there.
    let dead = "https://127.0.0.1:9";
    let first = Receiver::default();
    let (url, _serving) = world.serve(Role::Registrar, first.router()).await;
    let targets = |world: &World| vec![target(world, dead, None), target(world, &url, None)];
    world.verifier().start_webhooks(targets(&world));
    goes_bad(&world).await;
    assert_eq!(first.events(1).await, ["untrusted"]);

    // After a restart the same state is not told again; a change is.
    world.start().await;
    world.verifier().start_webhooks(targets(&world));
    let (other, _) = world.enrolled("other").await;
    let mut bad = other.clone();
    bad.boot(b"init=/bin/sh");
    let _link = Node::connect(&world.node_tls, &world.url, &bad).await;
    world.until(&other.node, State::Untrusted).await;
    assert_eq!(first.events(2).await, ["untrusted", "untrusted"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = first.taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 2);
    assert!(taken[1].1.contains(other.node.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_another_ca_is_told_nothing() {
    let world = World::new().await;
    let other = World::new().await;
    let receiver = Receiver::default();
    let (url, _serving) = other.serve(Role::Registrar, receiver.router()).await;
    world
        .verifier()
        .start_webhooks(vec![target(&world, &url, None)]);
    goes_bad(&world).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(receiver.asked.load(Ordering::SeqCst), 0);
}
