//! A node that keeps its U, with a real TPM: what a cleared TPM and another TPM get.
#![allow(clippy::unwrap_used)]

mod common;

use std::{process::Command, time::Duration};

use bootkeep_link::HttpClient;
use bootkeep_node::session::{event_queue, share_channel, OpenError, Session};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{
    kept::Authority,
    link::{Event, ShareCall},
    verifier::{State, Unattended},
    NodeId, Role, ShareId,
};
use bootkeep_registrar::Registrar;
use bootkeep_swtpm::{Manufacturer, Swtpm};
use bootkeep_tpkd::latched_pcr15;
use common::{
    host::{enrolment, Host},
    World,
};

async fn world(roots: EkRoots, folder: &std::path::Path) -> World {
    let database = format!("sqlite://{}", folder.join("registrar.db").display());
    let registrar = Registrar::open(&database, roots).await.unwrap();
    World::with_registrar(registrar.router()).await
}

async fn register(world: &World, host: &Host) -> NodeId {
    let client = HttpClient::new(world.node_tls.clone(), Role::Registrar);
    let registrars = [world.registrar_url.clone()];
    let identity = host.attester.identity.clone();
    let registered = identity.register(&host.attester.tpm, &client, &registrars);
    registered.await.unwrap();
    identity.node_id.clone()
}

async fn open<'a>(world: &World, host: &'a Host) -> Result<Session<'a>, OpenError> {
    Session::open(
        &host.attester,
        &world.node_tls,
        std::slice::from_ref(&world.url),
    )
    .await
}

async fn splits(world: &World, node: &NodeId) -> Vec<ShareId> {
    world.status(node).await.unattended.unwrap().shares
}

/// Enrols the host as one that keeps its U; the V it gets. It acknowledges the next.
async fn keeps(world: &World, host: &Host, node: &NodeId) -> ShareCall {
    let session = open(world, host).await.unwrap();
    let (events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let served = session.serve(Some(&shares), &mut queue);
    let boot = async {
        let mut enrolment = enrolment(world, host, latched_pcr15(&[1; 32])).await;
        enrolment.unattended = Some(Unattended {
            share_id: ShareId::from([1; 16]),
            authorities: vec![Authority {
                public: vec![1; 90].into(),
                policy_ref: b"base".as_slice().into(),
            }],
            pcr_policies: Vec::new(),
            staged: false,
        });
        world.enrol(node, &enrolment).await.unwrap();
        let request = taken.recv().await.unwrap();
        let call = request.call.clone();
        request.answer(Ok(None));
        let id = call.kept.as_ref().unwrap().sets[0].next.id;
        let _ = events.send(Event::ShareKept { id }).await;
        while splits(world, node).await != [id] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(events);
        call
    };
    tokio::join!(served, boot).1
}

/// TPM2_Clear: keys and NV of the owner are gone, the EK stays.
async fn clear(swtpm: &mut Swtpm) {
    let mut cleared = false;
    for _ in 0..50 {
        let command = Command::new("tpm2_clear")
            .args(["-T", &swtpm.tcti(), "-c", "p"])
            .output();
        cleared = command.unwrap().status.success();
        if cleared {
            break;
        }
        // The thread of the node's connection is just ending.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(cleared);
    swtpm.power_cycle().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_and_another_tpm_get_no_v() {
    let maker = std::sync::Arc::new(Manufacturer::new().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::made_by(&maker).unwrap();
    let world = world(EkRoots::load(&swtpm.roots()).unwrap(), folder.path()).await;
    let host = Host::boot(swtpm).await;
    let node = register(&world, &host).await;
    let ak = host.attester.identity.ak_public.clone();
    let call = keeps(&world, &host, &node).await;
    assert_eq!(call.kept.unwrap().sets.len(), 1);
    let held = splits(&world, &node).await;

    let mut swtpm = host.off();
    clear(&mut swtpm).await;
    let host = Host::boot(swtpm).await;
    assert_eq!(register(&world, &host).await, node, "the EK is the same");
    assert_ne!(host.attester.identity.ak_public, ak);
    let refused = open(&world, &host).await.err().unwrap();
    assert!(refused.to_string().contains("AK"), "{refused}");
    assert_eq!(splits(&world, &node).await, held);
    assert_ne!(world.status(&node).await.state, State::Trusted);

    // The disk is in another machine: its node is not enrolled, so nothing is sent, whatever the disk has.
    let other = Host::boot(Swtpm::made_by(&maker).unwrap()).await;
    let stranger = register(&world, &other).await;
    assert_ne!(stranger, node);
    let session = open(&world, &other).await.unwrap();
    let (events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let waited = async {
        let share = tokio::time::timeout(Duration::from_millis(500), taken.recv()).await;
        drop(events);
        share.is_err()
    };
    let (_, nothing) = tokio::join!(session.serve(Some(&shares), &mut queue), waited);
    assert!(nothing);
    assert_eq!(splits(&world, &node).await, held);
}
