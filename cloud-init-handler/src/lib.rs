//! Sealed user-data for cloud-init: opened on the attested node, and nothing else is taken.
//!
//! Two ways in, one rule. With the envelope, the sealed documents come through the hand-over and [`seed`](seed::seed)
//! makes them cloud-init's only seed; through a cloud's metadata service they come as parts of type
//! `text/x-bootkeep-sealed`. Either way cloud-init's guard (`bootkeep_sealed.py`) puts every part to this program:
//! a sealed part is opened here, any other part is refused unless the owner has allowed it.
//!
//! ```text
//! seed      before cloud-init-local.service   hand-over → seed folder, keys kept in tmpfs, guard installed
//! open      for each sealed part              sealed on stdin → plain on stdout
//! applied   when cloud-init has walked it     noted for `check`
//! unsealed  for each other part               exit code says whether it may pass
//! check     after cloud-init.service          fails loudly unless exactly the sealed user-data was applied
//! ```
//!
//! All decisions are here, in functions without side effects where that can be; the Python and the units only connect.

#![forbid(unsafe_code)]

pub mod check;
mod config;
mod guard;
mod instance;
mod open;
pub mod part;
mod places;
mod record;
pub mod seed;
mod state;
mod surroundings;

pub use config::{Config, ConfigError};
pub use open::OpenError;
pub use places::Places;
pub use surroundings::{ensure_tmpfs, NotTmpfs};
