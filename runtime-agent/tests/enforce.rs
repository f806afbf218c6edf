//! The enforcer through its socket, with real signatures and real actions.
#![allow(clippy::unwrap_used)]

mod enforcer;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    slice::from_ref,
    time::{Duration, Instant},
};

use bootkeep_protocol::{
    link::Outcome,
    revocation::{Action, Enforcement, RevocationsCall},
};
use bootkeep_runtime_agent::enforce::check;
use bootkeep_signed::{payload_digest, SigningKey};
use enforcer::{node_id, write, Log, Node, LOG, PATIENCE};

async fn with(prepare: impl FnOnce(&mut Node)) -> (Log, Node) {
    let log = Log::new();
    let mut node = Node::new(&log);
    prepare(&mut node);
    node.start().await;
    (log, node)
}

#[tokio::test]
async fn entries_are_held_acted_on_and_acknowledged_in_order() {
    let (mut log, node) = with(|_| {}).await;
    let empty = node.taken(&log.whole()).await;
    assert_eq!(
        (empty.sequence, empty.digest.as_slice()),
        (0, [0; 32].as_slice())
    );
    let first = log.revoke("a");
    log.add(Action::Reinstate, "a");
    let last = log.revoke("b");
    let reply = node.taken(&log.whole()).await;
    assert_eq!(
        (reply.sequence, reply.digest.as_slice()),
        (3, payload_digest(&last).as_slice())
    );
    let done: Vec<_> = reply
        .done
        .iter()
        .map(|done| (done.sequence, done.outcome))
        .collect();
    assert_eq!(
        done,
        [1, 2, 3].map(|sequence| (sequence, Enforcement::NothingToDo))
    );
    assert!(
        reply.done[0].detail.contains("1 actions done"),
        "{}",
        reply.done[0].detail
    );
    let note = |on: &str, sequence: u64, node: &str| format!("{on} {sequence} {}", node_id(node));
    let notes = [
        note("revoke", 1, "a"),
        note("reinstate", 2, "a"),
        note("revoke", 3, "b"),
    ];
    assert_eq!(node.notes(), notes);
    // Once more, and with what is known: nothing is done twice.
    let again = node.taken(&log.call(&[first])).await;
    assert_eq!(
        (again.sequence, again.done.len(), node.notes().len()),
        (3, 0, 3)
    );
    assert_eq!(
        fs::metadata(&node.settings.state).unwrap().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(&node.settings.socket).unwrap().mode() & 0o777,
        0o600
    );
    assert_eq!(node.claims(), [""; 0]);
}

#[tokio::test]
async fn what_is_forged_replayed_or_out_of_order_is_refused_and_changes_nothing() {
    let (mut log, node) = with(|_| {}).await;
    log.revoke("a");
    let old_head = log.head();
    log.later(60_000);
    log.revoke("b");
    let held = node.taken(&log.whole()).await;
    let notes = node.notes();

    let mut forger = Log::named(LOG, SigningKey::generate().unwrap());
    forger.revoke("a");
    forger.revoke("b");
    forger.revoke("victim");
    let next = log.revoke("c");
    let after = log.revoke("d");
    let mut changed = next.clone();
    let text = String::from_utf8(changed.payload.0.clone()).unwrap();
    changed.payload.0 = text
        .replace(&node_id("c").to_string(), &node_id("x").to_string())
        .into_bytes();
    let call = |head, entries: &[_]| RevocationsCall {
        head,
        entries: entries.to_vec(),
        crl: None,
    };
    // A verifier that has not read the last entry yet: no attack, and no news.
    let behind = node.taken(&call(log.head_at(1), &[])).await;
    assert_eq!((behind.sequence, behind.done.len()), (2, 0));
    assert_eq!(node.claims(), [""; 0]);
    log.later(6_000);
    let cases = [
        (
            "a forged entry",
            log.call(&forger.entries[2..]),
            "revocation-signature",
        ),
        (
            "a forged head",
            call(forger.head(), &[]),
            "revocation-signature",
        ),
        (
            "a changed entry",
            log.call(&[changed]),
            "revocation-signature",
        ),
        (
            "a head as entry",
            log.call(&[log.head()]),
            "revocation-signature",
        ),
        (
            "an entry as head",
            call(next.clone(), &[]),
            "revocation-signature",
        ),
        ("a gap", log.call(from_ref(&after)), "revocation-gap"),
        (
            "the wrong order",
            log.call(&[after, next.clone()]),
            "revocation-gap",
        ),
        (
            "more than the head says",
            call(log.head_at(2), from_ref(&next)),
            "revocation-beyond-head",
        ),
        (
            "a shorter log",
            call(log.head_at(1), &[]),
            "revocation-rolled-back",
        ),
        ("an old head", call(old_head, &[]), "revocation-stale-head"),
        ("too many", log.call(&vec![next; 65]), "revocation-too-many"),
    ];
    for (name, call, code) in cases {
        assert_eq!(node.refused(&call).await, code, "{name}");
    }
    assert_eq!(node.notes(), notes);
    let claims = node.claims();
    assert_eq!(claims.len(), 6, "{claims:?}");
    assert!(
        claims
            .iter()
            .all(|claim| claim.starts_with("revocations-refused: revocation-")),
        "{claims:?}"
    );
    let caught_up = node.taken(&log.whole()).await;
    assert_eq!((held.sequence, caught_up.sequence), (2, 4));
}

#[tokio::test]
async fn another_log_another_history_and_an_old_word_are_refused() {
    let key = SigningKey::generate().unwrap();
    let again = || SigningKey::from_pem(&key.to_pem()).unwrap();
    let mut log = Log::named(LOG, again());
    let mut node = Node::new(&log);
    node.start().await;
    log.revoke("a");
    let old = log.head();
    log.later(60_000);
    node.taken(&log.whole()).await;
    let mut other = Log::named(&"f".repeat(32), again());
    other.revoke("a");
    let mut fork = Log::named(LOG, again());
    fork.revoke("b");
    let stale = RevocationsCall {
        head: old,
        entries: Vec::new(),
        crl: None,
    };
    assert_eq!(node.refused(&other.whole()).await, "revocation-other-log");
    assert_eq!(node.refused(&fork.whole()).await, "revocation-fork");
    let true_head = log.call(&fork.entries);
    assert_eq!(node.refused(&true_head).await, "revocation-fork");
    assert_eq!(node.refused(&stale).await, "revocation-stale-head");
}

#[tokio::test]
async fn after_a_crash_between_holding_and_acting_it_acts_again() {
    let (mut log, mut node) = with(|node| {
        let first = node.at("first");
        let shell = format!("[ -e {0} ] || {{ touch {0}; sleep 30; }}", first.display());
        node.action("revoke", "revoke", &shell);
    })
    .await;
    log.revoke("a");
    let mut client = node.client().await;
    client.send(&log.whole()).await;
    while !node.at("first").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It is held already, and not acknowledged: it was not acted on.
    assert!(node.settings.state.exists());
    let meanwhile = node.taken(&log.call(&[])).await;
    assert_eq!(meanwhile.sequence, 0);
    node.crash().await;
    assert_eq!(node.notes(), [""; 0]);
    node.start().await;
    node.noted(&format!("revoke 1 {}", node_id("a"))).await;
    while node.taken(&log.call(&[])).await.sequence != 1 {}
    node.crash().await;
    node.start().await;
    assert_eq!(node.taken(&log.call(&[])).await.sequence, 1);
    assert_eq!(node.notes().len(), 1);
}

#[tokio::test]
async fn a_slow_action_does_not_hold_up_the_next_revocation() {
    let (mut log, node) = with(|node| {
        let go = node.at("go");
        node.action(
            "revoke",
            "revoke",
            &format!("while [ ! -e {} ]; do sleep 0.05; done", go.display()),
        );
    })
    .await;
    log.revoke("a");
    let mut first = node.client().await;
    first.send(&log.whole()).await;
    while !node.settings.state.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(node.taken(&log.call(&[])).await.sequence, 0);
    log.revoke("b");
    let mut second = node.client().await;
    second.send(&log.call(&log.entries[1..])).await;
    let held = || fs::read_to_string(&node.settings.state).unwrap_or_default();
    while !held().contains(&node_id("b").to_string()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(node.notes(), [""; 0]);
    fs::write(node.at("go"), "").unwrap();
    for client in [&mut first, &mut second] {
        assert!(matches!(client.outcome().await.unwrap(), Outcome::Ok(_)));
    }
    assert_eq!(node.notes().len(), 2);
}

#[tokio::test]
async fn without_a_fresh_word_the_node_closes_and_a_fresh_one_opens_it() {
    let (mut log, mut node) =
        with(|node| node.settings.fail_closed_after = Some(Duration::from_millis(1500))).await;
    log.revoke("a");
    let word = log.whole();
    node.taken(&word).await;
    // The same word again and again is not a fresh one.
    let begun = Instant::now();
    while node.notes().last().unwrap() != "stale" {
        assert!(begun.elapsed() < PATIENCE, "an old word keeps it open");
        node.taken(&word).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(node
        .claims()
        .iter()
        .any(|claim| claim.starts_with("revocations-stale: ")));
    // A restart makes nothing fresh.
    node.crash().await;
    fs::write(node.at("notes"), "").unwrap();
    node.start().await;
    node.noted("stale").await;
    log.later(3_600_000);
    node.taken(&log.call(&[])).await;
    node.noted("fresh").await;
}

#[tokio::test]
async fn a_word_is_not_fresh_while_entries_are_missing() {
    let (mut log, node) =
        with(|node| node.settings.fail_closed_after = Some(Duration::from_millis(800))).await;
    log.tick();
    log.revoke("a");
    log.revoke("b");
    let begun = Instant::now();
    while !node.notes().iter().any(|note| note == "stale") {
        assert!(begun.elapsed() < PATIENCE, "half a log keeps it open");
        assert_eq!(node.taken(&log.call(&log.entries[..1])).await.sequence, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.taken(&log.whole()).await;
    node.noted("fresh").await;
}

#[tokio::test]
async fn a_node_that_never_hears_closes_as_well() {
    let (_log, node) =
        with(|node| node.settings.fail_closed_after = Some(Duration::from_millis(500))).await;
    node.noted("stale").await;
}

#[tokio::test]
async fn a_node_that_finds_itself_revoked_acts_as_such() {
    let (mut log, mut node) = with(|_| {}).await;
    log.revoke("this");
    node.taken(&log.whole()).await;
    assert_eq!(
        node.notes(),
        [format!("self-revoked 1 {}", node_id("this"))]
    );
    assert!(node.claims()[0].starts_with("self-revoked: closed"));
    node.crash().await;
    node.start().await;
    assert!(node.claims()[0].starts_with("self-revoked: closed"));
    log.add(Action::Reinstate, "this");
    node.taken(&log.whole()).await;
    assert_eq!(node.notes()[1], format!("reinstate 2 {}", node_id("this")));
}

#[tokio::test]
async fn a_node_that_forgot_says_so_and_follows_the_log_again() {
    let (mut log, mut node) = with(|_| {}).await;
    log.revoke("a");
    log.revoke("b");
    node.taken(&log.whole()).await;
    node.crash().await;
    fs::write(&node.settings.state, "rubbish").unwrap();
    node.start().await;
    assert!(node.claims()[0].starts_with("revocations-state-lost: "));
    assert_eq!(node.taken(&log.call(&[])).await.sequence, 0);
    assert_eq!(node.taken(&log.call(&log.entries[..1])).await.sequence, 1);
    // Not caught up: another start is no way out.
    node.crash().await;
    node.start().await;
    assert!(node.claims()[0].starts_with("revocations-state-lost: "));
    assert_eq!(node.taken(&log.whole()).await.sequence, 2);
    node.crash().await;
    node.start().await;
    assert_eq!(node.claims(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_acknowledged() {
    let (mut log, node) = with(|node| node.settings.state = node.at("disk/revocations.json")).await;
    log.revoke("a");
    assert_eq!(node.refused(&log.whole()).await, "not-durable");
    fs::create_dir(node.at("disk")).unwrap();
    assert_eq!(node.taken(&log.whole()).await.sequence, 1);
}

#[tokio::test]
async fn a_failed_action_is_reported_and_does_not_stop_the_rest() {
    let (mut log, node) = with(|node| {
        node.action("00", "revoke", "exit 7");
        write(
            &node.settings.actions.join("01.yaml"),
            "on: revoke\nremove: /x\n",
            0o666,
        );
    })
    .await;
    log.revoke("a");
    let reply = node.taken(&log.whole()).await;
    let detail = &reply.done[0].detail;
    assert_eq!((reply.sequence, node.notes().len()), (1, 1));
    for part in ["1 actions done, 2 failed", "01.yaml", "00.yaml"] {
        assert!(detail.contains(part), "{detail}");
    }
    let claims = node.claims();
    assert_eq!(
        claims
            .iter()
            .filter(|claim| claim.starts_with("action-failed: "))
            .count(),
        2,
        "{claims:?}"
    );
}

#[tokio::test]
async fn hostile_clients_get_nothing_and_hold_up_nobody() {
    let (mut log, node) = with(|_| {}).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(node.client().await);
    }
    let mut client = node.client().await;
    for text in [
        "\n",
        "{}\n",
        "[[[[\n",
        "\"\u{0}\"\n",
        "{\"node_id\": \"x\", \"call\": {}}\n",
    ] {
        client.say(text.as_bytes()).await;
        let Some(Outcome::Refused(problem)) = client.outcome().await else {
            panic!("{text}")
        };
        assert_eq!(problem.code, "malformed");
    }
    client.say(&vec![b'['; 200_000]).await;
    client.say(b"\n").await;
    assert!(matches!(client.outcome().await, Some(Outcome::Refused(_))));
    // The one that was served still is.
    assert!(matches!(client.tell(&log.whole()).await, Outcome::Ok(_)));

    let mut huge = node.client().await;
    huge.say(&vec![b' '; 4 * 1024 * 1024 + 1]).await;
    let Some(Outcome::Refused(problem)) = huge.outcome().await else {
        panic!()
    };
    assert_eq!(problem.code, "too-large");
    assert_eq!(huge.outcome().await, None);
    for _ in 0..300 {
        drop(node.client().await);
    }
    log.revoke("a");
    assert_eq!(node.taken(&log.whole()).await.sequence, 1);
}

/// Run as another user by the test after it, to knock at the socket.
#[test]
fn knock() {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };
    let Some(socket) = std::env::var_os("KNOCK_AT") else {
        return;
    };
    let mut stream = UnixStream::connect(socket).unwrap();
    let _ = stream.write_all(b"{}\n");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert_eq!(answer, "");
}

#[tokio::test]
async fn another_user_is_not_heard_even_where_the_file_lets_it_in() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root, to become another user"
    );
    let (_log, node) = with(|_| {}).await;
    for (path, mode) in [(node.folder.path(), 0o755), (&node.settings.socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let program = node.at("knock");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let socket = node.settings.socket.clone();
    let knock = move |user: u32| {
        std::process::Command::new(&program)
            .args(["--exact", "knock"])
            .env("KNOCK_AT", &socket)
            .uid(user)
            .gid(user)
            .output()
            .unwrap()
    };
    let (other, root) = tokio::task::spawn_blocking(move || (knock(65534), knock(0)))
        .await
        .unwrap();
    assert!(other.status.success(), "{other:?}");
    // The same knock by root is answered: the test can fail.
    assert!(!root.status.success(), "{root:?}");
}

#[tokio::test]
async fn check_names_what_is_bad() {
    let log = Log::new();
    let node = Node::new(&log);
    let bad = |node: &Node| {
        let findings = check::files(&node.settings);
        findings
            .into_iter()
            .filter(check::Finding::is_bad)
            .map(|f| f.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(bad(&node), [""; 0]);
    fs::write(&node.settings.keys, "rubbish").unwrap();
    fs::write(&node.settings.ipsec, "group: [").unwrap();
    write(&node.settings.actions.join("x.yaml"), "on: revoke\n", 0o644);
    let found = bad(&node);
    assert_eq!(found.len(), 3, "{found:?}");
    for (finding, part) in found.iter().zip(["revocation.pem", "ipsec.yaml", "x.yaml"]) {
        assert!(
            finding.starts_with("BAD") && finding.contains(part),
            "{finding}"
        );
    }
}
