//! The transport between nodes and services: TLS 1.3, HTTP requests, and the link a node dials.
//!
//! | item | what |
//! |---|---|
//! | [`ClientTls`] | whom we trust and who we are |
//! | [`HttpClient`] | JSON requests to a service whose certificate carries the role we ask for |
//! | [`dial`] | opens a link to the first verifier that answers |
//! | [`channel`] | frames over a WebSocket, the same at both ends |
//! | [`Backoff`] | pauses between attempts |
//!
//! A service is believed when its certificate chains to the one CA we were given, fits the host name, is in its
//! validity, and names exactly the [`Role`](bootkeep_protocol::Role) we dial in a URI SAN. There is no way round that.
//! Sessions are never resumed and early data is never sent: the TLS exporter must name one handshake.

#![forbid(unsafe_code)]

mod backoff;
pub mod channel;
mod connect;
mod dial;
mod error;
mod http;
mod role;
mod target;
mod tls;
mod watched;

pub use backoff::Backoff;
pub use dial::{dial, LinkReceiver, LinkSender, NodeEnd};
pub use error::{LinkError, TlsError};
pub use http::{HttpClient, HttpError};
pub use role::{certificate_role, RoleError};
pub use tls::{crypto_provider, ClientTls};
