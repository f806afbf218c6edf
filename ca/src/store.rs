//! What survives a restart: the issuing key, every serial, the revocation list.

use bootkeep_pki::{node::RevokedSerial, ocsp::SerialStatus};
use bootkeep_protocol::{ca::CertificateRecord, NodeId};
use bootkeep_store::Store;
use sqlx::{any::AnyRow, migrate::Migrator, Any, Row, Transaction};

use crate::{crl::Crl, CaError};

/// The tables.
pub(crate) static MIGRATOR: Migrator = sqlx::migrate!();

/// The CA's database.
#[derive(Debug)]
pub(crate) struct Database(Store);

/// The issuing key at rest.
#[derive(Debug)]
pub(crate) struct StoredAuthority {
    pub(crate) certificate_pem: String,
    pub(crate) sealed_key: Vec<u8>,
}

/// What a new list is made from.
pub(crate) struct CrlContents {
    pub(crate) number: u64,
    pub(crate) revoked: Vec<RevokedSerial>,
}

/// SQL has no unsigned integers.
fn signed(value: u64) -> Result<i64, CaError> {
    i64::try_from(value).map_err(|_| CaError::Row("number"))
}

fn unsigned(row: &AnyRow, column: &'static str) -> Result<u64, CaError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| CaError::Row(column))
}

fn bytes(row: &AnyRow, column: &'static str) -> Result<Vec<u8>, CaError> {
    hex::decode(row.try_get::<String, _>(column)?).map_err(|_| CaError::Row(column))
}

impl Database {
    pub(crate) async fn open(url: &str) -> Result<Self, CaError> {
        Ok(Self(Store::connect(url, &MIGRATOR).await?))
    }

    pub(crate) async fn authority(&self) -> Result<Option<StoredAuthority>, CaError> {
        let row = sqlx::query("SELECT certificate, sealed_key FROM authority WHERE id = 1")
            .fetch_optional(self.0.pool())
            .await?;
        row.map(|row| {
            Ok(StoredAuthority {
                certificate_pem: row.try_get("certificate")?,
                sealed_key: bytes(&row, "sealed_key")?,
            })
        })
        .transpose()
    }

    /// Keeps an issuing key unless there is one: of two processes that start at once one wins.
    pub(crate) async fn keep_authority(&self, new: &StoredAuthority) -> Result<(), CaError> {
        sqlx::query(
            "INSERT INTO authority (id, certificate, sealed_key) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(new.certificate_pem.as_str())
        .bind(hex::encode(&new.sealed_key))
        .execute(self.0.pool())
        .await?;
        Ok(())
    }

    pub(crate) async fn add(&self, record: &CertificateRecord, label: &str) -> Result<(), CaError> {
        sqlx::query(
            "INSERT INTO certificates (serial, node_id, label, issued_at, not_after, revoked_at, reason) \
             VALUES ($1, $2, $3, $4, $5, 0, '')",
        )
        .bind(record.serial.as_str())
        .bind(record.node_id.as_str())
        .bind(label)
        .bind(signed(record.issued_at)?)
        .bind(signed(record.not_after)?)
        .execute(self.0.pool())
        .await?;
        Ok(())
    }

    /// Every certificate whose row can be read, newest first.
    pub(crate) async fn certificates(&self) -> Result<Vec<CertificateRecord>, CaError> {
        let rows = sqlx::query(
            "SELECT serial, node_id, issued_at, not_after, revoked_at FROM certificates \
             ORDER BY issued_at DESC, serial",
        )
        .fetch_all(self.0.pool())
        .await?;
        let readable = |row: &AnyRow| {
            record(row)
                .inspect_err(|error| tracing::error!(%error, "a certificate's row is left out"))
                .ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    /// What is known of a serial number.
    pub(crate) async fn status(&self, serial: &str) -> Result<SerialStatus, CaError> {
        let row = sqlx::query("SELECT revoked_at FROM certificates WHERE serial = $1")
            .bind(serial)
            .fetch_optional(self.0.pool())
            .await?;
        let Some(row) = row else {
            return Ok(SerialStatus::Unknown);
        };
        Ok(match unsigned(&row, "revoked_at")? {
            0 => SerialStatus::Good,
            at => SerialStatus::Revoked { at },
        })
    }

    /// Revokes what the node has, and puts a list in force that says so: both or nothing.
    pub(crate) async fn revoke(
        &self,
        node: &NodeId,
        reason: &str,
        keep: &[String],
        now: u64,
        list: impl FnOnce(&CrlContents) -> Result<Crl, CaError>,
    ) -> Result<(Vec<String>, Crl), CaError> {
        let mut transaction = self.0.pool().begin().await?;
        let number = next_number(&mut transaction).await?;
        let rows = sqlx::query(
            "SELECT serial FROM certificates WHERE node_id = $1 AND revoked_at = 0 ORDER BY serial",
        )
        .bind(node.as_str())
        .fetch_all(&mut *transaction)
        .await?;
        let serials = rows.iter().map(|row| row.try_get("serial"));
        let mut serials = serials.collect::<Result<Vec<String>, _>>()?;
        serials.retain(|serial| !keep.contains(serial));
        for serial in &serials {
            sqlx::query("UPDATE certificates SET revoked_at = $2, reason = $3 WHERE serial = $1")
                .bind(serial.as_str())
                .bind(signed(now)?)
                .bind(reason)
                .execute(&mut *transaction)
                .await?;
        }
        let crl = put_list(&mut transaction, number, now, list).await?;
        transaction.commit().await?;
        Ok((serials, crl))
    }

    /// Puts a new list in force that says the same.
    pub(crate) async fn renew(
        &self,
        now: u64,
        list: impl FnOnce(&CrlContents) -> Result<Crl, CaError>,
    ) -> Result<Crl, CaError> {
        let mut transaction = self.0.pool().begin().await?;
        let number = next_number(&mut transaction).await?;
        let crl = put_list(&mut transaction, number, now, list).await?;
        transaction.commit().await?;
        Ok(crl)
    }

    /// The list in force; `None` before the first.
    pub(crate) async fn crl(&self) -> Result<Option<Crl>, CaError> {
        let row =
            sqlx::query("SELECT number, next_update, der FROM crl WHERE id = 1 AND der <> ''")
                .fetch_optional(self.0.pool())
                .await?;
        row.map(|row| {
            Ok(Crl {
                number: unsigned(&row, "number")?,
                next_update: unsigned(&row, "next_update")?,
                der: bytes(&row, "der")?,
            })
        })
        .transpose()
    }
}

/// Takes the next number. The first statement of every change of the list: whoever comes second waits here.
async fn next_number(transaction: &mut Transaction<'_, Any>) -> Result<u64, CaError> {
    sqlx::query("UPDATE crl SET number = number + 1 WHERE id = 1")
        .execute(&mut **transaction)
        .await?;
    let row = sqlx::query("SELECT number FROM crl WHERE id = 1")
        .fetch_one(&mut **transaction)
        .await?;
    unsigned(&row, "number")
}

async fn put_list(
    transaction: &mut Transaction<'_, Any>,
    number: u64,
    now: u64,
    list: impl FnOnce(&CrlContents) -> Result<Crl, CaError>,
) -> Result<Crl, CaError> {
    let crl = list(&CrlContents {
        number,
        revoked: revoked(transaction, now).await?,
    })?;
    sqlx::query("UPDATE crl SET next_update = $1, der = $2 WHERE id = 1")
        .bind(signed(crl.next_update)?)
        .bind(hex::encode(&crl.der))
        .execute(&mut **transaction)
        .await?;
    Ok(crl)
}

/// What belongs on a list: everything revoked that could still be taken for valid. An expired certificate stays on for
/// a week more (RFC 5280 §3.3 asks for one list).
async fn revoked(
    transaction: &mut Transaction<'_, Any>,
    now: u64,
) -> Result<Vec<RevokedSerial>, CaError> {
    const WEEK: u64 = 7 * 24 * 3600;
    let rows = sqlx::query(
        "SELECT serial, revoked_at FROM certificates WHERE revoked_at > 0 AND not_after > $1 ORDER BY serial",
    )
    .bind(signed(now.saturating_sub(WEEK))?)
    .fetch_all(&mut **transaction)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(RevokedSerial {
                serial: row.try_get("serial")?,
                revoked_at: unsigned(row, "revoked_at")?,
            })
        })
        .collect()
}

fn record(row: &AnyRow) -> Result<CertificateRecord, CaError> {
    let node_id: String = row.try_get("node_id")?;
    let revoked_at = unsigned(row, "revoked_at")?;
    Ok(CertificateRecord {
        serial: row.try_get("serial")?,
        node_id: node_id.parse().map_err(|_| CaError::Row("node_id"))?,
        issued_at: unsigned(row, "issued_at")?,
        not_after: unsigned(row, "not_after")?,
        revoked_at: (revoked_at > 0).then_some(revoked_at),
    })
}
