//! Rows of K sets and shares, read.

use std::collections::HashMap;

use bootkeep_protocol::{NodeId, ShareId};
use sqlx::{any::AnyRow, Any, Row, Transaction};
use subtle::ConstantTimeEq;

use super::{NamedShare, SecretSet};
use crate::{
    error::VerifierError,
    fleet::NewEnrolment,
    keys::{id_used, KeySet, KeyTerms, Keys},
    store::{document, Database, Sealer},
};

/// A set as it is stored.
pub(super) struct SetRow {
    pub(super) number: i64,
    pub(super) terms: Option<KeyTerms>,
    pub(super) envelope: String,
    pub(super) boots: bool,
    pub(super) sent: bool,
    pub(super) kept_at_ms: u64,
    /// Oldest first.
    pub(super) shares: Vec<ShareRow>,
}

pub(super) struct ShareRow {
    pub(super) ordinal: i64,
    pub(super) id: Option<ShareId>,
    pub(super) sealed: String,
}

pub(super) fn bad(what: &str) -> VerifierError {
    VerifierError::Document(format!("{what} of a K set cannot be read"))
}

fn share_row(row: &AnyRow) -> Result<ShareRow, VerifierError> {
    let id: String = row.try_get("share_id")?;
    let id = Some(id).filter(|id| !id.is_empty());
    Ok(ShareRow {
        ordinal: row.try_get("ordinal")?,
        id: id
            .map(|id| id.parse().map_err(|_| bad("a share id")))
            .transpose()?,
        sealed: row.try_get("share_v")?,
    })
}

fn set_row(row: &AnyRow) -> Result<SetRow, VerifierError> {
    let terms: String = row.try_get("terms")?;
    let kept_at_ms: i64 = row.try_get("kept_at_ms")?;
    Ok(SetRow {
        number: row.try_get("number")?,
        terms: if terms.is_empty() {
            None
        } else {
            Some(document(&terms)?)
        },
        envelope: row.try_get("envelope")?,
        boots: row.try_get::<i64, _>("boots")? != 0,
        sent: row.try_get::<i64, _>("sent")? != 0,
        kept_at_ms: u64::try_from(kept_at_ms).map_err(|_| bad("kept_at_ms"))?,
        shares: Vec::new(),
    })
}

impl SetRow {
    /// What is known of it; `None` for a node that does not keep its U.
    pub(super) fn known(&self) -> Result<Option<KeySet>, VerifierError> {
        let Some(terms) = &self.terms else {
            return Ok(None);
        };
        let latched = terms.latched_pcr15.as_slice().try_into();
        let ids = self.shares.iter().map(|share| share.id);
        Ok(Some(KeySet {
            number: self.number,
            share_id: terms.share_id,
            latched: latched.map_err(|_| bad("latched_pcr15"))?,
            pcr_policies: terms.pcr_policies.clone(),
            authorities: terms.authorities.clone(),
            boots: self.boots,
            sent: self.sent,
            kept_at_ms: (self.kept_at_ms > 0).then_some(self.kept_at_ms),
            shares: ids
                .collect::<Option<_>>()
                .ok_or_else(|| bad("a share id"))?,
        }))
    }

    pub(super) fn secrets(
        self,
        id: &NodeId,
        sealer: &Sealer,
        fresh: bool,
    ) -> Result<SecretSet, VerifierError> {
        let open =
            |share: &ShareRow| Ok((share.id, sealer.open_share(id, share.id, &share.sealed)?));
        let shares: Result<Vec<NamedShare>, VerifierError> = self.shares.iter().map(open).collect();
        Ok(SecretSet {
            known: self.known()?,
            envelope: sealer.open_envelope(id, self.number, &self.envelope)?,
            shares: shares?,
            fresh,
        })
    }
}

impl SetRow {
    /// An enrolment with this set's share id must have its K: the same envelope and, while it is there, the same V.
    pub(super) fn check_same(
        &self,
        sealer: &Sealer,
        id: &NodeId,
        new: &NewEnrolment,
    ) -> Result<(), VerifierError> {
        let envelope = sealer.open_envelope(id, self.number, &self.envelope)?;
        let name = new.change.share_id();
        let share = self.shares.iter().find(|share| share.id == name);
        let share = share
            .map(|share| sealer.open_share(id, share.id, &share.sealed))
            .transpose()?;
        let same_v = share.is_none_or(|share| {
            let (held, given) = (share.expose(), new.secrets.share.expose());
            bool::from(held.ct_eq(given))
        });
        if envelope == new.secrets.envelope && same_v {
            return Ok(());
        }
        Err(VerifierError::Refused(id_used()))
    }
}

pub(super) fn keys_of(sets: &[SetRow]) -> Result<Keys, VerifierError> {
    let known = sets.iter().filter_map(|set| set.known().transpose());
    Ok(Keys(known.collect::<Result<_, _>>()?))
}

const SETS: &str = "SELECT node_id, number, terms, envelope, boots, sent, kept_at_ms FROM key_sets";
const SHARES: &str = "SELECT node_id, number, ordinal, share_id, share_v FROM key_shares";

/// Sets of one node, newest first.
pub(super) async fn read_sets(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
) -> Result<Vec<SetRow>, VerifierError> {
    let sets = format!("{SETS} WHERE node_id = $1 ORDER BY number DESC");
    let sets = sqlx::query(&sets).bind(id.as_str());
    let sets = sets.fetch_all(&mut **transaction).await?;
    let shares = format!("{SHARES} WHERE node_id = $1 ORDER BY ordinal");
    let shares = sqlx::query(&shares).bind(id.as_str());
    let shares = shares.fetch_all(&mut **transaction).await?;
    join(&sets, &shares)
}

fn join(sets: &[AnyRow], shares: &[AnyRow]) -> Result<Vec<SetRow>, VerifierError> {
    let mut sets: Vec<SetRow> = sets.iter().map(set_row).collect::<Result<_, _>>()?;
    for row in shares {
        let number: i64 = row.try_get("number")?;
        let set = sets.iter_mut().find(|set| set.number == number);
        set.ok_or_else(|| bad("the number"))?
            .shares
            .push(share_row(row)?);
    }
    Ok(sets)
}

impl Database {
    /// K sets of one node, newest first.
    pub(in crate::store) async fn keys(&self, id: &NodeId) -> Result<Keys, VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        keys_of(&read_sets(&mut transaction, id).await?)
    }

    /// K sets of every node, newest first.
    pub(in crate::store) async fn all_keys(&self) -> Result<HashMap<String, Keys>, VerifierError> {
        let mut rows: HashMap<String, (Vec<AnyRow>, Vec<AnyRow>)> = HashMap::new();
        let pool = self.store.pool();
        let sets = format!("{SETS} WHERE terms <> '' ORDER BY number DESC");
        for row in sqlx::query(&sets).fetch_all(pool).await? {
            rows.entry(row.try_get("node_id")?).or_default().0.push(row);
        }
        let shares = format!("{SHARES} WHERE share_id <> '' ORDER BY ordinal");
        for row in sqlx::query(&shares).fetch_all(pool).await? {
            rows.entry(row.try_get("node_id")?).or_default().1.push(row);
        }
        let mut all = HashMap::new();
        for (id, (sets, shares)) in rows {
            match join(&sets, &shares).and_then(|sets| keys_of(&sets)) {
                Ok(keys) => drop(all.insert(id, keys)),
                Err(error) => tracing::error!(node = id, %error, "K sets cannot be read"),
            }
        }
        Ok(all)
    }
}
