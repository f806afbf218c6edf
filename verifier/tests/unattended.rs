//! Nodes that keep their U: V is made anew at each boot, and no power cut parts the halves.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/fleet_policies.rs"]
mod fleet_policies;

use std::time::Duration;

use bootkeep_protocol::{
    kept::{KeepCall, MAX_KEPT_SHARES},
    link::{Call, Event, Reply},
    policy::PolicySource,
    verifier::{NodeStatus, RevokeRequest, State},
    Phase, ShareId,
};
use common::{
    code,
    keeper::{latch, pcr_policy, running_with, unattended, Boot, Keeper, Owner},
    machine::Machine,
    node::{Answer, Node},
    policies, World,
};
use fleet_policies::{boot_object, runtime_object};

/// Long enough for a verifier that wants to do something to do it.
const SOON: Duration = Duration::from_millis(300);

async fn connect(world: &World, machine: &Machine) -> Node {
    Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap()
}

async fn unattended_status(world: &World, machine: &Machine) -> (bool, bool) {
    let status = world.status(&machine.node).await.unattended.unwrap();
    (status.staged, status.kept_at_ms.is_some())
}

/// Rows of the K sets and shares: number, boots; share ids.
async fn stored(world: &World) -> (Vec<(i64, i64)>, Vec<String>) {
    let pool = sqlx::AnyPool::connect(&world.database_url).await.unwrap();
    let sets = sqlx::query_as("SELECT number, boots FROM key_sets ORDER BY number");
    let shares = sqlx::query_as("SELECT share_id FROM key_shares ORDER BY number, ordinal");
    let sets = sets.fetch_all(&pool).await.unwrap();
    let shares: Vec<(String,)> = shares.fetch_all(&pool).await.unwrap();
    pool.close().await;
    (sets, shares.into_iter().map(|(id,)| id).collect())
}

#[tokio::test]
async fn each_boot_makes_both_halves_anew() {
    let world = World::new().await;
    let mut machine = Machine::booted("node");
    world.register(&machine, 1);
    let (enrolment, owner) = unattended(&machine, false);
    world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!(unattended_status(&world, &machine).await, (false, false));
    let mut keeper = Keeper::default();

    // The first boot is the tenant's.
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert!(boot.opened.is_none());
    let [set] = boot.kept().sets.as_slice() else {
        panic!()
    };
    assert_eq!(
        set.shares.iter().map(|s| s.id).collect::<Vec<_>>(),
        [owner.id]
    );
    assert_eq!(
        set.authorities,
        enrolment.unattended.as_ref().unwrap().authorities
    );
    assert_eq!(boot.kept().policies, [pcr_policy(1)]);
    let boot = boot.with_tenant(&owner);
    let mut id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    assert!(world
        .step(&machine.node, "share-kept")
        .await
        .contains(&id.to_string()));
    assert_eq!(unattended_status(&world, &machine).await, (false, true));
    drop(boot);

    // Each further one is nobody's.
    for _ in 0..3 {
        let boot = Boot::begin(&world, &mut machine, &keeper).await;
        assert_eq!(boot.opened.as_ref().unwrap().id, id);
        assert_eq!(
            boot.opened.as_ref().unwrap().key.expose(),
            owner.key.expose()
        );
        let next = boot.acknowledge(&mut keeper).await;
        assert_ne!(next, id);
        world.keeps(&machine, &[next]).await;
        assert_eq!(stored(&world).await.1, [next.to_string()]);
        id = next;
        let running = boot.run(&machine).await;
        let node = connect(&world, &running).await;
        world.until(&machine.node, State::Trusted).await;
        node.close().await;
    }
    assert!(world.metrics().await.contains("shares_kept_total 4"));
}

/// What was in the database before: sealed, and not even that is left.
#[tokio::test]
async fn an_old_v_leaves_no_trace_in_the_database() {
    let mut world = World::new().await;
    let (mut machine, _, _, mut keeper) = world.keeping("node").await;
    let pool = sqlx::AnyPool::connect(&world.database_url).await.unwrap();
    let (old,): (String,) = sqlx::query_as("SELECT share_v FROM key_shares")
        .fetch_one(&pool)
        .await
        .unwrap();
    pool.close().await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    drop(boot);
    let verifier = world.verifier().clone();
    world.stop();
    verifier.close().await;
    drop(verifier);
    // The last connection writes the log back and removes it.
    let log = world.folder.path().join("verifier.db-wal");
    while log.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for name in std::fs::read_dir(world.folder.path()).unwrap() {
        let path = name.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(old.len())
            .any(|window| window == old.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

/// Between any two writes: the verifier ends as in a crash, or the node loses its power.
#[tokio::test]
async fn whatever_is_cut_the_next_boot_opens() {
    let mut world = World::new().await;
    let (mut machine, _, owner, mut keeper) = world.keeping("node").await;
    let k = *owner.key.expose();
    let opens = |boot: &Boot| assert_eq!(boot.opened.as_ref().unwrap().key.expose(), &k);

    // V' is durable and nothing was written on the node; then the verifier ends.
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    opens(&boot);
    world.start().await;
    assert_eq!(world.splits(&machine).await.len(), 2);

    // The node's next U is in its TPM, the acknowledgement is lost with its power.
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    opens(&boot);
    let unacknowledged = boot.renew(&mut keeper);
    drop(boot);
    assert_eq!(world.splits(&machine).await.len(), 3);

    // The same, and the verifier ends, too.
    world.start().await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    opens(&boot);
    assert!(keeper.holds(&unacknowledged));

    // At last it is acknowledged; the verifier ends right behind it.
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    world.start().await;
    world.keeps(&machine, &[id]).await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    opens(&boot);
}

#[tokio::test]
async fn shares_that_nobody_acknowledges_are_bounded() {
    let world = World::new().await;
    let (mut machine, _, _, mut keeper) = world.keeping("node").await;
    let mut last = None;
    for n in 2..=MAX_KEPT_SHARES + 3 {
        let boot = Boot::begin(&world, &mut machine, &keeper).await;
        assert!(boot.opened.is_some(), "{n}");
        let id = boot.renew(&mut keeper);
        assert_eq!(world.splits(&machine).await.len(), n.min(MAX_KEPT_SHARES));
        if n > MAX_KEPT_SHARES {
            assert_eq!(last, Some(id), "the newest serves again");
            let set = &boot.kept().sets[0];
            assert_eq!(set.shares.len(), MAX_KEPT_SHARES);
            assert!(set.shares.iter().any(|share| share.id == id));
        }
        last = Some(id);
    }
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
}

#[tokio::test]
async fn an_acknowledgement_counts_only_where_v_was_sent() {
    let world = World::new().await;
    let (mut machine, _, _, keeper) = world.keeping("node").await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    let held = world.splits(&machine).await;
    assert_eq!(held.len(), 2);
    let refused = |n: u64| format!("refusals_total{{code=\"share-kept\"}} {n}");

    // A split the verifier does not know.
    let unknown = ShareId::fresh().unwrap();
    boot.node.event(Event::ShareKept { id: unknown }).await;
    world.counted(&refused(1)).await;

    // The running system: its initramfs is over.
    let running = running_with(&machine, &boot.opened.as_ref().unwrap().key);
    let node = connect(&world, &running).await;
    node.event(Event::ShareKept { id: held[0] }).await;
    world.counted(&refused(2)).await;
    node.close().await;
    boot.node.close().await;

    // Another system, which is not appraised and so got no V, but knows the ids.
    machine.boot(b"init=/bin/sh");
    let node = connect(&world, &machine).await;
    node.event(Event::ShareKept { id: held[0] }).await;
    world.counted(&refused(3)).await;
    world.until(&machine.node, State::Untrusted).await;
    assert_eq!(world.splits(&machine).await, held);
    assert_eq!(stored(&world).await.1.len(), 2);
    drop(node);

    // Twice the same is no fault, and what was dropped stays dropped.
    let (mut machine, _, _, mut keeper) = world.keeping("another").await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    let before = boot.opened.as_ref().unwrap().id;
    let id = boot.acknowledge(&mut keeper).await;
    boot.node.event(Event::ShareKept { id }).await;
    boot.node.event(Event::ShareKept { id: before }).await;
    world.counted(&refused(4)).await;
    world.keeps(&machine, &[id]).await;
}

/// A node that runs, trusted, under the K it keeps; its machines in the initramfs and running.
async fn trusted(world: &World, name: &str) -> (Machine, Machine, Node, Owner, Keeper) {
    let (mut machine, _, owner, mut keeper) = world.keeping(name).await;
    let boot = Boot::begin(world, &mut machine, &keeper).await;
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    let running = boot.run(&machine).await;
    let node = connect(world, &running).await;
    world.until(&machine.node, State::Trusted).await;
    (machine, running, node, owner, keeper)
}

#[tokio::test]
async fn a_staged_k_begins_with_the_next_boot() {
    let mut world = World::new().await;
    let (mut machine, _, node, old, mut keeper) = trusted(&world, "node").await;
    let (mut enrolment, new) = unattended(&machine, true);
    enrolment.label = "rotated".into();
    let kept = world.splits(&machine).await;
    let status = world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!(
        (status.state, status.label.as_str()),
        (State::Trusted, "rotated")
    );
    assert_eq!(unattended_status(&world, &machine).await, (true, true));
    assert_eq!(world.splits(&machine).await, [new.id, kept[0]]);
    // The same again changes nothing.
    world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!(stored(&world).await.0, [(1, 1), (2, 1)]);

    // The running system shows the old latch and stays trusted, also after a restart of the verifier.
    node.run_file("/usr/bin/true", b"true").await;
    let running = node.machine.lock().unwrap().clone();
    while world.status(&machine.node).await.ima_entries < 3 {}
    node.close().await;
    world.start().await;
    let node = connect(&world, &running).await;
    node.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.attestations < 3 {}
    assert_eq!(world.status(&machine.node).await.state, State::Trusted);
    node.close().await;

    // Its U never came: the next boot still uses the old K, and both stay.
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert_eq!(boot.opened.as_ref().unwrap().key.expose(), old.key.expose());
    let id = boot.acknowledge(&mut keeper).await;
    let next = boot.kept().sets[0].next.id;
    world.keeps(&machine, &[next, new.id, id]).await;
    let running = boot.run(&machine).await;
    let node = connect(&world, &running).await;
    world.until(&machine.node, State::Trusted).await;
    node.close().await;

    // It came: the new K opens. Until that is acknowledged, the old one stays.
    keeper.stage(&new);
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert_eq!(boot.opened.as_ref().unwrap().key.expose(), new.key.expose());
    drop(boot);
    world.start().await;
    assert_eq!(stored(&world).await.0, [(1, 1), (2, 1)]);
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    assert_eq!(stored(&world).await.0, [(2, 1)]);
    assert_eq!(unattended_status(&world, &machine).await, (false, true));

    // Now the running system shows the new latch, and no other.
    let boot_of_old_k = running_with(&machine, &old.key);
    let running = boot.run(&machine).await;
    let node = connect(&world, &running).await;
    world.until(&machine.node, State::Trusted).await;
    node.close().await;
    let _node = connect(&world, &boot_of_old_k).await;
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "latch-value");
}

/// While two K may boot, a boot shows one of them and cannot change its mind.
#[tokio::test]
async fn a_boot_shows_one_latch() {
    let world = World::new().await;
    let (machine, _, node, old, _) = trusted(&world, "node").await;
    let (enrolment, new) = unattended(&machine, true);
    world.enrol(&machine.node, &enrolment).await.unwrap();
    node.close().await;
    let running = running_with(&machine, &old.key);
    let node = connect(&world, &running).await;
    node.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.ima_entries < 3 {}
    node.close().await;
    let _node = connect(&world, &running_with(&machine, &new.key)).await;
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "latch-value");
}

#[tokio::test]
async fn a_k_is_staged_only_for_a_node_that_runs_with_one() {
    let world = World::new().await;
    // Attended.
    let (machine, _) = world.enrolled("attended").await;
    let (staged, _) = unattended(&machine, true);
    assert_eq!(
        code(world.enrol(&machine.node, &staged).await),
        "not-trusted"
    );
    // Not there yet.
    let (machine, _, _, _) = world.keeping("waiting").await;
    let (staged, _) = unattended(&machine, true);
    assert_eq!(
        code(world.enrol(&machine.node, &staged).await),
        "not-trusted"
    );
    // With other policies.
    let (machine, _, _node, _, _) = trusted(&world, "trusted").await;
    let (mut staged, _) = unattended(&machine, true);
    let (boot, _) = policies(&machine);
    world.put_policy(&boot_object(1, &boot)).await.unwrap();
    staged.boot_policy = PolicySource::Named("base".into());
    let refused = world.enrol(&machine.node, &staged).await;
    assert_eq!(code(refused), "staged-changes-policy");
    // One is staged and was sent: which of the two the node uses is not known until it has acknowledged one.
    let (mut machine, _, node, _, keeper) = trusted(&world, "staged").await;
    let (staged, _) = unattended(&machine, true);
    world.enrol(&machine.node, &staged).await.unwrap();
    node.close().await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    let running = boot.run(&machine).await;
    let _node = connect(&world, &running).await;
    world.until(&machine.node, State::Trusted).await;
    let (another, _) = unattended(&machine, true);
    assert_eq!(
        code(world.enrol(&machine.node, &another).await),
        "boot-first"
    );
    // An attended running node has no K beside which one could be staged.
    let (machine, _) = world.enrolled("running").await;
    let mut node = connect(&world, &machine).await;
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    let _node = connect(&world, &common::node::running(&machine)).await;
    world.until(&machine.node, State::Trusted).await;
    let (staged, _) = unattended(&machine, true);
    assert_eq!(
        code(world.enrol(&machine.node, &staged).await),
        "not-unattended"
    );
}

#[tokio::test]
async fn a_new_enrolment_keeps_the_old_k_until_the_node_has_the_new_one() {
    let mut world = World::new().await;
    let (mut machine, _, _, mut keeper) = world.keeping("node").await;
    let (enrolment, new) = unattended(&machine, false);
    let status = world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!(status.state, State::Waiting);
    assert_eq!(unattended_status(&world, &machine).await, (false, false));
    assert_eq!(stored(&world).await.0, [(1, 0), (2, 1)]);
    // Not even the node can make it boot with the old one; but it learns that K, to find the volume's present key.
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert!(boot.opened.is_none());
    let older = &boot.kept().sets[1];
    assert!(!older.boots);
    assert!(older
        .shares
        .iter()
        .any(|share| share.id == older.next.id && keeper.holds(&share.id)));
    boot.node
        .event(Event::ShareKept { id: older.next.id })
        .await;
    world.counted("refusals_total{code=\"share-kept\"} 1").await;
    let attended = common::enrolment(&machine);
    let refused = world.enrol(&machine.node, &attended).await;
    assert_eq!(code(refused), "keeps-its-u");
    drop(boot);
    // The tenant's half was lost, so it makes a third K: either of the others may be what the volume needs.
    let (third, new) = {
        drop(new);
        unattended(&machine, false)
    };
    world.enrol(&machine.node, &third).await.unwrap();
    world.start().await;
    assert_eq!(stored(&world).await.0, [(1, 0), (2, 0), (3, 1)]);

    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert_eq!(boot.kept().sets.len(), 3);
    let boot = boot.with_tenant(&new);
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    assert_eq!(stored(&world).await.0, [(3, 1)]);
    drop(boot);
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert_eq!(boot.opened.unwrap().key.expose(), new.key.expose());
}

/// The tenant signs PCR policies once it has seen the boot: the same K, enrolled again with more to say.
#[tokio::test]
async fn pcr_policies_come_later_and_v_is_sent_again() {
    let world = World::new().await;
    let mut machine = Machine::booted("node");
    world.register(&machine, 1);
    let (mut enrolment, owner) = unattended(&machine, false);
    enrolment.unattended.as_mut().unwrap().pcr_policies.clear();
    world.enrol(&machine.node, &enrolment).await.unwrap();
    let mut keeper = Keeper::default();
    let mut boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert_eq!(boot.kept().policies, []);
    enrolment.unattended.as_mut().unwrap().pcr_policies = vec![pcr_policy(7)];
    world.enrol(&machine.node, &enrolment).await.unwrap();
    boot.call = boot.node.share().await;
    assert_eq!(boot.kept().policies, [pcr_policy(7)]);
    assert_eq!(stored(&world).await.0, [(1, 1)]);
    let boot = boot.with_tenant(&owner);
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;

    // The id stands for this K and no other, also when its V is gone.
    let mut other = enrolment.clone();
    other.envelope = b"another K's".as_slice().into();
    assert_eq!(
        code(world.enrol(&machine.node, &other).await),
        "share-id-used"
    );
    let (mut fresh, _) = unattended(&machine, false);
    fresh.unattended.as_mut().unwrap().share_id = id;
    assert_eq!(
        code(world.enrol(&machine.node, &fresh).await),
        "share-id-used"
    );
    enrolment.label = "renamed".into();
    world.enrol(&machine.node, &enrolment).await.unwrap();
    world.keeps(&machine, &[id]).await;
    assert_eq!(unattended_status(&world, &machine).await, (false, true));

    // While the V is there, it must be the same.
    let (enrolment, _) = unattended(&machine, false);
    world.enrol(&machine.node, &enrolment).await.unwrap();
    let mut other = enrolment.clone();
    other.share_v = vec![3; 32].into();
    assert_eq!(
        code(world.enrol(&machine.node, &other).await),
        "share-id-used"
    );
}

/// A node that has latched with the V it had is asked again: that is no second request.
#[tokio::test]
async fn a_boot_that_has_gone_on_is_not_blamed() {
    let world = World::new().await;
    let (mut machine, mut enrolment, _, mut keeper) = world.keeping("node").await;
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    boot.acknowledge(&mut keeper).await;
    let key = boot.opened.as_ref().unwrap().key.clone();
    let asked = boot.node.nonces.lock().unwrap().len();
    boot.node.machine.lock().unwrap().extend(15, &latch(&key));
    enrolment.unattended.as_mut().unwrap().pcr_policies = vec![pcr_policy(9)];
    world.enrol(&machine.node, &enrolment).await.unwrap();
    while boot.node.nonces.lock().unwrap().len() == asked {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(SOON).await;
    assert_ne!(world.status(&machine.node).await.state, State::Untrusted);
    let mut node = boot.node;
    assert!(!node.has_share());
    // Somebody else who asks after the latch is refused as ever.
    machine.extend(15, &latch(&key));
    let refused = Node::connect(&world.node_tls, &world.url, &machine).await;
    assert_eq!(refused.err().unwrap().code, "latched");
}

#[tokio::test]
async fn pcr_policies_of_the_boot_policy_come_and_go() {
    let world = World::new().await;
    let mut machine = Machine::booted("node");
    world.register(&machine, 1);
    let (boot_policy, runtime) = policies(&machine);
    let generation = |number, byte| {
        let mut object = boot_object(number, &boot_policy);
        object.pcr_policies = vec![pcr_policy(byte)];
        object
    };
    world.put_policy(&generation(1, 11)).await.unwrap();
    world
        .put_policy(&runtime_object(1, &runtime))
        .await
        .unwrap();
    let (mut enrolment, _) = unattended(&machine, false);
    enrolment.boot_policy = PolicySource::Named("base".into());
    world.enrol(&machine.node, &enrolment).await.unwrap();
    let mut boot = Boot::begin(&world, &mut machine, &Keeper::default()).await;
    assert_eq!(boot.kept().policies, [pcr_policy(1), pcr_policy(11)]);
    // The node waits since none of them fits: it hears of the next at once.
    world.put_policy(&generation(2, 12)).await.unwrap();
    boot.call = boot.node.share().await;
    assert_eq!(
        boot.kept().policies,
        [pcr_policy(1), pcr_policy(12), pcr_policy(11)]
    );
    // A retired one opens nothing any more.
    world.retire(&generation(1, 11)).await.unwrap();
    boot.call = boot.node.share().await;
    assert_eq!(boot.kept().policies, [pcr_policy(1), pcr_policy(12)]);
    assert_eq!(world.status(&machine.node).await.state, State::BootTrusted);
}

/// A link that opens but brings no V.
async fn no_v(world: &World, machine: &Machine) {
    match Node::connect(&world.node_tls, &world.url, machine).await {
        Err(_) => {}
        Ok(mut node) => {
            tokio::time::sleep(SOON).await;
            assert!(!node.has_share());
        }
    }
}

#[tokio::test]
async fn revoked_untrusted_and_forgotten_nodes_stay_locked() {
    let mut world = World::new().await;
    // The tenant's word: every V is gone.
    let (mut machine, enrolment, _, _) = world.keeping("revoked").await;
    let url = format!("{}/revoke", world.node_url(&machine.node));
    let revoke = RevokeRequest {
        reason: "stolen".into(),
    };
    let _: NodeStatus = world.tenant.post(&url, &revoke).await.unwrap();
    assert_eq!(stored(&world).await, (vec![], vec![]));
    assert_eq!(world.splits(&machine).await, []);
    machine.boot(b"quiet");
    no_v(&world, &machine).await;
    world.start().await;
    no_v(&world, &machine).await;
    assert_eq!(world.status(&machine.node).await.unattended, None);
    // Enrolled anew it starts as any other.
    let (again, _) = unattended(&machine, false);
    assert_ne!(again.envelope, enrolment.envelope);
    world.enrol(&machine.node, &again).await.unwrap();
    assert_eq!(stored(&world).await.0, [(1, 1)]);

    // Evidence that was refused: V stays, and stays here.
    let (mut machine, _, _, _) = world.keeping("untrusted").await;
    machine.boot(b"init=/bin/sh");
    let _node = connect(&world, &machine).await;
    world.until(&machine.node, State::Untrusted).await;
    machine.boot(b"quiet");
    no_v(&world, &machine).await;
    assert_eq!(world.splits(&machine).await.len(), 1);

    let (mut machine, _, _, _) = world.keeping("forgotten").await;
    world
        .tenant
        .delete(&world.node_url(&machine.node))
        .await
        .unwrap();
    machine.boot(b"quiet");
    no_v(&world, &machine).await;
    let (_, shares) = stored(&world).await;
    assert_eq!(shares.len(), 2, "of the two nodes above");
}

/// What another verifier has stored while this one was waiting for the quote.
#[tokio::test]
async fn the_database_has_the_last_word() {
    for change in [
        "UPDATE nodes SET enrolment = replace(enrolment, '\"digest\":\"', '\"digest\":\"0')",
        "UPDATE nodes SET trust = replace(trust, '{\"verdict\":\"waiting\"}', '{\"verdict\":\"revoked\"}')",
        "DELETE FROM key_sets",
        "DELETE FROM nodes",
    ] {
        let world = World::new().await;
        let (mut machine, _, _, _) = world.keeping("node").await;
        machine.boot(b"quiet");
        let url = world.database_url.clone();
        let answer: Answer = Box::new(move |machine, call, exporter| {
            let url = url.clone();
            let thread = std::thread::spawn(move || execute(&url, change));
            assert_eq!(thread.join().unwrap(), 1, "{change}");
            Some(machine.evidence(call, exporter))
        });
        let node = Node::connect_with(&world.node_tls, &world.url, &machine, answer).await;
        let mut node = node.unwrap();
        while node.nonces.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(SOON).await;
        assert!(!node.has_share(), "{change}");
    }
}

/// Executes a statement; how many rows it changed.
fn execute(url: &str, statement: &str) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = sqlx::AnyPool::connect(url).await.unwrap();
        let done = sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
        done.rows_affected()
    })
}

#[tokio::test]
async fn another_tpm_gets_nothing() {
    let world = World::new().await;
    let (mut machine, _, _, _) = world.keeping("node").await;
    // The same machine with a cleared TPM: the EK is the same, the AK is not.
    let mut cleared = Machine::booted("node");
    assert_eq!(cleared.node, machine.node);
    cleared.clock.reset_count = machine.clock.reset_count;
    cleared.boot(b"quiet");
    world.register(&cleared, 2);
    let refused = Node::connect(&world.node_tls, &world.url, &cleared).await;
    assert_eq!(refused.err().unwrap().code, "other-ak");
    // Its disk in another machine: another EK, another node.
    let other = Machine::booted("other");
    world.register(&other, 1);
    no_v(&world, &other).await;
    world.register(&machine, 1);
    machine.boot(b"quiet");
    let mut node = connect(&world, &machine).await;
    node.share().await;
}

#[tokio::test]
async fn a_u_to_keep_is_passed_on_for_a_staged_k_only() {
    let world = World::new().await;
    let (machine, _, node, _, _) = trusted(&world, "node").await;
    let keep = |id| {
        Call::Keep(KeepCall {
            id,
            nonce: [1; 32].into(),
            encapsulated: vec![1; 32].into(),
            ciphertext: vec![1; 48].into(),
        })
    };
    let relay = |phase, call| world.relay(&machine.node, phase, call);
    let current = world.splits(&machine).await[0];
    assert_eq!(
        code(relay(Phase::Runtime, keep(current)).await),
        "not-staged"
    );
    let (enrolment, new) = unattended(&machine, true);
    world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!(
        code(relay(Phase::Runtime, keep(current)).await),
        "not-staged"
    );
    assert_eq!(
        code(relay(Phase::Initramfs, keep(new.id)).await),
        "not-trusted"
    );
    let reply = relay(Phase::Runtime, keep(new.id)).await.unwrap();
    assert_eq!(reply, Reply::Keep {});
    let mut long = keep(new.id);
    if let Call::Keep(call) = &mut long {
        call.ciphertext = vec![1; 257].into();
    }
    assert_eq!(code(relay(Phase::Runtime, long).await), "too-large");
    node.run_file("/usr/bin/evil", b"evil").await;
    world.until(&machine.node, State::Untrusted).await;
    assert_eq!(
        code(relay(Phase::Runtime, keep(new.id)).await),
        "not-trusted"
    );
}

#[tokio::test]
async fn enrolments_are_checked() {
    let world = World::new().await;
    let machine = Machine::booted("node");
    world.register(&machine, 1);
    type Change = fn(&mut bootkeep_protocol::verifier::Enrolment);
    let bad: [(&str, Change); 6] = [
        ("policies", |e| {
            e.unattended.as_mut().unwrap().pcr_policies = vec![pcr_policy(1); 65]
        }),
        ("policy", |e| {
            e.unattended.as_mut().unwrap().pcr_policies[0].pcrs.clear()
        }),
        ("authorities", |e| {
            e.unattended.as_mut().unwrap().authorities.clear()
        }),
        ("public", |e| {
            e.unattended.as_mut().unwrap().authorities[0].public = vec![1; 1025].into()
        }),
        ("reference", |e| {
            e.unattended.as_mut().unwrap().authorities[0].policy_ref = vec![1; 65].into()
        }),
        ("envelope", |e| e.envelope = vec![1; 1024 * 1024 + 1].into()),
    ];
    for (name, change) in bad {
        let (mut enrolment, _) = unattended(&machine, false);
        change(&mut enrolment);
        assert_eq!(
            code(world.enrol(&machine.node, &enrolment).await),
            "bad-enrolment",
            "{name}"
        );
    }
    assert_eq!(stored(&world).await, (vec![], vec![]));
}
