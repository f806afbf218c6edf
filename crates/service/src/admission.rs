//! How many connections there may be, in all and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bootkeep_protocol::limits::HANDSHAKE_SECONDS;
use serde::Deserialize;

/// What a front bears. In a configuration file: the key `limits`, each value optional.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Of these, from one IPv4 address or one IPv6 /64. Generous: a site of nodes may stand behind one NAT.
    pub per_address: usize,
    /// For the TLS handshake (seconds).
    pub handshake_seconds: u64,
    /// For the head of a request, and between two requests (seconds).
    pub header_seconds: u64,
    /// For bytes we sent to be acknowledged, and for a peer that takes none (seconds).
    pub stall_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_address: 4_000,
            handshake_seconds: HANDSHAKE_SECONDS,
            header_seconds: HANDSHAKE_SECONDS,
            stall_seconds: 20,
        }
    }
}

impl Limits {
    pub(crate) fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    pub(crate) fn header(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds.into())
    }
}

/// Counts connections.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// The right to be open; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    source: IpAddr,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many connections")]
    All,
    #[error("too many connections from this address")]
    Source,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            open: Mutex::default(),
        })
    }

    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Full> {
        let source = source_of(address);
        let mut open = self.open();
        if open.all >= self.limits.connections {
            return Err(Full::All);
        }
        let here = open.by_source.entry(source).or_default();
        if *here >= self.limits.per_address {
            return Err(Full::Source);
        }
        *here += 1;
        open.all += 1;
        Ok(Permit {
            admission: Arc::clone(self),
            source,
        })
    }

    /// The counts are whole after any panic.
    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.all = open.all.saturating_sub(1);
        if let Some(here) = open.by_source.get_mut(&self.source) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// One IPv6 subscriber has a /64, so that is what counts.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_address: usize) -> Arc<Admission> {
        Admission::new(Limits {
            connections,
            per_address,
            ..Limits::default()
        })
    }

    #[test]
    fn one_source_cannot_take_everything() {
        let admission = admission(3, 2);
        let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Full::Source);
        let _other = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), Full::All);
        drop(first);
        assert!(admission.admit(a).is_ok());
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let admission = admission(10, 10);
        for last in 0..10 {
            drop(admission.admit([10, 0, 0, last].into()).unwrap());
        }
        assert!(admission.open().by_source.is_empty());
        assert_eq!(admission.open().all, 0);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let admission = admission(10, 1);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let _first = admission.admit(address("2001:db8:1:2::1")).unwrap();
        assert!(admission.admit(address("2001:db8:1:2:ffff::9")).is_err());
        assert!(admission.admit(address("2001:db8:1:3::1")).is_ok());
        let _v4 = admission.admit(address("10.0.0.1")).unwrap();
        assert!(admission.admit(address("::ffff:10.0.0.1")).is_err());
    }
}
