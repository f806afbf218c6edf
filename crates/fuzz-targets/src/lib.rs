//! What the fuzzers run.
//!
//! Each target takes any bytes, gives them to one parser as an attacker would, and demands what must hold whatever
//! comes: no panic, and the properties named at the target. `fuzz/` runs them under libFuzzer; this crate's tests run
//! them over the kept corpus in `fuzz/corpus/NAME/` and over seeded mutations of it, on any toolchain.

#![forbid(unsafe_code)]
// A target reports by panicking: that is what a fuzzer sees.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod boot;
mod certificate;
mod frames;
mod ima_rules;
mod keys;
mod logs;
mod quote;
mod sealed;

pub use boot::{boot_event, boot_image, boot_policy, boot_predict, signature_lists};
pub use certificate::ek_certificate;
pub use frames::frames;
pub use ima_rules::{device_mapper, file_signature, path_pattern, runtime_policy};
pub use keys::key_public;
pub use logs::{event_log, ima_ascii, ima_binary};
pub use quote::quote;
pub use sealed::container;

/// One input for one parser.
pub type Target = fn(&[u8]);

/// All targets, by the name of their corpus folder.
pub const TARGETS: [(&str, Target); 17] = [
    ("quote", quote),
    ("key_public", key_public),
    ("event_log", event_log),
    ("boot_event", boot_event),
    ("signature_lists", signature_lists),
    ("boot_policy", boot_policy),
    ("boot_predict", boot_predict),
    ("boot_image", boot_image),
    ("ima_binary", ima_binary),
    ("ima_ascii", ima_ascii),
    ("file_signature", file_signature),
    ("device_mapper", device_mapper),
    ("runtime_policy", runtime_policy),
    ("path_pattern", path_pattern),
    ("container", container),
    ("frames", frames),
    ("ek_certificate", ek_certificate),
];
