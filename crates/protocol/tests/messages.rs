//! Messages keep their form, and what is not one is refused.
#![allow(clippy::unwrap_used)]

use bootkeep_protocol::{
    link::{Call, Event, NodeFrame, QuoteCall, ServerFrame},
    Bytes, NodeId, Nonce, Role,
};
use proptest::prelude::*;

#[test]
fn frames_have_the_documented_form() {
    let frame = ServerFrame::Request {
        id: 7,
        call: Call::Quote(QuoteCall {
            nonce: Nonce::from([0xab; 32]),
            asker: Role::Verifier,
            pcrs: vec![0, 15],
            event_log: true,
            ima_offset: None,
        }),
    };
    let nonce = "ab".repeat(32);
    let text = format!(
        r#"{{"type":"request","id":7,"call":{{"call":"quote","nonce":"{nonce}","asker":"verifier","pcrs":[0,15],"event_log":true}}}}"#
    );
    assert_eq!(serde_json::to_string(&frame).unwrap(), text);
    assert_eq!(serde_json::from_str::<ServerFrame>(&text).unwrap(), frame);
}

#[test]
fn events_round_trip() {
    let frame = NodeFrame::Event {
        event: Event::Combined {
            confirmation: Bytes(vec![1, 2, 3]),
        },
    };
    let text = serde_json::to_string(&frame).unwrap();
    assert_eq!(
        text,
        r#"{"type":"event","event":{"event":"combined","confirmation":"AQID"}}"#
    );
    assert_eq!(serde_json::from_str::<NodeFrame>(&text).unwrap(), frame);
}

#[test]
fn unknown_fields_and_kinds_are_refused() {
    for text in [
        r#"{"type":"hello","version":1}"#,
        r#"{"type":"hello","version":1,"nonce":"xyz"}"#,
        r#"{"type":"sesame"}"#,
        r#"{"type":"accepted","extra":1}"#,
        r#"[]"#,
    ] {
        assert!(serde_json::from_str::<ServerFrame>(text).is_err(), "{text}");
    }
}

#[test]
fn ids_are_strict() {
    assert!("A".repeat(64).parse::<NodeId>().is_err());
    assert!("a".repeat(63).parse::<NodeId>().is_err());
    assert!(format!("{}\n", "a".repeat(63)).parse::<NodeId>().is_err());
    assert!("a".repeat(64).parse::<NodeId>().is_ok());
}

#[test]
fn secrets_do_not_print() {
    let debug = format!("{:?}", Bytes(b"secret".to_vec()));
    assert_eq!(debug, "6 bytes");
}

proptest! {
    #[test]
    fn bytes_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let value = Bytes(bytes);
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), value);
    }

    #[test]
    fn any_text_is_refused_or_read_but_never_panics(text in ".{0,200}") {
        let _ = serde_json::from_str::<NodeFrame>(&text);
        let _ = serde_json::from_str::<Bytes>(&text);
    }
}
