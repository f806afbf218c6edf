//! Transport mode in a network: what waits for IPsec does not pass in clear.
//!
//! The policies are the kernel's; whether it knows ESP does not matter here. That packets pass *with* ESP is shown in
//! virtual machines.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    inside::{self, in_namespace, run},
    node::Node,
    world::World,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn pings(from: &Node, address: &str) -> bool {
    let ping = [
        "netns",
        "exec",
        &from.namespace,
        "ping",
        "-c1",
        "-W1",
        address,
    ];
    Command::new("ip")
        .args(ping)
        .output()
        .unwrap()
        .status
        .success()
}

fn connects(from: &Node, to: &Node, port: u16) -> bool {
    let place = SocketAddr::new(to.outer, port);
    let unspecified = IpAddr::from([0, 0, 0, 0]);
    let listener = in_namespace(&to.namespace, || {
        TcpListener::bind((unspecified, port)).unwrap()
    });
    let second = Duration::from_secs(1);
    let connected = in_namespace(&from.namespace, || {
        TcpStream::connect_timeout(&place, second)
    });
    drop(listener);
    connected.is_ok()
}

fn policies(node: &Node) -> String {
    run(&["ip", "-n", &node.namespace, "xfrm", "policy"])
}

/// Whether charon's policy to this network is in the kernel, and demands ESP. That charon lists it says nothing.
fn has_trap(node: &Node, network: &str) -> bool {
    let all = policies(node);
    let lines: Vec<&str> = all.lines().collect();
    lines.windows(3).any(|policy| {
        policy[0].contains(&format!("dst {network}"))
            && policy[1].contains("dir out")
            && policy[2].contains("tmpl")
    })
}

fn wait_for_traps(node: &Node) {
    let begun = Instant::now();
    while !has_trap(node, "10.77.0.0/24") || !has_trap(node, "fd77::/64") {
        assert!(begun.elapsed() < PATIENCE, "{}", policies(node));
        sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs root, run by xtask"]
fn nothing_passes_in_clear_but_what_may() {
    inside::again("traps::nothing_passes_in_clear_but_what_may", || {
        let world = World::of_a_network();
        let (here, there, service) = (&world.nodes[0], &world.nodes[1], &world.nodes[2]);
        wait_for_traps(here);
        wait_for_traps(there);
        println!("{}", policies(here));
        assert!(connects(here, service, 8894), "an exception");
        assert!(!connects(here, service, 8895));
        assert!(!pings(here, "10.77.0.2") && !pings(here, "fd77::2"));
        let begun = Instant::now();
        // The packet made charon speak with the other side, and know who it is.
        while !here.charon.lock().unwrap().log().contains("successful") {
            assert!(
                begun.elapsed() < PATIENCE,
                "{}",
                here.charon.lock().unwrap().log()
            );
            sleep(Duration::from_millis(50));
        }
        let bad = world.peer(2);
        here.revoke(&bad);
        assert!(policies(here).contains("action block"));
        assert!(
            !connects(here, service, 8894),
            "a revoked node has no exceptions"
        );
        here.reinstate(&bad);
        assert!(connects(here, service, 8894));
        assert!(has_trap(here, "10.77.0.0/24") && has_trap(here, "fd77::/64"));
        // Its own policies go with it; ours stay.
        for node in [here, there] {
            node.charon.lock().unwrap().signal(Signal::SIGTERM);
            let begun = Instant::now();
            while policies(node).contains("proto esp") {
                assert!(begun.elapsed() < PATIENCE, "{}", policies(node));
                sleep(Duration::from_millis(50));
            }
        }
        assert!(connects(here, service, 8894), "an exception");
        assert!(
            !connects(here, there, 8895),
            "without charon all passes in clear"
        );
        assert!(!pings(here, "10.77.0.2") && !pings(here, "fd77::2"));
    });
}
