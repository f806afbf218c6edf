//! `bootkeep provision`: from a waiting node to a trusted one.
//!
//! ```text
//! record read once, EK checked with own roots      ── pins (EK, AK, generation)
//! K = U xor V, envelope sealed, journal durable    ── before anything is sent
//! V, envelope, policies → verifier
//! node proves EK and AK in one TPM (own credential), quotes (own nonce), own appraisal
//! U → node, wrapped to the NK of that quote        ── the journal has the nonce first
//! node's confirmation of K is checked
//! verifier says trusted
//! ```
//! With --unattended the PCR policy of the appraised boot goes to the verifier before U to the node, and U is forgotten here
//! only once the node keeps it. Every step may be repeated: after a crash, or when a service was away, the same command goes on with the same K.

mod enrolment;
mod flow;
mod follow;
mod inputs;
mod journal;
mod retry;
mod rotate;
mod unattended;
mod watch;

pub use flow::{provision, Options, Provisioned};
pub use inputs::{FileSpec, Inputs};
pub use journal::{Journal, Kind};
pub use retry::{Deadline, Pauses};
pub use rotate::{finish, rotate, settle, Rotated, Rotation};
pub use unattended::Unattended;
pub use watch::{Lines, Moment, Teller, Timeline, Watch};
