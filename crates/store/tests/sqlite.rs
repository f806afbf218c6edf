//! What the embedded database promises.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use bootkeep_store::{Store, StoreError};
use sqlx::{migrate::Migrator, Row};

static MIGRATOR: Migrator = sqlx::migrate!("tests/migrations");

async fn put(store: &Store, name: &str, size: i64) {
    sqlx::query("INSERT INTO things (name, size) VALUES ($1, $2)")
        .bind(name)
        .bind(size)
        .execute(store.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/deep/a.db", folder.path().display());
    let store = Store::connect(&url, &MIGRATOR).await.unwrap();
    put(&store, "a", 7).await;
    store.close().await;
    let file = folder.path().join("deep/a.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::connect(&url, &MIGRATOR).await.unwrap();
    let row = sqlx::query("SELECT size FROM things WHERE name = $1")
        .bind("a")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>("size"), 7);
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn every_connection_writes_ahead_and_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/a.db", folder.path().display());
    let store = Store::connect(&url, &MIGRATOR).await.unwrap();
    let one = async |pragma: &str| {
        let row = sqlx::query(pragma).fetch_one(store.pool()).await.unwrap();
        row.try_get::<String, _>(0)
            .unwrap_or_else(|_| row.get::<i64, _>(0).to_string())
    };
    assert_eq!(one("PRAGMA journal_mode").await, "wal");
    assert_eq!(one("PRAGMA synchronous").await, "2");
    let writers: Vec<_> = (0..16)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &format!("w{n}"), n).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let row = sqlx::query("SELECT COUNT(*) FROM things")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>(0), 16);
}

#[tokio::test]
async fn bad_urls_are_refused_without_repeating_a_password() {
    for url in [
        "mysql://u:sesame@h/d",
        "postgre://u:sesame@h/d",
        "sqlite://relative.db",
        "nothing",
    ] {
        let error = Store::connect(url, &MIGRATOR).await.unwrap_err();
        assert!(matches!(error, StoreError::Url(_)), "{url}");
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
}
