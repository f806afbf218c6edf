//! What is said of a node is what is known of it.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_link::HttpError;
use bootkeep_protocol::verifier::{NodeStatus, State};
use common::{
    code,
    machine::Machine,
    node::{running, Node},
    World,
};

async fn boot(world: &World, machine: &Machine) -> Node {
    let mut node = Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    node
}

fn claims(status: &NodeStatus) -> Vec<&str> {
    status.claims.iter().map(|c| c.code.as_str()).collect()
}

#[tokio::test]
async fn a_power_cut_is_explained_and_not_blamed_on_the_node() {
    let world = World::new().await;
    let (mut machine, _) = world.enrolled("node").await;
    let node = boot(&world, &machine).await;
    node.close().await;
    let clean = world.status(&machine.node).await;
    assert_eq!((clean.clock_safe, claims(&clean)), (Some(true), vec![]));
    for (safe, clock, expected) in [
        (false, 30_000, vec!["unclean-power-off"]),
        (true, 10, vec!["clock-went-back"]),
        (false, 5, vec!["unclean-power-off", "clock-went-back"]),
    ] {
        machine.boot(b"quiet");
        machine.clock.safe = safe;
        machine.clock.clock = clock;
        let node = boot(&world, &machine).await;
        let status = world.status(&machine.node).await;
        assert_eq!(status.clock_safe, Some(safe));
        assert_eq!(claims(&status), expected);
        node.close().await;
        let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
            .await
            .unwrap();
        let status = world.until(&machine.node, State::Trusted).await;
        assert_eq!(claims(&status), expected, "stays for as long as this boot");
        node.close().await;
    }
}

#[tokio::test]
async fn within_one_boot_a_clock_that_goes_back_is_refused() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    boot(&world, &machine).await;
    let mut node = running(&machine);
    node.clock.clock -= 1;
    let _node = Node::connect(&world.node_tls, &world.url, &node)
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "clock");
}

#[tokio::test]
async fn a_reboot_is_known_by_the_reset_count_and_needs_new_boot_evidence() {
    let world = World::new().await;
    let (mut machine, _) = world.enrolled("node").await;
    boot(&world, &machine).await.close().await;
    let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    world.until(&machine.node, State::Trusted).await;
    node.close().await;
    // The label of the boot is the node's own choice; the count is the TPM's.
    machine.boot(b"quiet");
    let _node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    let mut status = world.status(&machine.node).await;
    while status.reasons.is_empty() {
        status = world.status(&machine.node).await;
    }
    assert_eq!(status.state, State::Waiting);
    assert_eq!(status.reasons[0].code, "no-boot-evidence");
}

#[tokio::test]
async fn the_list_of_nodes_comes_in_parts_when_asked_for() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.enrolled(name).await;
    }
    let get = async |query: &str| -> Result<Vec<NodeStatus>, HttpError> {
        let url = format!("{}/v1/nodes{query}", world.url);
        world.tenant.get(&url).await
    };
    let ids = |list: Vec<NodeStatus>| list.into_iter().map(|s| s.node_id).collect::<Vec<_>>();
    let all = ids(get("").await.unwrap());
    assert_eq!(all.len(), 5);
    let mut parts = ids(get("?limit=2").await.unwrap());
    assert_eq!(parts, all[..2]);
    while let Some(last) = parts.last().filter(|_| parts.len() < 5).cloned() {
        let part = ids(get(&format!("?after={last}&limit=2")).await.unwrap());
        assert!((1..=2).contains(&part.len()));
        parts.extend(part);
    }
    assert_eq!(parts, all);
    let end = get(&format!("?after={}", all[4])).await.unwrap();
    assert_eq!(end, []);
    for query in ["?after=x", "?limit=-1", "?page=1"] {
        assert!(get(query).await.is_err(), "{query}");
    }
}

#[tokio::test]
async fn metrics_count_states_policies_and_every_refusal() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    boot(&world, &machine).await;
    let missing: Result<NodeStatus, HttpError> = world
        .tenant
        .get(&format!("{}/v1/nodes/{}", world.url, "0".repeat(64)))
        .await;
    assert_eq!(code(missing), "not-enrolled");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = world.verifier().metrics_router();
    tokio::spawn(bootkeep_service::serve_plain(
        listener,
        router,
        std::future::pending(),
    ));
    let text = scrape(address).await;
    for line in [
        "bootkeep_verifier_nodes{state=\"boot-trusted\"} 1",
        "bootkeep_verifier_nodes{state=\"trusted\"} 0",
        "bootkeep_verifier_refusals_total{code=\"not-enrolled\"} 1",
        "bootkeep_verifier_boots_appraised_total 1",
        "# TYPE bootkeep_verifier_policy_generations gauge",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

async fn scrape(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
