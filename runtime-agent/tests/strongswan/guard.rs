//! As at boot, before there is a network: no charon, no daemon, no interface that is up. The group is guarded by then.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bootkeep_pki::node::NodeAuthority;

use crate::{
    enforcer::{node_id, Log},
    inside::{self, run},
    node::{enforce, folders, Identity},
    PATIENCE,
};

#[test]
#[ignore = "needs root, run by xtask"]
fn the_guard_is_set_before_anybody_else_is_up() {
    inside::again("guard::the_guard_is_set_before_anybody_else_is_up", story);
}

fn write_node(folder: &Path) {
    let authority = NodeAuthority::generate("nodes").unwrap();
    let own = Identity::new(&authority, &node_id("1"));
    let etc = folder.join("etc/bootkeep");
    for (name, text) in [
        ("identity/certificate.pem", own.certificate.as_str()),
        ("identity/chain.pem", own.chain.as_str()),
        ("identity/key.pem", own.key.as_str()),
        ("ipsec.yaml", "group: web\nnetworks: [10.77.0.0/24]\n"),
        (
            "agent.yaml",
            "registrar: [https://r]\nverifier: [https://v]\nrevocation: {}\n",
        ),
    ] {
        fs::write(etc.join(name), text).unwrap();
    }
}

/// The kernel's policies that block the whole group.
fn guards() -> bool {
    let policies = run(&["ip", "-n", "boot", "xfrm", "policy"]);
    let blocks = |line: &str| line.contains("action block priority 2147418114");
    policies.contains("10.77.0.0/24") && policies.lines().any(blocks)
}

fn story() {
    fs::create_dir("/run/netns").unwrap();
    run(&["ip", "netns", "add", "boot"]);
    let root = tempfile::tempdir().unwrap();
    let folder = folders(root.path(), "boot");
    write_node(&folder);
    assert!(!guards());

    // Without the keys of the log it cannot work, and says so; the guard is there.
    let mut failed = enforce("boot", &folder);
    assert!(!failed.wait().unwrap().success());
    assert!(guards());
    run(&["ip", "-n", "boot", "xfrm", "policy", "flush"]);
    assert!(!guards());

    let keys = folder.join("etc/bootkeep/revocation.pem");
    fs::write(keys, Log::new().public).unwrap();
    let mut enforcer = enforce("boot", &folder);
    let begun = Instant::now();
    // Its socket comes with the word to systemd that it is up: then the network may come.
    while !folder.join("run/bootkeep-enforce/socket").exists() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(guards());
    enforcer.kill().unwrap();
    enforcer.wait().unwrap();
    assert!(guards());
}
