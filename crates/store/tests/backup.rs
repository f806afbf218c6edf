//! A backup is one moment of a running database, and comes back only whole, with its key, and where nothing is.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bootkeep_store::{BackupError, Manifest, Store, Subject};
use sqlx::{migrate::Migrator, Row};
use tempfile::TempDir;

static MIGRATOR: Migrator = sqlx::migrate!("tests/migrations");

struct Place {
    folder: TempDir,
    url: String,
    key: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("state.key");
        fs::write(&key, [7; 32]).unwrap();
        let url = format!("sqlite://{}", folder.path().join("sub/x.db").display());
        Self { folder, url, key }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            service: "verifier",
            url: &self.url,
            keys: vec![("state_key", &self.key)],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn store(&self) -> Store {
        Store::connect(&self.url, &MIGRATOR).await.unwrap()
    }

    async fn restore(&self, from: &Path) -> Result<Manifest, BackupError> {
        let restore = self.subject().restore(from, &MIGRATOR).await?;
        restore.finish().await
    }
}

async fn put(store: &Store, name: &str) {
    sqlx::query("INSERT INTO things (name, size) VALUES ($1, 1)")
        .bind(name)
        .execute(store.pool())
        .await
        .unwrap();
}

async fn count(store: &Store) -> i64 {
    let row = sqlx::query("SELECT COUNT(*) FROM things");
    row.fetch_one(store.pool()).await.unwrap().get(0)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_running_database_comes_back_as_it_was() {
    let place = Place::new();
    let store = place.store().await;
    put(&store, "before").await;
    // A writer that has not committed is not in it, and does not stop it.
    let mut open = store.pool().begin().await.unwrap();
    sqlx::query("INSERT INTO things (name, size) VALUES ('uncommitted', 1)")
        .execute(&mut *open)
        .await
        .unwrap();
    let out = place.path("backup");
    let manifest = place.subject().backup(&out).await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(manifest.service, "verifier");
    let mode = fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(names(place.folder.path()), ["backup", "state.key", "sub"]);
    store.close().await;

    let fresh = Place::new();
    assert_eq!(fresh.restore(&out).await.unwrap(), manifest);
    let database = fresh.path("sub/x.db");
    let mode = fs::metadata(&database).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(names(&fresh.path("sub")), ["x.db"]);
    let store = fresh.store().await;
    assert_eq!(count(&store).await, 1);
    put(&store, "after").await;
    store.close().await;
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let place = Place::new();
    place.store().await.close().await;
    let out = place.path("backup");
    place.subject().backup(&out).await.unwrap();
    let before = fs::read(&out).unwrap();
    let again = place.subject().backup(&out).await;
    assert!(matches!(again, Err(BackupError::Exists(_))));
    let onto = place.restore(&out).await;
    assert!(matches!(onto, Err(BackupError::Exists(_))));
    assert_eq!(fs::read(&out).unwrap(), before);
}

#[tokio::test]
async fn only_a_whole_backup_with_its_key_comes_back() {
    let place = Place::new();
    place.store().await.close().await;
    let good = place.path("backup");
    place.subject().backup(&good).await.unwrap();
    let bytes = fs::read(&good).unwrap();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let flip = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let text = |from: &str, to: &str| {
        let head = String::from_utf8(bytes[..line].to_vec()).unwrap();
        let mut changed = head.replacen(from, to, 1).into_bytes();
        changed.extend(&bytes[line..]);
        changed
    };
    let cases = [
        ("cut", bytes[..bytes.len() - 1].to_vec(), "damaged"),
        ("longer", [&bytes[..], b"x"].concat(), "damaged"),
        ("flipped", flip(line + 200), "damaged"),
        ("empty", Vec::new(), "manifest"),
        ("a database", bytes[line + 1..].to_vec(), "manifest"),
        ("another's", text("verifier", "registrar"), "registrar"),
        ("another format", text("backup-1", "backup-9"), "backup-9"),
        ("a long line", vec![b'{'; 1 << 20], "manifest"),
    ];
    let fresh = Place::new();
    for (name, bytes, named) in cases {
        let file = place.path(name);
        fs::write(&file, bytes).unwrap();
        let error = fresh.restore(&file).await.unwrap_err().to_string();
        assert!(error.contains(named), "{name}: {error}");
        assert!(!fresh.path("sub/x.db").exists(), "{name}");
    }
    fs::write(&fresh.key, [8; 32]).unwrap();
    let other = fresh.restore(&good).await;
    assert!(matches!(other, Err(BackupError::OtherKey { .. })));
    fs::write(&fresh.key, [7; 32]).unwrap();
    fresh.restore(&good).await.unwrap();
}

#[tokio::test]
async fn a_restore_that_is_given_up_leaves_nothing() {
    let place = Place::new();
    place.store().await.close().await;
    let out = place.path("backup");
    place.subject().backup(&out).await.unwrap();
    let fresh = Place::new();
    let restore = fresh.subject().restore(&out, &MIGRATOR).await.unwrap();
    put(restore.store(), "change").await;
    drop(restore);
    assert!(!fresh.path("sub/x.db").exists());
    fresh.restore(&out).await.unwrap();
    assert_eq!(count(&fresh.store().await).await, 0);
}

#[tokio::test]
async fn postgresql_is_named() {
    let place = Place::new();
    let subject = Subject {
        url: "postgres://u@h/d",
        ..place.subject()
    };
    let error = subject.backup(&place.path("x")).await.unwrap_err();
    assert!(error.to_string().contains("pg_dump"), "{error}");
    assert!(!place.path("x").exists());
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_made() {
    let place = Place::new();
    assert!(place.subject().backup(&place.path("x")).await.is_err());
    assert_eq!(names(place.folder.path()), ["state.key"]);
}
