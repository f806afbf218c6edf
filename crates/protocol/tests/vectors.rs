//! The test vectors of `docs/protocol.md`: the page and the code hold the same values, or this fails.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bootkeep_protocol::{
    link_qualifying_data, quote_qualifying_data, registrar::activation_message, NodeId, Nonce,
    Phase, Role,
};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// `name = value` lines of the page's blocks that start with "```vectors".
fn written() -> BTreeMap<&'static str, &'static str> {
    let blocks = PAGE.split("```vectors").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .flat_map(str::lines)
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect()
}

#[test]
fn the_page_holds_what_the_code_computes() {
    let written = written();
    let bytes = |name: &str| <[u8; 32]>::try_from(hex::decode(written[name]).unwrap()).unwrap();
    let nonce = Nonce::from(bytes("quote_nonce"));
    let node: NodeId = written["node_id"].parse().unwrap();
    let (nk, exporter) = (bytes("nk_public"), bytes("exporter"));
    let quote = |role| quote_qualifying_data(&nonce, role, &nk, &node, &exporter).to_vec();
    let link = link_qualifying_data(&nonce, Phase::Initramfs, &nk, &node, &exporter);
    let computed = [
        ("quote_data_verifier", quote(Role::Verifier)),
        ("quote_data_tenant", quote(Role::Tenant)),
        ("link_data", link.to_vec()),
        ("activation_message", activation_message("c-1", &node)),
    ];
    for (name, value) in computed {
        let value = hex::encode(value);
        assert_eq!(written.get(name), Some(&value.as_str()), "{name} = {value}");
    }
}
