//! Messages of the wire.

use std::fmt::Debug;

use bootkeep_protocol::{
    ca::{IssueRequest, RevokeCertificates},
    link::{NodeFrame, ServerFrame},
    registrar::{ActivateRequest, Approval, Challenge, NodeRecord, RegisterRequest},
    verifier::{Enrolment, NodeStatus, RelayRequest, RevokeRequest},
    Problem,
};
use serde::{de::DeserializeOwned, Serialize};

/// The input as every message of the wire: what is read is written and read again as the same.
pub fn frames(input: &[u8]) {
    comes_back::<NodeFrame>(input);
    comes_back::<ServerFrame>(input);
    comes_back::<RegisterRequest>(input);
    comes_back::<Challenge>(input);
    comes_back::<ActivateRequest>(input);
    comes_back::<NodeRecord>(input);
    comes_back::<Approval>(input);
    comes_back::<Enrolment>(input);
    comes_back::<NodeStatus>(input);
    comes_back::<RelayRequest>(input);
    comes_back::<RevokeRequest>(input);
    comes_back::<IssueRequest>(input);
    comes_back::<RevokeCertificates>(input);
    comes_back::<Problem>(input);
}

fn comes_back<T: DeserializeOwned + Serialize + PartialEq + Debug>(input: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(input) {
        let written = serde_json::to_vec(&message).expect("a message can be written");
        let again: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(again, message);
    }
}
