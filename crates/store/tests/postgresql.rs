//! What PostgreSQL promises: the same statements, the same durability, several services at once.
#![allow(clippy::unwrap_used)]

mod postgres;

use bootkeep_store::Store;
use postgres::Postgres;
use sqlx::{migrate::Migrator, Row};

static MIGRATOR: Migrator = sqlx::migrate!("tests/migrations");

async fn put(store: &Store, name: &str, size: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO things (name, size) VALUES ($1, $2)")
        .bind(name)
        .bind(size)
        .execute(store.pool())
        .await
        .map(drop)
}

async fn count(store: &Store) -> i64 {
    let row = sqlx::query("SELECT COUNT(*) FROM things")
        .fetch_one(store.pool())
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn what_was_stored_outlives_a_crash_of_the_database() {
    let cluster = Postgres::start();
    let store = Store::connect(&cluster.url(), &MIGRATOR).await.unwrap();
    put(&store, "a", i64::MAX).await.unwrap();
    cluster.restart();
    let row = sqlx::query("SELECT size FROM things WHERE name = $1")
        .bind("a")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>("size"), i64::MAX);
    assert!(put(&store, "a", 1).await.is_err(), "a name was taken twice");
    store.close().await;
}

#[tokio::test]
async fn services_that_start_at_once_share_the_tables() {
    let cluster = Postgres::start();
    let url = cluster.url();
    let services = (0..4).map(|n| {
        let url = url.clone();
        tokio::spawn(async move {
            let store = Store::connect(&url, &MIGRATOR).await.unwrap();
            put(&store, &format!("s{n}"), n).await.unwrap();
            store.close().await;
        })
    });
    for service in services.collect::<Vec<_>>() {
        service.await.unwrap();
    }
    let store = Store::connect(&url, &MIGRATOR).await.unwrap();
    assert_eq!(count(&store).await, 4);
    store.close().await;
}

/// As docs/day-2.md says.
#[tokio::test]
async fn a_dump_comes_back_in_another_cluster() {
    let cluster = Postgres::start();
    let store = Store::connect(&cluster.url(), &MIGRATOR).await.unwrap();
    put(&store, "before", 7).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let dump = dump.to_str().unwrap();
    cluster.client("pg_dump", &["--format=custom", "--file", dump, "postgres"]);
    put(&store, "after", 8).await.unwrap();
    store.close().await;

    let fresh = Postgres::start();
    let restore = [
        "--exit-on-error",
        "--single-transaction",
        "--dbname",
        "postgres",
        dump,
    ];
    fresh.client("pg_restore", &restore);
    let store = Store::connect(&fresh.url(), &MIGRATOR).await.unwrap();
    assert_eq!(count(&store).await, 1);
    put(&store, "later", 9).await.unwrap();
    store.close().await;
}
