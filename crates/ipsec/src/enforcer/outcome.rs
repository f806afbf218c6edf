//! What came of an order.

use bootkeep_protocol::revocation::Enforcement;

use crate::{
    kernel::{Changes, KernelError},
    vici::ViciError,
};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which way worked.
    pub enforcement: Enforcement,
    /// One line for people.
    pub detail: String,
    /// Numbers.
    pub counts: Counts,
}

/// What was ended, removed and blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// IKE associations that charon ended.
    pub associations: usize,
    /// States that were removed from the kernel.
    pub states: usize,
    /// Addresses and networks that are blocked because of it.
    pub blocked: usize,
}

impl Changes {
    /// Both together.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            added: self.added + later.added,
            removed: self.removed + later.removed,
            states: self.states + later.states,
        }
    }
}

impl Outcome {
    /// Of a cut: what the kernel did, how many associations charon ended, how many addresses are known.
    pub(super) fn of(
        kernel: Result<Changes, KernelError>,
        ended: Result<usize, ViciError>,
        blocked: usize,
    ) -> Self {
        let is_blocked = kernel.is_ok() && blocked > 0;
        let enforcement = match &ended {
            Ok(_) => Enforcement::Ike,
            Err(_) if is_blocked => Enforcement::Kernel,
            Err(_) => Enforcement::Failed,
        };
        let counts = Counts {
            associations: *ended.as_ref().unwrap_or(&0),
            states: kernel.as_ref().map_or(0, |changes| changes.states),
            blocked: if kernel.is_ok() { blocked } else { 0 },
        };
        let by_ike = match ended {
            Ok(number) => format!("{number} associations ended"),
            Err(error) => format!("charon: {error}"),
        };
        let by_kernel = match kernel {
            Ok(_) if blocked == 0 => "no address of it is known to block".to_owned(),
            Ok(changes) => format!(
                "{blocked} addresses blocked, {} states removed",
                changes.states
            ),
            Err(error) => format!("kernel: {error}"),
        };
        Self {
            enforcement,
            detail: format!("{by_ike}; {by_kernel}"),
            counts,
        }
    }

    /// Of a return: the kernel must have lifted its blocks; charon may come later.
    pub(super) fn of_return(
        kernel: Result<Changes, KernelError>,
        begun: Result<(), ViciError>,
    ) -> Self {
        let enforcement = match (&kernel, &begun) {
            (Err(_), _) => Enforcement::Failed,
            (Ok(_), Err(_)) => Enforcement::Kernel,
            (Ok(_), Ok(())) => Enforcement::Ike,
        };
        let by_kernel = match kernel {
            Ok(changes) => format!("{} block policies removed", changes.removed),
            Err(error) => format!("still blocked: kernel: {error}"),
        };
        let by_ike = begun.map_or_else(|error| format!("; charon: {error}"), |()| String::new());
        Self {
            enforcement,
            detail: format!("{by_kernel}{by_ike}"),
            counts: Counts::default(),
        }
    }
}
