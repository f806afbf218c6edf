//! The verifier: attests nodes and releases share V.
//!
//! ```text
//! tenant ── PUT enrolment (V, envelope, policies) ──► store
//! node   ── link ──► open quote ► boot appraisal ► V ─┐
//! node   ── link ──► runtime attestation, at an interval and at once when the IMA list grew
//! tenant ◄─ status, steps, relayed calls
//! ```
//!
//! | module | what |
//! |---|---|
//! | `api` | HTTP routes of the tenant |
//! | `link` | links of nodes: opening, calls, events |
//! | `attest` | boot and runtime attestation; share V leaves in `attest::share` only |
//! | `fleet` | nodes in memory and how their verdicts change |
//! | `keys` | K sets of nodes that keep their U |
//! | `policies` | signed policies and their generations |
//! | `revocation` | the revocation log: written, brought to every node, the CA told |
//! | `store` | what survives a restart |
//! | `webhooks` | other systems that are told |

#![forbid(unsafe_code)]

mod api;
mod attest;
pub mod backup;
mod clock;
mod config;
mod counters;
mod error;
mod fleet;
mod keys;
mod link;
mod policies;
mod registrar;
mod revocation;
mod service;
mod store;
mod webhooks;

pub use config::Config;
pub use error::VerifierError;
pub use registrar::Registrar;
pub use revocation::CaNotices;
pub use service::Verifier;
pub use webhooks::{Target as WebhookTarget, WebhookConfig, WebhookError};
