//! A model of Three Part Key Derivation over the life of a node: first boot, reboots with nobody at the desk, rotation
//! of V at each of them, rotation of K, revocation, power cuts between any two writes, and an attacker.
//!
//! The model is symbolic: a K or V is a name, U is the pair, and what an attacker can compute is the span of what he has
//! over xor ([`Knowledge`]). Each [`Action`] is one durable write or one message, so a power cut or a crash can come
//! between any two. stateright visits every reachable state and checks the properties of [`properties`];
//! [`Graph::lockout`] looks for states from which there is no way to an unlocked node.
//!
//! Each check of the product that a property depends on is a value in [`Guards`]; a model without it shows the property
//! fail. `docs/model.md` says what is modelled, what is not, and which file each part stands for.

#![forbid(unsafe_code)]

mod action;
mod attacker;
mod config;
mod knowledge;
mod lockout;
mod model;
mod node;
mod rename;
mod share;
mod state;
mod tenant;
mod verifier;

pub use action::{Action, AttackerAction, Fault, NodeAction, Step, TenantAction, VerifierAction};
pub use config::{Bounds, Config, Guards};
pub use knowledge::Knowledge;
pub use lockout::{Graph, Help};
pub use share::{Split, MAX_KEYS};
pub use state::{
    Attacker, Boot, HeaderKey, Journal, KeySet, Node, Offer, OfferedSet, Session, Slot, State,
    System, Tenant, Verifier, STAGED, TURNS,
};

/// Names of the properties.
pub mod properties {
    pub use crate::model::{RECOVERY, REVOKED, ROTATION, SPLIT, U_APPRAISED, V_APPRAISED};
}
