//! The K of an enrolment, stored.

use bootkeep_protocol::NodeId;
use sqlx::{Any, Transaction};

use super::{
    rows::{bad, keys_of, read_sets, SetRow, ShareRow},
    statements::{delete_set, insert_share, take_node},
};
use crate::{
    error::VerifierError,
    fleet::NewEnrolment,
    keys::{Keys, Plan},
    store::{json, Sealer},
};

/// Puts the K of an enrolment beside or in place of those that are there; gives what is there then.
pub(in crate::store) async fn enrol(
    transaction: &mut Transaction<'_, Any>,
    sealer: &Sealer,
    id: &NodeId,
    new: &NewEnrolment,
) -> Result<Keys, VerifierError> {
    take_node(transaction, id).await?;
    let sets = read_sets(transaction, id).await?;
    match keys_of(&sets)?.plan(new.change)? {
        Plan::Same(number) => {
            let set = sets.iter().find(|set| set.number == number);
            set.ok_or_else(|| bad("the number"))?
                .check_same(sealer, id, new)?;
            replace_terms(transaction, id, number, new).await?;
        }
        Plan::New {
            number,
            dropped,
            older_boot,
        } => {
            // A set of a node that did not keep its U serves nobody any more.
            let goes = |set: &&SetRow| set.terms.is_none() || dropped.contains(&set.number);
            for set in sets.iter().filter(goes) {
                delete_set(transaction, id, set.number).await?;
            }
            if !older_boot {
                stop_booting(transaction, id).await?;
            }
            insert_set(transaction, sealer, id, number, new).await?;
        }
    }
    keys_of(&read_sets(transaction, id).await?)
}

async fn replace_terms(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
    number: i64,
    new: &NewEnrolment,
) -> Result<(), VerifierError> {
    sqlx::query("UPDATE key_sets SET terms = $3 WHERE node_id = $1 AND number = $2")
        .bind(id.as_str())
        .bind(number)
        .bind(terms_text(new)?)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn terms_text(new: &NewEnrolment) -> Result<String, VerifierError> {
    Ok(new.keys.as_ref().map(json).transpose()?.unwrap_or_default())
}

async fn stop_booting(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
) -> Result<(), VerifierError> {
    sqlx::query("UPDATE key_sets SET boots = 0 WHERE node_id = $1")
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn insert_set(
    transaction: &mut Transaction<'_, Any>,
    sealer: &Sealer,
    id: &NodeId,
    number: i64,
    new: &NewEnrolment,
) -> Result<(), VerifierError> {
    sqlx::query(
        "INSERT INTO key_sets (node_id, number, terms, envelope, boots, sent, kept_at_ms) \
         VALUES ($1, $2, $3, $4, 1, 0, 0)",
    )
    .bind(id.as_str())
    .bind(number)
    .bind(terms_text(new)?)
    .bind(sealer.seal_envelope(id, number, &new.secrets.envelope)?)
    .execute(&mut **transaction)
    .await?;
    let name = new.change.share_id();
    let share = ShareRow {
        ordinal: 0,
        id: name,
        sealed: sealer.seal_share(id, name, &new.secrets.share)?,
    };
    insert_share(transaction, id, number, &share).await
}
