#![allow(clippy::unwrap_used)]

use super::*;

const GROUP: &str = "group: web\nnetworks: [10.1.0.0/24]\n";

fn refused(text: &str) -> String {
    Config::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn defaults_are_safe() {
    let config = Config::parse(GROUP.as_bytes()).unwrap();
    assert_eq!(config.mode, Mode::Transport);
    assert_eq!(config.start, Start::OnTraffic);
    // A certificate whose status is not known is no good: the verifier brings the list from the start.
    assert_eq!(config.revocation, RevocationRule::Ifuri);
    assert!(config.esp_proposals.iter().all(|p| p.ends_with("-esn")));
    assert_eq!(config.members(), ["10.1.0.0/24".parse().unwrap()]);
}

#[test]
fn a_full_file() {
    let id = "ab".repeat(32);
    let text = format!(
        "group: db
mode: tunnel
start: at-once
addresses: [10.1.0.1, 'fd00::1']
subnets: [192.168.1.0/24]
peers:
  - addresses: [10.1.0.2]
    label: db-2
    node_id: {id}
    subnets: [192.168.2.0/24]
clear:
  - {{ network: 10.1.0.250, protocol: tcp, port: 8894 }}
  - {{ network: fd00:1::/64 }}
proposals: {{ ike: [aes256gcm16-prfsha384-ecp384], esp: [aes256gcm16-ecp384] }}
revocation: strict
vici: /run/other.vici
"
    );
    let config = Config::parse(text.as_bytes()).unwrap();
    assert_eq!(config.clear[0].network, "10.1.0.250/32".parse().unwrap());
    let name = config.peers[0].node_id.as_ref().unwrap().host_name();
    let places = config.places_of(&name);
    assert_eq!(places.len(), 2);
    assert!(config.places_of("other").is_empty());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let cases = [
        ("group: ''\nnetworks: [10.0.0.0/8]", "group"),
        ("group: a/b\nnetworks: [10.0.0.0/8]", "group"),
        ("group: web", "peers"),
        ("group: web\nnetworks: [10.0.0.1/8]", "bits of a host"),
        ("group: web\nnetworks: [example.org]", "no network"),
        ("group: web\npeers: [{addresses: []}]", "at least one"),
        ("group: web\npeers: [{addresses: [0.0.0.0]}]", "of a host"),
        ("group: web\npeers: [{addresses: [127.0.0.1]}]", "of a host"),
        (
            "group: web\nmode: tunnel\npeers: [{addresses: [10.0.0.1]}]",
            "subnets",
        ),
        (
            "group: web\nmode: tunnel\nsubnets: [10.9.0.0/24]\nnetworks: [10.0.0.0/8]",
            "networks",
        ),
        (
            "group: web\nnetworks: [10.0.0.0/8]\nclear: [{network: 10.0.0.1, port: 1}]",
            "protocol",
        ),
        (
            "group: web\nnetworks: [10.0.0.0/8]\nproposals: {esp: [aes128-sha1]}",
            "protects nothing",
        ),
        (
            "group: web\nnetworks: [10.0.0.0/8]\nproposals: {esp: [null-sha256]}",
            "protects nothing",
        ),
        (
            "group: web\nnetworks: [10.0.0.0/8]\nproposals: {ike: []}",
            "at least one",
        ),
        ("group: web\nnetworks: [10.0.0.0/8]\nvici: x", "absolute"),
        ("group: web\nnetworks: [10.0.0.0/8]\nother: 1", "other"),
    ];
    for (text, expected) in cases {
        let problem = refused(text);
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn size_is_bounded() {
    let long = format!("{GROUP}#{}", "x".repeat(MAX_BYTES));
    assert!(matches!(
        Config::parse(long.as_bytes()),
        Err(ConfigError::Large)
    ));
    let many = "{addresses: [10.0.0.1]},".repeat(MAX_PEERS + 1);
    assert!(refused(&format!("group: web\npeers: [{many}]")).contains("at most"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = Config::parse(text.as_bytes());
    }
}
