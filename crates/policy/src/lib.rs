//! What is acceptable: boot and runtime policies, and the appraisal of evidence against them.
//!
//! Pure: documents and evidence in, a typed verdict or typed reasons out. The verifier and the tenant both decide with
//! this crate, each with its own nonce and its own copy of the policies.
//!
//! | step | function | gives |
//! |---|---|---|
//! | a node in its initramfs asks for its share | [`appraise_boot`] | [`Booted`]: the only value a share is sent for |
//! | a running node, by somebody who did not see it boot | [`appraise_whole`] | [`Progress`] |
//! | a running node, by the verifier that saw it boot | [`appraise_runtime`] | [`Progress`] |
//! | a known-good node, to make policies from | [`inspect`] | [`KnownGood`] |
//!
//! An empty policy accepts nothing.

#![forbid(unsafe_code)]

mod appraise;
mod boot;
mod digest;
mod error;
mod generations;
mod reason;
mod runtime;
mod signed;

pub use appraise::{
    appraise_boot, appraise_runtime, appraise_whole, boot_call, inspect, quoted_pcrs, runtime_call,
    verify_link_quote, Attested, Baseline, Booted, CheckpointError, ImaState, KnownGood,
    LinkQuestion, OpenedLink, Policies, Progress, Question, UnsafeClock, ATTESTED_PCRS,
};
pub use boot::{
    as_qemu_hands_over, initramfs_values, kernel_version, predict, sha256, version_in_name,
    BootOptions, BootPolicy, CommandLineRule, EventLogRule, EventRule, FileRule, FirmwareRule,
    GrubRule, KeyRule, KnownGoodOptions, Listed, MadeBootPolicy, NewConfig, NewKernel, NewLoader,
    NewUki, NextBoot, Open, Pattern, Pcr11, PcrSignature, PhaseRule, Places, PredictError,
    Predicted, Rename, RuleChoice, RulePolicy, SbatRule, SecureBoot, Separators, SignedRule,
    SignerRule, StageRule, StageSource, UkiContents, UkiError, UkiRule, Unlisted, ValuePolicy, Why,
};
pub use digest::Digest32;
pub use error::PolicyError;
pub use generations::{BootPolicies, Generation, Generations, Live, RuntimePolicies, MAX_LIVE};
pub use reason::{Refusal, MAX_REASONS};
pub use runtime::{
    Accepted, BufferRule, CertificateRule, DeviceRule, Explanation, FileDigests, MemfdRule,
    Missing, PathPattern, PathRule, RegexText, RuleDigest, RuntimePolicy, RuntimeRules, Sha256Rule,
    SigningKey, TextPattern, TextRule, Tree, ViolationRule,
};
pub use signed::{is_policy_name, PolicyDocument, SignedPolicy, SignedPolicyError};
