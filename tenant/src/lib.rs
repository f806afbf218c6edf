//! The owner's side: `bootkeep`, its commands and what they are made of.
//!
//! | module | what |
//! |---|---|
//! | [`cli`], [`commands`], [`output`] | the command line and what it prints |
//! | [`home`](Home), [`local`], [`approvals`] | the owner's folder |
//! | [`init`], [`seal`], [`policies`] | what needs no service |
//! | [`services`], [`node_name`] | registrar, verifier and CA |
//! | [`packages`] | files of a repository's packages, and who owns them |
//! | [`signing`] | keys of signed documents |
//! | [`record`], [`look`], [`appraisal`] | own checks: nothing is taken on a service's word |
//! | [`provision`], [`pcr_choice`], [`recovery`] | from a waiting node to a trusted one that boots alone; a new K; ways back |

#![forbid(unsafe_code)]

pub mod appraisal;
pub mod approvals;
pub mod cli;
mod clock;
pub mod commands;
mod document_key;
mod error;
pub mod evidence_file;
mod files;
mod home;
pub mod init;
pub mod local;
mod log;
pub mod look;
pub mod node_name;
pub mod output;
pub mod packages;
pub mod pcr_choice;
pub mod policies;
pub mod provision;
pub mod record;
pub mod recovery;
pub mod seal;
pub mod services;
pub mod signing;
mod unpack;

pub use error::{Error, Party, Refusal};
pub use home::{Config, Home, HOME_VARIABLE};
