//! The messages of the wire and their limits.
//!
//! One vocabulary for every transport: the verifier (or, relayed by it, the tenant) *asks*, the node *answers*.
//! Nothing here opens a connection, reads a file or knows a key. Bytes travel as standard base64 in JSON.
//!
//! | module | messages between |
//! |---|---|
//! | [`registrar`] | node → registrar, and the record that verifier and tenant read |
//! | [`link`] | verifier ↔ node, over the link the node dialled |
//! | [`verifier`] | tenant → verifier |
//! | [`ca`] | tenant → CA |
//! | [`boot_files`] | node → verifier: what the next boot will use |
//! | [`revocation`] | verifier → node: what the log says; node → verifier: acknowledgements |
//! | [`kept`] | verifier → node: V for a node that keeps its U; tenant → running node: U to keep |
//! | [`policy`] | tenant → verifier: signed policies |
//! | [`dsse`] | the form of everything signed |
//! | [`problem`] | the refusal every endpoint answers with (RFC 9457) |

#![forbid(unsafe_code)]

pub mod boot_files;
mod bytes;
pub mod ca;
pub mod dsse;
mod ids;
pub mod kept;
pub mod limits;
pub mod link;
pub mod policy;
pub mod problem;
mod qualify;
pub mod registrar;
pub mod revocation;
pub mod verifier;

pub use bytes::Bytes;
pub use ids::{BootId, IdError, NodeId, Nonce, Phase, Role, ShareId};
pub use problem::{Problem, ProblemKind};
pub use qualify::{link_qualifying_data, quote_qualifying_data, EXPORTER_LABEL, EXPORTER_LEN};
