//! Evidence: parses and verifies TPM quotes, TCG event logs and IMA measurement lists; reads boot files to foretell them.
//!
//! Pure: bytes in, typed claims or a typed error out. No I/O, no TPM library, no async. Everything here comes from a
//! machine nobody trusts yet, so every length is checked, every list is bounded, and nothing is believed before its
//! digest has been found in a verified [`quote::Quote`].
//!
//! | module | what | source |
//! |---|---|---|
//! | [`key`] | public areas of EK and AK | TPM 2.0 Part 2 §12.2.4 |
//! | [`quote`] | `TPMS_ATTEST`, `TPMT_SIGNATURE` | TPM 2.0 Part 2 §10.12.8, §11.3.4 |
//! | [`eventlog`] | crypto-agile boot event log | TCG PC Client Platform Firmware Profile §10 |
//! | [`ima`] | IMA measurement list | Linux `security/integrity/ima` |
//! | [`pcr`] | PCR values | |
//! | [`pe`] | PE images, their Authenticode digest | PE/COFF, Windows Authenticode |

#![forbid(unsafe_code)]
// An index out of bounds is a panic a stranger can cause.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod eventlog;
pub mod ima;
pub mod key;
pub mod pcr;
pub mod pe;
pub mod quote;
mod reader;
mod text;

pub use key::{AkPublic, EkPublic, KeyError};
pub use pcr::PcrValues;

pub use quote::{ClockInfo, Quote, QuoteError, UnverifiedQuote};
pub use text::printable;
