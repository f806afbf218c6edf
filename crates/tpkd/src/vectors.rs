//! The test vectors of `docs/protocol.md`: the page and the code hold the same values, or this fails.

use std::collections::BTreeMap;

use crate::{
    container::seal_with,
    document, envelope, latch_digest, latched_pcr15, luks_key_id, open_document, open_envelope,
    share::{Share, U, V},
    BootstrapKey, DocumentKey, Envelope, Item, NodeKey, Wrapped,
};

const PAGE: &str = include_str!("../../../docs/protocol.md");
const NODE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const K: [u8; 32] = [0x4b; 32];
const U_BYTES: [u8; 32] = [0x55; 32];
const QUOTE_NONCE: [u8; 32] = [0x11; 32];
const GCM_NONCE: [u8; 12] = [0x22; 12];
const NK_SEED: [u8; 32] = [0x33; 32];

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

fn key() -> BootstrapKey {
    BootstrapKey::from_bytes(K)
}

fn luks() -> Envelope {
    Envelope {
        items: vec![Item::LuksKey {
            volume: "cryptroot".into(),
            key: b"open sesame".to_vec(),
        }],
    }
}

fn sealed_envelope() -> Vec<u8> {
    let plain = serde_json::to_vec(&luks()).unwrap();
    let header = envelope::header(NODE);
    seal_with(&key().derive("payload"), &header, &plain, &GCM_NONCE).unwrap()
}

fn document_key() -> DocumentKey {
    DocumentKey::from_bytes("0123456789abcdef", [0x44; 32])
}

fn sealed_document() -> Vec<u8> {
    let header = document::header("web", "0123456789abcdef");
    seal_with(&[0x44; 32], &header, b"#cloud-config\n", &GCM_NONCE).unwrap()
}

#[test]
fn the_page_holds_what_the_code_computes() {
    let (u, latch, own) = (
        Share::<U>::from_bytes(U_BYTES),
        key().latch_secret(),
        key().luks_key("cryptroot"),
    );
    let digest = latch_digest("cryptroot", latch.as_slice());
    let v: [u8; 32] = std::array::from_fn(|index| K[index] ^ U_BYTES[index]);
    assert_eq!(
        BootstrapKey::combine(&u, &Share::<V>::from_bytes(v)).expose(),
        &K
    );
    let computed = [
        ("k", K.to_vec()),
        ("u", U_BYTES.to_vec()),
        ("v", v.to_vec()),
        ("payload_key", key().derive("payload").to_vec()),
        ("confirm_key", key().derive("confirm").to_vec()),
        ("quote_nonce", QUOTE_NONCE.to_vec()),
        (
            "confirmation",
            key().confirmation(&QUOTE_NONCE, NODE).to_vec(),
        ),
        ("latch_key", latch.to_vec()),
        ("luks_key", own.to_vec()),
        ("luks_key_id", luks_key_id(&own).to_vec()),
        (
            "recovery_bytes",
            key().derive("recovery cryptroot").to_vec(),
        ),
        ("latch_digest", digest.to_vec()),
        ("latched_pcr15", latched_pcr15(&digest).to_vec()),
        ("nk_seed", NK_SEED.to_vec()),
        ("nk_public", NodeKey::from_seed(&NK_SEED).public().to_vec()),
        ("envelope", sealed_envelope()),
        ("document", sealed_document()),
    ];
    let written = written();
    for (name, value) in computed {
        let value = hex::encode(value);
        assert_eq!(written.get(name), Some(&value.as_str()), "{name} = {value}");
    }
    assert_eq!(written.get("node_id"), Some(&NODE));
}

#[test]
fn what_the_page_shows_opens() {
    let written = written();
    let bytes = |name: &str| hex::decode(written[name]).unwrap();
    let wrapped = Wrapped {
        encapsulated: bytes("encapsulated"),
        ciphertext: bytes("ciphertext"),
    };
    let opened = NodeKey::from_seed(&NK_SEED)
        .unwrap_share::<U>(&QUOTE_NONCE, NODE, &wrapped)
        .unwrap();
    assert_eq!(opened.expose(), &U_BYTES);
    let envelope = open_envelope(&key(), NODE, &bytes("envelope")).unwrap();
    assert_eq!(envelope, luks());
    let plain = open_document(&document_key(), &bytes("document")).unwrap();
    assert_eq!(*plain, b"#cloud-config\n");
}
