//! The kernel's policies and states, seen by `ip xfrm`.

use std::process::Command;

use bootkeep_ipsec::kernel::{Kernel, Wanted};

use crate::inside::{self, in_namespace, run};

fn two_hosts() {
    std::fs::create_dir("/run/netns").unwrap();
    run(&["ip", "netns", "add", "a"]);
    run(&["ip", "netns", "add", "b"]);
    run(&[
        "ip", "-n", "a", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
        "b",
    ]);
    for (name, number) in [("a", "1"), ("b", "2")] {
        for address in [format!("10.9.0.{number}/24"), format!("fd09::{number}/64")] {
            run(&[
                "ip", "-n", name, "addr", "add", &address, "dev", "eth0", "nodad",
            ]);
        }
        run(&["ip", "-n", name, "link", "set", "eth0", "up"]);
    }
}

fn pings(address: &str) -> bool {
    let ping = ["netns", "exec", "b", "ping", "-c1", "-W1", address];
    Command::new("ip")
        .args(ping)
        .output()
        .unwrap()
        .status
        .success()
}

fn policies() -> String {
    run(&["ip", "-n", "a", "xfrm", "policy"])
}

fn apply(wanted: &Wanted) -> bootkeep_ipsec::kernel::Changes {
    in_namespace("a", || Kernel.apply(wanted).unwrap())
}

fn nodes(list: &[&str]) -> Wanted {
    Wanted {
        nodes: list.iter().map(|net| net.parse().unwrap()).collect(),
        ..Wanted::default()
    }
}

#[test]
#[ignore = "needs root, run by xtask"]
fn the_kernel_blocks_what_it_should_and_nothing_else() {
    inside::again(
        "kernel::the_kernel_blocks_what_it_should_and_nothing_else",
        || {
            two_hosts();
            assert!(pings("10.9.0.1") && pings("fd09::1"));
            // As charon would have it: the same selector but for the field that is ours.
            for direction in ["in", "out"] {
                run(&[
                    "ip",
                    "-n",
                    "a",
                    "xfrm",
                    "policy",
                    "add",
                    "src",
                    "0.0.0.0/0",
                    "dst",
                    "10.9.0.2/32",
                    "dir",
                    direction,
                    "priority",
                    "375423",
                    "action",
                    "allow",
                ]);
            }
            let theirs = policies();
            let blocked = nodes(&["10.9.0.2/32", "fd09::2/128"]);
            assert_eq!(apply(&blocked).added, 8);
            assert_eq!(apply(&blocked), Default::default());
            println!("{}", policies());
            assert!(
                policies().contains("375423"),
                "charon's policy was replaced"
            );
            assert!(!pings("10.9.0.1") && !pings("fd09::1"));
            assert_eq!(
                in_namespace("a", || Kernel.blocked().unwrap()),
                blocked.nodes
            );
            assert_eq!(apply(&nodes(&["fd09::2/128"])).removed, 4);
            assert!(pings("10.9.0.1") && !pings("fd09::1"));
            assert_eq!(apply(&Wanted::default()).removed, 4);
            assert!(pings("10.9.0.1") && pings("fd09::1"));
            assert_eq!(policies(), theirs);
        },
    );
}

#[test]
#[ignore = "needs root, run by xtask"]
fn a_blocked_group_leaves_its_exceptions() {
    inside::again("kernel::a_blocked_group_leaves_its_exceptions", || {
        two_hosts();
        let text = b"group: g\nnetworks: [10.9.0.0/24, 'fd09::/64']\n\
            clear: [{ network: 10.9.0.2 }, { network: 'fd09::2', protocol: tcp, port: 80 }]";
        let config = bootkeep_ipsec::Config::parse(text).unwrap();
        let wanted = Wanted {
            group: config.members().into_iter().collect(),
            clear: config.clear.clone(),
            ..Wanted::default()
        };
        apply(&wanted);
        assert!(pings("10.9.0.1"), "an exception is cut off: {}", policies());
        assert!(!pings("fd09::1"), "only TCP is an exception");
        let and_revoked = Wanted {
            nodes: nodes(&["10.9.0.2/32"]).nodes,
            ..wanted.clone()
        };
        apply(&and_revoked);
        assert!(!pings("10.9.0.1"), "a revoked node passes as an exception");
        apply(&wanted);
        assert!(pings("10.9.0.1"));
    });
}

#[test]
#[ignore = "needs root, run by xtask"]
fn states_of_a_blocked_address_are_removed_and_others_stay() {
    inside::again(
        "kernel::states_of_a_blocked_address_are_removed_and_others_stay",
        || {
            two_hosts();
            // Larval states: they need no ESP in the kernel.
            for (source, destination) in [
                ("10.9.0.2", "10.9.0.1"),
                ("10.9.0.1", "10.9.0.2"),
                ("10.9.0.3", "10.9.0.1"),
                ("fd09::2", "fd09::1"),
            ] {
                run(&[
                    "ip",
                    "-n",
                    "a",
                    "xfrm",
                    "state",
                    "allocspi",
                    "src",
                    source,
                    "dst",
                    destination,
                    "proto",
                    "esp",
                    "mode",
                    "transport",
                ]);
            }
            assert_eq!(in_namespace("a", || Kernel.states().unwrap()).len(), 4);
            assert_eq!(apply(&nodes(&["10.9.0.2/32"])).states, 2);
            assert_eq!(in_namespace("a", || Kernel.states().unwrap()).len(), 2);
            assert_eq!(apply(&nodes(&["10.9.0.2/32", "fd09::2/128"])).states, 1);
            let left = in_namespace("a", || Kernel.states().unwrap());
            assert_eq!(
                left,
                [("10.9.0.3".parse().unwrap(), "10.9.0.1".parse().unwrap())]
            );
        },
    );
}
