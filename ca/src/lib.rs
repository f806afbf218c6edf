//! The CA: issues node certificates, revokes them, and publishes the list of those that are not good any more.
//!
//! | module | what |
//! |---|---|
//! | `api` | HTTP routes: the owner's behind mutual TLS, list and certificate for everyone |
//! | `service` | issuing and revoking |
//! | `crl` | the list in force, and when a new one is due |
//! | `ocsp` | whether one certificate is still good |
//! | `store` | the issuing key (sealed), serials, the list: durable before anything is acknowledged |

#![forbid(unsafe_code)]

mod api;
pub mod backup;
mod config;
mod crl;
mod error;
mod ocsp;
mod service;
mod store;

pub use config::{Config, Lifetimes, Urls};
pub use error::CaError;
pub use service::Ca;
