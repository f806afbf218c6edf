//! The statements that changes of K sets are made of.

use bootkeep_protocol::NodeId;
use sqlx::{Any, Transaction};

use super::rows::ShareRow;
use crate::error::VerifierError;

/// Takes the node's row; false when there is none. The first statement of every change.
pub(in crate::store) async fn take_node(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
) -> Result<bool, VerifierError> {
    let taken = sqlx::query("UPDATE nodes SET node_id = $1 WHERE node_id = $1")
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(taken.rows_affected() == 1)
}

pub(super) async fn delete_set(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
    number: i64,
) -> Result<(), VerifierError> {
    for table in ["key_sets", "key_shares"] {
        sqlx::query(&format!(
            "DELETE FROM {table} WHERE node_id = $1 AND number = $2"
        ))
        .bind(id.as_str())
        .bind(number)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

/// Deletes every K set of the node.
pub(in crate::store) async fn delete_all(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
) -> Result<(), VerifierError> {
    for table in ["key_sets", "key_shares"] {
        sqlx::query(&format!("DELETE FROM {table} WHERE node_id = $1"))
            .bind(id.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

pub(super) async fn insert_share(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
    number: i64,
    share: &ShareRow,
) -> Result<(), VerifierError> {
    let name = share.id.map_or_else(String::new, |id| id.to_string());
    sqlx::query(
        "INSERT INTO key_shares (node_id, number, ordinal, share_id, share_v) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.as_str())
    .bind(number)
    .bind(share.ordinal)
    .bind(name)
    .bind(share.sealed.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
