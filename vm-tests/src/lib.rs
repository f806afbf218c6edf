//! QEMU and swtpm harness, and the scenarios driven with it.
//!
//! | module | what |
//! |---|---|
//! | [`image`] | the machine's disk, kernel and initramfs, built once and kept |
//! | [`swtpm`], [`tpm_tap`] | its TPM, and the TPM's manufacturer; what the TPM is asked |
//! | [`qemu`], [`serial`] | the machine, and its console |
//! | [`guest`], [`http`] | what the guest finds at the host: metadata, commands |
//! | [`bay`] | where one machine stands: its TPM, its logs, its number |
//! | [`owner`], [`services`] | the owner's command line, and the owner's services |
//! | [`relay`] | a port that leads to a service in a machine |
//! | [`stage`] | all of it together, for one scenario |
//! | [`dns`] | names for the guest |
//! | [`pair`] | two machines with IPsec between them |
//! | [`reboots`] | a machine that is switched on again and again, without its owner |
//! | [`revocations`] | the revocation log, and a violation from its start to its end |
//! | [`scenarios`] | what is proved, one function each |
//! | [`cache`], [`command`], [`progress`] | building once, running programs, showing what goes on |

#![forbid(unsafe_code)]

pub mod bay;
pub mod cache;
pub mod command;
pub mod dns;
pub mod guest;
pub mod http;
pub mod image;
pub mod luks;
pub mod owner;
pub mod pair;
pub mod progress;
pub mod qemu;
pub mod reboots;
pub mod relay;
pub mod revocations;
pub mod scenarios;
pub mod serial;
pub mod services;
pub mod stage;
pub mod swtpm;
pub mod tpm_tap;
