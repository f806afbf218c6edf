//! The CA's revocation list is with every node from the start, and no failure takes it away.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/members.rs"]
mod members;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{routing::get, Json, Router};
use bootkeep_pki::{list::ListAuthority, node::NodeAuthority};
use bootkeep_protocol::{ca::CurrentCrl, Role};
use common::{peer::Peer, World};
use members::{CaServer, Member};
use rustls_pki_types::{pem::PemObject, CertificateDer};

const DAY: Duration = Duration::from_secs(86_400);

async fn has_list(peer: &Peer) {
    peer.until("given a list", |peer| peer.crl().is_some())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_the_list_before_anybody_is_revoked() {
    let mut world = World::new().await;
    let ca = CaServer::start(&world).await;
    world.start_revoking(Some(&ca.url)).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let _a = a.run(&world).await;
    has_list(&a.peer).await;
    assert_eq!(a.peer.position().sequence, 0);
    assert!(a.peer.refused().is_empty());
    world
        .counted("bootkeep_verifier_revocation_crl_number 1")
        .await;
    world
        .counted("bootkeep_verifier_revocation_crl_fetch_failures 0")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_away_is_asked_again_and_takes_no_list_away() {
    let mut world = World::new().await;
    let mut ca = CaServer::start(&world).await;
    ca.down().await;
    world.start_revoking(Some(&ca.url)).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let node = a.run(&world).await;
    world
        .counted("bootkeep_verifier_revocation_crl_fetch_failures 2")
        .await;
    world
        .counted("bootkeep_verifier_revocation_crl_number 0")
        .await;
    assert_eq!(a.peer.crl(), None);
    // It comes to a link that is open already.
    ca.up(&world).await;
    has_list(&a.peer).await;
    world
        .counted("bootkeep_verifier_revocation_crl_fetch_failures 0")
        .await;
    let list = a.peer.crl();
    node.close().await;
    ca.down().await;
    world.start_revoking(Some(&ca.url)).await;
    world
        .counted("bootkeep_verifier_revocation_crl_fetch_failures 1")
        .await;
    let again = Member {
        peer: Peer::new(world.revocation_keys()),
        ..a
    };
    let _node = again.link(&world).await;
    has_list(&again.peer).await;
    assert_eq!(again.peer.crl(), list);
}

/// The list that a CA of the test's own shows.
#[derive(Clone)]
struct Shown(Arc<Mutex<CurrentCrl>>);

impl Shown {
    fn new(authority: &NodeAuthority, number: u64, life: Duration) -> Self {
        Self(Arc::new(Mutex::new(current(authority, number, life))))
    }

    fn show(&self, current: CurrentCrl) {
        *self.0.lock().unwrap() = current;
    }

    async fn serve(&self, world: &World) -> String {
        let shown = self.clone();
        let answer = move || {
            let current = shown.0.lock().unwrap().clone();
            async move { Json(current) }
        };
        let router = Router::new().route("/v1/crl", get(answer));
        world.serve(Role::Ca, router).await.0
    }
}

fn certificate(authority: &NodeAuthority) -> Vec<u8> {
    CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())
        .unwrap()
        .to_vec()
}

fn current(authority: &NodeAuthority, number: u64, life: Duration) -> CurrentCrl {
    CurrentCrl {
        crl: authority.crl(number, &[], life).unwrap().into(),
        authority: certificate(authority).into(),
    }
}

/// Waits until the peer holds the list of this number.
async fn holds(peer: &Peer, authority: &NodeAuthority, number: u64) {
    let known = ListAuthority::from_der(&certificate(authority)).unwrap();
    let so = |peer: &Peer| {
        peer.crl()
            .is_some_and(|der| known.read(&der).unwrap().number == number)
    };
    peer.until("given the list", so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_renewed_at_half_of_its_life() {
    let mut world = World::new().await;
    let authority = NodeAuthority::generate("nodes").unwrap();
    let shown = Shown::new(&authority, 7, Duration::from_secs(30));
    let url = shown.serve(&world).await;
    world.start_revoking(Some(&url)).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let _a = a.run(&world).await;
    holds(&a.peer, &authority, 7).await;
    let first = a.peer.crl().unwrap();
    shown.show(current(&authority, 8, DAY));
    holds(&a.peer, &authority, 8).await;
    // The first one had not run out.
    let known = ListAuthority::from_der(&certificate(&authority)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(known.read(&first).unwrap().next_update > now.as_secs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_cas_newer_list_is_not_taken() {
    let authority = NodeAuthority::generate("nodes").unwrap();
    let namesake = NodeAuthority::generate("nodes").unwrap();
    let short = Duration::from_secs(2);
    let foreign = CurrentCrl {
        authority: certificate(&authority).into(),
        ..current(&namesake, 8, DAY)
    };
    let rubbish = CurrentCrl {
        crl: b"no list".as_slice().into(),
        ..current(&authority, 8, DAY)
    };
    let cases = [
        ("an older list", current(&authority, 6, DAY)),
        (
            "another list of the same number",
            current(&authority, 7, DAY),
        ),
        ("another authority's", current(&namesake, 8, DAY)),
        ("signed by a namesake", foreign),
        ("no list", rubbish),
        ("one that has run out", {
            let old = current(&authority, 8, Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(2)).await;
            old
        }),
    ];
    for (name, bad) in cases {
        let mut world = World::new().await;
        let shown = Shown::new(&authority, 7, short);
        let url = shown.serve(&world).await;
        world.start_revoking(Some(&url)).await;
        let a = Member::enrolled(&world, "a", "0a").await;
        let _a = a.run(&world).await;
        holds(&a.peer, &authority, 7).await;
        shown.show(bad);
        world
            .counted("bootkeep_verifier_revocation_crl_fetch_failures 2")
            .await;
        world
            .counted("bootkeep_verifier_revocation_crl_number 7")
            .await;
        // And the next good one is.
        shown.show(current(&authority, 9, DAY));
        holds(&a.peer, &authority, 9).await;
        println!("{name}: not taken");
    }
}
