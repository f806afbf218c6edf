//! What cloud-init's guard asks about each part.

use std::io;

use zeroize::Zeroizing;

use crate::{
    open, record,
    record::Line,
    state::{digest, State},
    Config, OpenError, Places,
};

/// Opens a sealed part; `None` when it is refused, which is then on the console, in the record and a claim.
///
/// # Errors
/// When what the seed step left cannot be read.
pub fn open_part(places: &Places, body: &[u8]) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let state = State::load(places)?.unwrap_or_default();
    Ok(open::open(&state, body)
        .inspect_err(|error: &OpenError| {
            record::refuse(places, "cloud-init-sealed-refused", &error.to_string());
        })
        .ok())
}

/// cloud-init has walked what was in this sealed part.
///
/// # Errors
/// When it cannot be noted, or the part is not a sealed one.
pub fn applied(places: &Places, body: &[u8]) -> io::Result<()> {
    let sealed = bootkeep_tpkd::SealedText::decode(body).map_err(io::Error::other)?;
    record::note(places, &Line::Applied(digest(&sealed)))
}

/// Whether an unsealed part may pass. Type and name are the cloud's words.
#[must_use]
pub fn unsealed_may_pass(places: &Places, kind: &str, name: &str) -> bool {
    if !Config::strict_unless_allowed(&places.config).require_sealed {
        return true;
    }
    let detail = format!("an unsealed part of type {kind:?} named {name:?}");
    record::refuse(places, "cloud-init-unsealed-part", &detail);
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let places = Places::under(root.path());
        fs::create_dir_all(root.path().join("run")).unwrap();
        fs::create_dir_all(root.path().join("etc/bootkeep")).unwrap();
        places.handover.prepare().unwrap();
        bootkeep_handover::private_folder(&places.memory()).unwrap();
        (root, places)
    }

    #[test]
    fn an_unsealed_part_is_refused_and_reported_unless_allowed() {
        let (_root, places) = places();
        assert!(!unsealed_may_pass(
            &places,
            "text/cloud-config",
            "x\u{1b}[2J\n"
        ));
        let claims = places.handover.take_claims().unwrap();
        assert_eq!(claims[0].code, "cloud-init-unsealed-part");
        assert!(!claims[0].detail.contains(|c: char| c.is_control()));
        assert_eq!(record::read(&places).unwrap().len(), 1);

        fs::write(&places.config, "require_sealed: false\n").unwrap();
        assert!(unsealed_may_pass(&places, "text/cloud-config", "x"));
        assert!(places.handover.take_claims().unwrap().is_empty());
    }

    #[test]
    fn a_sealed_part_without_hand_over_is_refused_and_reported() {
        let (_root, places) = places();
        let key = bootkeep_tpkd::DocumentKey::from_bytes("k", [1; 32]);
        let sealed = bootkeep_tpkd::seal_document(&key, "web", b"sesame").unwrap();
        let body = bootkeep_tpkd::SealedText::encode(&sealed).0;
        assert!(open_part(&places, body.as_bytes()).unwrap().is_none());
        let claims = places.handover.take_claims().unwrap();
        assert_eq!(claims[0].code, "cloud-init-sealed-refused");
    }
}
