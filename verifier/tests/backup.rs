//! A backup comes back on a fresh machine and nodes still unlock; what happened since is not forgotten.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bootkeep_link::HttpClient;
use bootkeep_node::{
    session::{event_queue, share_channel, Session},
    Attester,
};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{
    verifier::{NodeStatus, RevokeRequest, State},
    NodeId, Role,
};
use bootkeep_registrar::{backup as registrar_backup, Registrar};
use bootkeep_revocation::read_head;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{Wrapped, V};
use bootkeep_verifier::backup::{backup, restore, RestoreError, Restored, Since};
use common::{
    code,
    host::{enrolment, Host},
    keeper::{unattended, Boot},
    node::Node,
    World, SHARE_V, STATE_KEY,
};

fn state_key(world: &World) -> PathBuf {
    let path = world.folder.path().join("state.key");
    std::fs::write(&path, STATE_KEY).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn back_up(world: &World, name: &str) -> PathBuf {
    let out = world.folder.path().join(name);
    let key = state_key(world);
    backup(&world.database_url, &key, &out).await.unwrap();
    out
}

/// As on a fresh machine: another folder. The verifier is not started yet.
async fn bring_back(
    world: &mut World,
    from: &Path,
    since: &Since,
) -> Result<Restored, RestoreError> {
    world.stop();
    let place = tempfile::tempdir_in(world.folder.path()).unwrap().keep();
    let url = format!("sqlite://{}", place.join("verifier.db").display());
    let restored = restore(&url, &state_key(world), from, since).await;
    if restored.is_ok() {
        world.database_url = url;
    } else {
        assert!(!place.join("verifier.db").exists());
    }
    restored
}

async fn revoke(world: &World, node: &NodeId) {
    let url = format!("{}/revoke", world.node_url(node));
    let reason = RevokeRequest {
        reason: "stolen".into(),
    };
    let _: NodeStatus = world.tenant.post(&url, &reason).await.unwrap();
}

#[tokio::test]
async fn nodes_unlock_after_a_restore() {
    let mut world = World::new().await;
    let (mut keeping, _, _, mut keeper) = world.keeping("keeping").await;
    let (attended, _) = world.enrolled("attended").await;
    let out = back_up(&world, "backup").await;
    let secret = std::fs::read(&out).unwrap();
    assert!(!secret.windows(32).any(|bytes| bytes == SHARE_V));

    let restored = bring_back(&mut world, &out, &Since::default())
        .await
        .unwrap();
    assert_eq!(restored.lost, 0);
    assert_eq!(restored.keeping, [keeping.node.to_string()]);
    world.start().await;
    let status = world.status(&keeping.node).await;
    assert_eq!(status.state, State::Waiting);
    assert_eq!(status.reasons[0].code, "restored-from-backup");

    let boot = Boot::begin(&world, &mut keeping, &keeper).await;
    assert!(boot.opened.is_some());
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&keeping, &[id]).await;
    let mut node = Node::connect(&world.node_tls, &world.url, &attended)
        .await
        .unwrap();
    let share = node.share().await;
    assert_eq!(node.unwrap(&share).expose(), &SHARE_V);
}

#[tokio::test]
async fn a_node_that_booted_since_is_named_and_nothing_is_dropped() {
    let mut world = World::new().await;
    let (mut machine, _, _, mut keeper) = world.keeping("node").await;
    let out = back_up(&world, "backup").await;
    // Twice: then this node's two slots have nothing left of then.
    for _ in 0..2 {
        let boot = Boot::begin(&world, &mut machine, &keeper).await;
        let id = boot.acknowledge(&mut keeper).await;
        world.keeps(&machine, &[id]).await;
    }

    let restored = bring_back(&mut world, &out, &Since::default())
        .await
        .unwrap();
    assert!(restored.to_string().contains("recovery key"));
    assert_eq!(restored.keeping, [machine.node.to_string()]);
    world.start().await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert!(boot.opened.is_none(), "its V is lost");
    // A K that the header may need is not dropped by a hasty enrolment.
    let (mut attended, _) = unattended(&machine, false);
    attended.unattended = None;
    assert_eq!(
        code(world.enrol(&machine.node, &attended).await),
        "keeps-its-u"
    );
}

#[tokio::test]
async fn a_revocation_since_the_backup_is_not_forgotten() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let (mut machine, _, _, keeper) = world.keeping("node").await;
    let (other, _) = world.enrolled("other").await;
    let out = back_up(&world, "backup").await;
    let before = world.tenant_head().await;
    revoke(&world, &machine.node).await;
    let end = loop {
        let head = world.tenant_head().await;
        if head.1 > before.1 {
            break head.1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };

    let id = |node: &NodeId| Some(vec![node.clone()]);
    let unknown = NodeId::of_ek_public(b"unknown");
    type Fits = fn(&RestoreError) -> bool;
    let cases: [(Option<u64>, Option<Vec<NodeId>>, Fits); 3] = [
        (None, None, |e| matches!(e, RestoreError::LogEnd(0))),
        (Some(end), None, |e| matches!(e, RestoreError::Lost(1))),
        (Some(end), id(&unknown), |e| {
            matches!(e, RestoreError::NotEnrolled(_))
        }),
    ];
    for (log_end, revoked, fits) in cases {
        let since = Since { log_end, revoked };
        let error = bring_back(&mut world, &out, &since).await.unwrap_err();
        assert!(fits(&error), "{error}");
    }
    let since = Since {
        log_end: Some(end),
        revoked: id(&machine.node),
    };
    let restored = bring_back(&mut world, &out, &since).await.unwrap();
    assert_eq!((restored.lost, restored.forgotten.len()), (1, 0));
    world.start_revoking(None).await;
    assert_eq!(world.status(&machine.node).await.state, State::Revoked);
    assert_eq!(world.status(&other.node).await.state, State::Waiting);
    // The number of the lost entry is not given again: it is another log.
    let after = world.tenant_head().await;
    assert_ne!(after.0, before.0);
    machine.boot(b"quiet");
    let node = Node::connect(&world.node_tls, &world.url, &machine).await;
    drop((node, keeper));
    assert_eq!(world.splits(&machine).await, []);
}

impl World {
    /// Name and end of the revocation log.
    async fn tenant_head(&self) -> (String, u64) {
        let url = format!("{}/v1/revocations?after=0", self.url);
        let answer: bootkeep_protocol::revocation::Revocations =
            self.tenant.get(&url).await.unwrap();
        let (head, _) = read_head(&self.revocation_keys(), &answer.head).unwrap();
        (head.log, head.sequence)
    }
}

/// V as it comes to a real TPM's node over a new link, while the boot is not latched.
async fn v_for(world: &World, host: &Host, enrol: bool) -> [u8; 32] {
    let node = host.attester.identity.node_id.clone();
    let urls = [world.url.clone()];
    let session = Session::open(&host.attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let served = session.serve(Some(&shares), &mut queue);
    let boot = async {
        if enrol {
            let enrolment = enrolment(world, host, [7; 32]).await;
            world.enrol(&node, &enrolment).await.unwrap();
        }
        let request = taken.recv().await.unwrap();
        let call = request.call.clone();
        request.answer(Ok(None));
        world.step(&node, "share-v-sent").await;
        drop(events);
        call
    };
    let (_, call) = tokio::join!(served, boot);
    let wrapped = Wrapped {
        encapsulated: call.encapsulated.0,
        ciphertext: call.ciphertext.0,
    };
    let share = host
        .nk
        .unwrap_share::<V>(call.nonce.as_bytes(), node.as_str(), &wrapped);
    *share.unwrap().expose()
}

/// The generation of its AK.
async fn register(world: &World, host: &Host) -> u64 {
    let client = HttpClient::new(world.node_tls.clone(), Role::Registrar);
    let registrars = [world.registrar_url.clone()];
    let Attester { identity, tpm, .. } = &host.attester;
    let activated = identity.register(tpm, &client, &registrars).await;
    activated.unwrap().generation
}

/// Registrar and verifier on a fresh machine, a software TPM that knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_unlocks_after_registrar_and_verifier_came_back() {
    let swtpm = Swtpm::certified().unwrap();
    let roots = || EkRoots::load(&swtpm.roots()).unwrap();
    let (first, second) = (roots(), roots());
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let registrar = Registrar::open(&place("registrar.db"), first)
        .await
        .unwrap();
    let mut world = World::with_registrar(registrar.router()).await;
    let host = Host::boot(swtpm).await;
    let before = register(&world, &host).await;
    assert_eq!(v_for(&world, &host, true).await, SHARE_V);

    let saved = folder.path().join("saved");
    registrar_backup::backup(&place("registrar.db"), &saved)
        .await
        .unwrap();
    let out = back_up(&world, "backup").await;
    drop(registrar);
    bring_back(&mut world, &out, &Since::default())
        .await
        .unwrap();
    registrar_backup::restore(&place("fresh.db"), &saved)
        .await
        .unwrap();
    let registrar = Registrar::open(&place("fresh.db"), second).await.unwrap();
    (world.registrar_url, _) = world.serve(Role::Registrar, registrar.router()).await;
    world.start().await;

    let mut swtpm = host.off();
    swtpm.power_cycle().unwrap();
    let host = Host::boot(swtpm).await;
    assert_eq!(register(&world, &host).await, before);
    assert_eq!(v_for(&world, &host, false).await, SHARE_V);
}

#[test]
fn what_the_owner_says_is_read() {
    let id = NodeId::of_ek_public(b"a");
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let since = |list: &[&str]| Since::new(None, Some(&words(list)));
    assert_eq!(since(&["none"]).unwrap().revoked, Some(vec![]));
    assert_eq!(
        since(&[id.as_str()]).unwrap().revoked,
        Some(vec![id.clone()])
    );
    for bad in [&["None"][..], &["none", id.as_str()], &[""]] {
        assert!(matches!(since(bad), Err(RestoreError::Id(_))), "{bad:?}");
    }
    assert_eq!(Since::new(Some(3), None).unwrap().revoked, None);
}
