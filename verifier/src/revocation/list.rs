//! The CA's revocation list at the verifier: fetched at the start and at half of its life, checked, and kept for every node.
//!
//! A node whose IKE daemon wants to know the status of certificates (`revocation: ifuri`) lets nobody in without a list that
//! is valid. So there is one from the start, and an old one is good until it runs out: no failure takes it away.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, OnceLock, Weak,
    },
    time::Duration,
};

use bootkeep_link::{Backoff, HttpError};
use bootkeep_pki::list::{ListAuthority, ListError, RevocationList};
use bootkeep_protocol::ca::CurrentCrl;
use tokio::sync::{watch, Notify};

use super::{
    ca::CaNotices,
    table::{StoredCrl, Table},
    On,
};
use crate::{clock::now_ms, error::VerifierError, service::Verifier};

/// Shortest and longest pause before the CA is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Longest time between two fetches: the owner can have a certificate revoked at the CA alone, and clocks are set.
const LONGEST: Duration = Duration::from_secs(600);

/// Why a list is not taken. The one before stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    #[error(transparent)]
    List(#[from] ListError),
    #[error("the CA shows another authority than the one whose lists were taken so far; if the CA was set up anew, see \"another CA\" in docs/revocation.md")]
    OtherAuthority,
    #[error("whose list it is is not known yet")]
    NoAuthority,
    #[error(
        "list {found} is older than list {held}, which nodes have: was the CA's database set back?"
    )]
    Back { held: u64, found: u64 },
    #[error("there are two different lists with number {0}")]
    Twice(u64),
    #[error("list {0} has run out: is the CA's clock right, or ours?")]
    RunOut(u64),
    #[error(transparent)]
    Ours(#[from] VerifierError),
}

/// Why there is no newer list.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the CA: {0}")]
    Ca(#[from] HttpError),
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error("the CA has not renewed list {0}, and half of its life is over")]
    Old(u64),
}

/// Whose lists count: certificate and what is read of it.
#[derive(Debug)]
struct Pinned {
    certificate: Vec<u8>,
    authority: ListAuthority,
}

/// The newest list.
#[derive(Debug)]
pub(super) struct Lists {
    newest: watch::Sender<Option<Arc<RevocationList>>>,
    pinned: OnceLock<Pinned>,
    /// Number of the newest stored list that could not be used.
    unusable: AtomicU64,
    /// Fetches that failed since the last one that did not.
    failures: AtomicU64,
    /// The CA is to be asked now.
    wanted: Notify,
}

/// Numbers for `/metrics`.
pub(super) struct ListNumbers {
    pub(super) number: u64,
    pub(super) expires_in_seconds: u64,
    pub(super) failures: u64,
}

fn now() -> u64 {
    now_ms() / 1000
}

impl Lists {
    /// Goes on with the list of before. One that cannot be read is as none: the CA has it.
    pub(super) async fn load(table: &Table) -> Result<Self, VerifierError> {
        let lists = Self {
            newest: watch::Sender::new(None),
            pinned: OnceLock::new(),
            unusable: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            wanted: Notify::new(),
        };
        lists.look(table).await?;
        Ok(lists)
    }

    /// Takes in what another verifier has stored.
    pub(super) async fn look(&self, table: &Table) -> Result<(), VerifierError> {
        let seen = self.number().max(self.unusable.load(Ordering::Relaxed));
        let Some(stored) = table.crl_after(seen).await? else {
            return Ok(());
        };
        // One of an earlier version has no authority: the CA is asked.
        let shown = Some(stored.authority.as_slice()).filter(|shown| !shown.is_empty());
        match self.check(&stored.der, shown) {
            Ok(list) => self.offer(list),
            Err(error) => {
                self.unusable.store(stored.number, Ordering::Relaxed);
                tracing::error!(%error, number = stored.number, "the stored revocation list is not used");
            }
        }
        Ok(())
    }

    /// Changes with every list.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<RevocationList>>> {
        self.newest.subscribe()
    }

    /// The newest list, when it is newer than this one.
    pub(super) fn after(&self, number: u64) -> Option<Arc<RevocationList>> {
        let newest = self.newest.borrow();
        newest.as_ref().filter(|list| list.number > number).cloned()
    }

    /// Of the newest list; 0 when there is none.
    fn number(&self) -> u64 {
        self.newest.borrow().as_ref().map_or(0, |list| list.number)
    }

    pub(super) fn numbers(&self) -> ListNumbers {
        let newest = self.newest.borrow();
        let next_update = newest.as_ref().map_or(0, |list| list.next_update);
        ListNumbers {
            number: newest.as_ref().map_or(0, |list| list.number),
            expires_in_seconds: next_update.saturating_sub(now()),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Takes a list of the CA's; `authority` is the certificate that came with it. Durable, and on its way to every node,
    /// when it returns.
    pub(super) async fn take(
        &self,
        table: &Table,
        der: &[u8],
        authority: Option<&[u8]>,
    ) -> Result<Arc<RevocationList>, TakeError> {
        let list = self.check(der, authority)?;
        if let Some(held) = self.newest.borrow().as_ref() {
            if held.number > list.number {
                return Err(TakeError::Back {
                    held: held.number,
                    found: list.number,
                });
            }
            if held.number == list.number {
                return match held.der == list.der {
                    true => Ok(held.clone()),
                    false => Err(TakeError::Twice(list.number)),
                };
            }
        }
        if list.next_update <= now() {
            return Err(TakeError::RunOut(list.number));
        }
        let pinned = self.pinned.get().ok_or(TakeError::NoAuthority)?;
        let stored = StoredCrl {
            number: list.number,
            der: list.der.clone(),
            authority: pinned.certificate.clone(),
        };
        table.keep_crl(&stored).await?;
        self.offer(list.clone());
        Ok(list)
    }

    /// The first authority is the one that counts: it came from a service that has the owner's certificate of a CA.
    fn check(&self, der: &[u8], shown: Option<&[u8]>) -> Result<Arc<RevocationList>, TakeError> {
        if let Some(pinned) = self.pinned.get() {
            if shown.is_some_and(|shown| shown != pinned.certificate) {
                return Err(TakeError::OtherAuthority);
            }
            return Ok(Arc::new(pinned.authority.read(der)?));
        }
        let certificate = shown.ok_or(TakeError::NoAuthority)?;
        let authority = ListAuthority::from_der(certificate)?;
        let list = Arc::new(authority.read(der)?);
        let pinned = Pinned {
            certificate: certificate.to_vec(),
            authority,
        };
        // Of two that come at once the second is compared with the first.
        match self.pinned.set(pinned) {
            Ok(()) => Ok(list),
            Err(_) => self.check(der, shown),
        }
    }

    fn offer(&self, list: Arc<RevocationList>) {
        self.newest.send_if_modified(|newest| {
            let newer = newest.as_ref().is_none_or(|old| old.number < list.number);
            if newer {
                *newest = Some(list);
            }
            newer
        });
    }

    /// Has the CA asked now.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// How long the newest list is good without another.
    fn rest(&self) -> Duration {
        let newest = self.newest.borrow();
        let half = newest.as_ref().map_or(0, |list| list.half_life());
        Duration::from_secs(half.saturating_sub(now()))
    }

    /// Waits, unless somebody wants a list now.
    async fn wait(&self, time: Duration) {
        // Over or wanted: the CA is asked.
        let _ = tokio::time::timeout(time, self.wanted.notified()).await;
    }

    /// One line for the first failure, the second, the fourth.
    fn failed(&self, error: &FetchError) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_power_of_two() {
            let numbers = self.numbers();
            tracing::warn!(
                %error,
                failures,
                held = numbers.number,
                expires_in_seconds = numbers.expires_in_seconds,
                "there is no newer revocation list of the CA; trying again"
            );
        }
    }
}

/// Keeps the list fresh; ends with the verifier.
pub(super) async fn run(verifier: Weak<Verifier>, lists: Arc<Lists>, ca: CaNotices) {
    let mut backoff = Backoff::between(PAUSES.0, PAUSES.1);
    while let Some(strong) = verifier.upgrade() {
        let Some(on) = strong.revocations.on() else {
            return;
        };
        let renewed = renew(on, &ca).await;
        drop(strong);
        let pause = match renewed {
            Ok(()) => {
                lists.failures.store(0, Ordering::Relaxed);
                backoff.reset();
                lists.rest().min(LONGEST)
            }
            Err(error) => {
                lists.failed(&error);
                backoff.next_pause()
            }
        };
        lists.wait(pause).await;
    }
}

async fn renew(on: &On, ca: &CaNotices) -> Result<(), FetchError> {
    let before = on.lists.number();
    let CurrentCrl { crl, authority } = ca.current_crl().await?;
    let (table, shown) = (&on.log.table, Some(authority.as_slice()));
    let list = on.lists.take(table, crl.as_slice(), shown).await?;
    if on.lists.rest().is_zero() {
        return Err(FetchError::Old(list.number));
    }
    if list.number != before {
        tracing::info!(
            number = list.number,
            expires_in_seconds = list.next_update.saturating_sub(now()),
            "revocation list of the CA"
        );
    }
    Ok(())
}
