//! Models of a size that can be visited whole in seconds.

#![allow(dead_code)]

use bootkeep_model::{Bounds, Config, Guards};

const BASE: Bounds = Bounds {
    keys: 3,
    shares: 2,
    sets: 2,
    copies: 0,
    again: false,
    rotate: true,
    rogue: false,
    crashes: true,
    revocations: 0,
};

/// First boot, reboots, rotation of V and of K, power cuts and crashes.
pub(crate) const LIFE: Bounds = BASE;
/// The same with more unacknowledged shares.
pub(crate) const MANY_SHARES: Bounds = Bounds { shares: 3, ..BASE };
/// Provisioned again, revoked and reinstated; rogue systems, a cleared TPM.
pub(crate) const AGAIN: Bounds = Bounds {
    keys: 5,
    sets: 3,
    again: true,
    rotate: false,
    rogue: true,
    revocations: 1,
    ..BASE
};
/// Provisioned again, nothing else.
pub(crate) const TWICE: Bounds = Bounds {
    keys: 4,
    again: true,
    rotate: false,
    ..BASE
};
/// Everything the owner can do, in any order.
pub(crate) const OWNER: Bounds = Bounds {
    keys: 6,
    sets: 4,
    again: true,
    revocations: 1,
    ..BASE
};
/// Rogue systems and a copy of the database.
pub(crate) const ROGUE: Bounds = Bounds {
    keys: 1,
    copies: 1,
    rotate: false,
    rogue: true,
    revocations: 1,
    ..BASE
};
/// Two copies while V rotates.
pub(crate) const SPY: Bounds = Bounds {
    keys: 1,
    copies: 2,
    ..BASE
};
/// The same with more unacknowledged shares.
pub(crate) const SPY_MANY_SHARES: Bounds = Bounds { shares: 3, ..SPY };
/// Two copies while K rotates too.
pub(crate) const SPY_ON_KEYS: Bounds = Bounds {
    keys: 2,
    copies: 2,
    crashes: false,
    ..BASE
};

/// The product in these bounds.
pub(crate) fn product(bounds: Bounds) -> Config {
    Config {
        bounds,
        guards: Guards::all(),
    }
}
