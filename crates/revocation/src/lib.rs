//! The revocation log: making entries, and following the log without ever being led off it.
//!
//! The verifier signs one [`Entry`](bootkeep_protocol::revocation::Entry) after the other; each names the digest of the
//! one before. A node follows with a [`Follower`]: it takes entries only in order and tells every way in which a call
//! can be wrong apart. A refused call changes nothing.
//!
//! ```
//! use bootkeep_protocol::revocation::{Action, RevocationsCall};
//! use bootkeep_revocation::{Draft, Follower, LogKey, Position};
//! use bootkeep_signed::{SigningKey, VerifyingKeys};
//!
//! let key = SigningKey::generate()?;
//! let keys = VerifyingKeys::from_pem(&key.public_pem())?;
//! let log = LogKey::new(key, "00112233445566778899aabbccddeeff");
//! let draft = Draft::new(Action::Revoke, "ab".repeat(32).parse()?, "node-c");
//! let first = log.entry(&Position::START, 1_000, draft)?;
//!
//! let mut follower = Follower::new(keys);
//! let accepted = follower.check(&RevocationsCall {
//!     head: log.head(&first.position, 1_001)?,
//!     entries: vec![first.envelope],
//!     crl: None,
//! })?;
//! // Here a node acts, and writes `accepted.next.kept()` to its disk; then:
//! follower = accepted.next;
//! assert_eq!(follower.position().sequence, 1);
//! assert_eq!(follower.revoked().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No I/O, no clock: whether a head is fresh is for the caller to say, from [`Accepted::head`]'s `at_ms`.

#![forbid(unsafe_code)]

mod document;
mod error;
mod follower;
mod kept;
mod log;
mod position;

pub use document::{read_entry, read_head};
pub use error::{FollowError, KeptError};
pub use follower::{Accepted, Follower, HEAD_SKEW_MS, MAX_REVOKED};
pub use kept::Kept;
pub use log::{Draft, LogKey, Signed};
pub use position::Position;
