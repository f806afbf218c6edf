//! What entries of a list hold beside paths and digests, and the policies they are held against.

use bootkeep_evidence::ima::{DmEvent, DmEventKind, FileDigest, FileKey, FileSignature};
use bootkeep_policy::{PathPattern, RuntimePolicy};

const KEY: &[u8] = include_bytes!("../../evidence/tests/data/ima/p256.der");

/// A file's signature: what is parsed says which key made it, and verifies over no digest but the one that was signed.
pub fn file_signature(input: &[u8]) {
    let Ok(signature) = FileSignature::parse(input) else {
        return;
    };
    let key = FileKey::new(KEY, vec![signature.key_id()]).expect("a P-256 key");
    for algorithm in ["sha256", "sha384", "sha512", "verity:sha256", "ima"] {
        let digest = FileDigest {
            algorithm: algorithm.into(),
            bytes: vec![7; 32],
        };
        assert!(key.verify(&signature, &digest).is_err());
    }
}

/// An event of device mapper: what is read names a device, and a table has the targets it says.
pub fn device_mapper(input: &[u8]) {
    for name in [
        "dm_table_load",
        "dm_device_resume",
        "dm_device_remove",
        "dm_device_rename",
    ] {
        let kind = DmEventKind::of(name).expect("a known name");
        let Ok(event) = DmEvent::parse(kind, input) else {
            continue;
        };
        assert!(!event.devices.is_empty());
        if kind == DmEventKind::Load {
            assert_eq!(event.devices.len(), 1);
            assert_eq!(event.devices[0].targets, Some(event.targets.len()));
        }
    }
}

/// A runtime policy: what is read can be written, in both forms, and is then the same.
pub fn runtime_policy(input: &[u8]) {
    let Ok(policy) = RuntimePolicy::from_text(input) else {
        return;
    };
    let _ = policy.warnings();
    let json = policy.to_value().expect("what was read can be written");
    assert_eq!(RuntimePolicy::from_value(json).as_ref().ok(), Some(&policy));
    let yaml = policy.to_yaml().expect("what was read can be written");
    assert_eq!(
        RuntimePolicy::from_yaml(yaml.as_bytes()).as_ref().ok(),
        Some(&policy)
    );
}

/// A pattern and a path: no pattern that compiles takes long or panics.
pub fn path_pattern(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (pattern, path) = text.split_once('\n').unwrap_or((&text, "/usr/bin/env"));
    for pattern in [PathPattern::regex(pattern), PathPattern::glob(pattern)] {
        let mut policy = RuntimePolicy::default();
        if policy
            .exclude_patterns(std::slice::from_ref(&pattern))
            .is_ok()
        {
            let _ = pattern.matches(path);
        }
    }
}
