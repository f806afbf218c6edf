//! Reports about the files of the next boot, at rest.

use std::collections::HashMap;

use bootkeep_protocol::{boot_files::BootFiles, NodeId};
use sqlx::Row;

use super::{document, json, Database};
use crate::error::VerifierError;

impl Database {
    /// The last report of every node. One that cannot be read is left out.
    pub(super) async fn all_boot_files(&self) -> Result<HashMap<String, BootFiles>, VerifierError> {
        let rows = sqlx::query("SELECT node_id, report FROM boot_files")
            .fetch_all(self.store.pool())
            .await?;
        let mut all = HashMap::new();
        for row in rows {
            let id: String = row.try_get("node_id")?;
            match document(&row.try_get::<String, _>("report")?) {
                Ok(report) => drop(all.insert(id, report)),
                Err(error) => {
                    tracing::warn!(node = id, %error, "a report of boot files is left out");
                }
            }
        }
        Ok(all)
    }

    /// The node's last report.
    pub(super) async fn boot_files(
        &self,
        node: &NodeId,
    ) -> Result<Option<BootFiles>, VerifierError> {
        let row = sqlx::query("SELECT report FROM boot_files WHERE node_id = $1")
            .bind(node.as_str())
            .fetch_optional(self.store.pool())
            .await?;
        let report: Option<String> = row.map(|row| row.try_get("report")).transpose()?;
        Ok(report.and_then(|report| document(&report).ok()))
    }

    /// Stores the report in place of the node's last.
    pub(crate) async fn save_boot_files(
        &self,
        node: &NodeId,
        report: &BootFiles,
    ) -> Result<(), VerifierError> {
        sqlx::query(
            "INSERT INTO boot_files (node_id, report) VALUES ($1, $2) \
             ON CONFLICT (node_id) DO UPDATE SET report = excluded.report",
        )
        .bind(node.as_str())
        .bind(json(report)?)
        .execute(self.store.pool())
        .await?;
        Ok(())
    }
}
