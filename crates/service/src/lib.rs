//! What every service shares: configuration, logging, and an HTTP front behind mutual TLS that refuses in one voice.
//!
//! ```no_run
//! # use axum::{routing::post, Router};
//! # use bootkeep_service::{serve_tls, shutdown_signal, BoundedJson, Peer, ProblemResponse, ServerTls};
//! # use bootkeep_protocol::{registrar::Approval, Role};
//! async fn approve(peer: Peer, BoundedJson(approval): BoundedJson<Approval>) -> Result<(), ProblemResponse> {
//!     peer.require(&[Role::Tenant])?;
//!     tracing::info!(note = approval.note, "approved");
//!     Ok(())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = ServerTls::load("s.pem".as_ref(), "s.key".as_ref(), "ca.pem".as_ref())?;
//! let router = Router::new().route("/v1/approvals", post(approve));
//! let listener = tokio::net::TcpListener::bind("[::]:8890").await?;
//! serve_tls(listener, tls, router, shutdown_signal()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Every refusal leaves as a problem document (RFC 9457), also those of the router: a response with an error status and
//! another body is replaced. A handler that panics answers 500. Nothing a client sent is repeated to it.

#![forbid(unsafe_code)]

mod admission;
mod config;
mod connection;
mod json;
mod link;
mod logging;
mod peer;
mod problem;
mod process;
mod serve;
mod tls;

pub use admission::Limits;
pub use config::{load_config, resolve, ConfigError};
pub use json::BoundedJson;
pub use link::{LinkUpgrade, ServerEnd};
pub use logging::init_logging;
pub use peer::Peer;
pub use problem::{ProblemResponse, RefusalCode};
pub use process::{notify_ready, shutdown_signal};
pub use serve::{serve_plain, serve_tls, serve_tls_within, ServiceError};
pub use tls::ServerTls;
