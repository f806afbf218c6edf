//! The protocol of strongSwan's IKE daemon: requests, and events, over a UNIX socket.
//!
//! Own code, small: the `rsvici` crate (0.1) loses its place in the stream when a request meets an event that is half read,
//! spins when the daemon goes away, and allocates whatever length it is told.
//! The format is described in strongSwan's `src/libcharon/plugins/vici/README.md`.

mod connection;
mod message;
mod packet;

use std::{io, path::PathBuf, time::Duration};

pub(crate) use connection::within;
pub use connection::Connection;
pub use message::{Message, Value};

/// Largest packet (bytes): charon's own limit.
pub const MAX_PACKET: usize = 512 * 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ViciError {
    /// Nobody listens.
    #[error("nobody listens on {path} ({source}); is strongSwan installed and running?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// A packet is larger than [`MAX_PACKET`].
    #[error("a packet of {0} bytes; at most {MAX_PACKET} are read")]
    Large(usize),
    /// A packet cannot be read.
    #[error("a packet cannot be read: {0}")]
    Malformed(&'static str),
    /// A name or value is too long for the protocol.
    #[error("`{0}` is too long for a message")]
    Long(String),
    /// This charon does not know a command or an event.
    #[error("it does not know `{0}`; is the vici plug-in older than strongSwan 5.9?")]
    Unknown(String),
    /// It knows the command, and did not do it.
    #[error("`{command}` failed: {reason}")]
    Refused {
        /// Which.
        command: String,
        /// charon's own words.
        reason: String,
    },
    /// More items than are taken.
    #[error("`{0}` gives more items than are read")]
    Many(String),
}
