//! The registrar: which AK lives in the TPM of which EK, and why that EK is believed.
//!
//! ```text
//! RegisterRequest ─ Keys::check ─► Keys ─ believe ─► Candidate ─ challenge, proof ─► Proven ─ store ─► NodeRecord
//! ```
//!
//! Each arrow is the only way to the next type. A node's id is the hash of its EK: nobody can register for another's,
//! and another AK of the same EK is a new generation beside the old ones.

#![forbid(unsafe_code)]

mod api;
pub mod backup;
mod candidate;
mod challenges;
mod clock;
mod config;
mod counters;
mod error;
mod service;
mod store;

pub use config::Config;
pub use error::{Refusal, RegistrarError};
pub use service::Registrar;
