//! The whole way with real parts: a software TPM with a certified EK, the node's own code, a real registrar.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_link::HttpClient;
use bootkeep_node::session::{event_queue, share_channel, Session};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{
    link::{Event, SharePart},
    verifier::State,
    Bytes, Phase, Role,
};
use bootkeep_registrar::Registrar;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{latch_digest, latched_pcr15, Wrapped, V};
use common::{
    host::{enrolment, Host},
    World, SHARE_V,
};

#[tokio::test(flavor = "multi_thread")]
async fn from_registration_to_an_unlisted_program() {
    let swtpm = Swtpm::certified().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("registrar.db").display());
    let roots = EkRoots::load(&swtpm.roots()).unwrap();
    let registrar = Registrar::open(&database, roots).await.unwrap();
    let world = World::with_registrar(registrar.router()).await;
    let mut host = Host::boot(swtpm).await;
    let node = host.attester.identity.node_id.clone();
    let client = HttpClient::new(world.node_tls.clone(), Role::Registrar);
    let registrars = [world.registrar_url.clone()];
    let identity = host.attester.identity.clone();
    identity
        .register(&host.attester.tpm, &client, &registrars)
        .await
        .unwrap();

    // In the initramfs: waits, is enrolled, gets V, latches.
    let urls = [world.url.clone()];
    let digest = latch_digest("cryptroot", b"key");
    let session = Session::open(&host.attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let served = session.serve(Some(&shares), &mut queue);
    let boot = async {
        let enrolment = enrolment(&world, &host, latched_pcr15(&digest)).await;
        world.enrol(&node, &enrolment).await.unwrap();
        let request = taken.recv().await.unwrap();
        let call = request.call.clone();
        request.answer(Ok(Some(Bytes(vec![8; 32]))));
        world.until(&node, State::BootTrusted).await;
        world.step(&node, "share-v-sent").await;
        drop(events);
        call
    };
    let (_, call) = tokio::join!(served, boot);
    assert_eq!(call.part, SharePart::V);
    let wrapped = Wrapped {
        encapsulated: call.encapsulated.0,
        ciphertext: call.ciphertext.0,
    };
    let share = host
        .nk
        .unwrap_share::<V>(call.nonce.as_bytes(), node.as_str(), &wrapped);
    assert_eq!(share.unwrap().expose(), &SHARE_V);
    assert_eq!(
        world.steps(&node, 0).await.confirmation,
        Some(Bytes(vec![8; 32]))
    );
    host.extend(15, digest).await;
    let refused = Session::open(&host.attester, &world.node_tls, &urls)
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("latched"), "{refused}");

    // The system runs: trusted, until something unlisted does.
    host.attester.phase = Phase::Runtime;
    let attester = host.attester.clone();
    let session = Session::open(&attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let served = session.serve(None, &mut queue);
    let run = async {
        world.until(&node, State::Trusted).await;
        host.measure("/usr/bin/evil", b"evil").await;
        let _ = events.send(Event::ImaGrew { count: 3 }).await;
        let started = std::time::Instant::now();
        let status = world.until(&node, State::Untrusted).await;
        println!("untrusted {:?} after the report", started.elapsed());
        drop(events);
        status
    };
    let (_, status) = tokio::join!(served, run);
    assert_eq!(status.reasons[0].code, "file-not-listed");
    assert!(status.reasons[0].detail.contains("/usr/bin/evil"));
}
