//! A CA that comes back from a backup forgets no revocation and gives no list's number twice.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bootkeep_ca::backup::{backup, restore, RestoreError, Restored};
use common::{node, openssl, request, verify, Database, Front};
use tempfile::TempDir;

struct Files {
    folder: TempDir,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("state.key");
        fs::write(&key, [1; 32]).unwrap();
        Self { folder, key }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn back_up(&self, database: &Database) -> PathBuf {
        let out = self.folder.path().join("backup");
        backup(&database.url(), &self.key, &out).await.unwrap();
        out
    }

    async fn bring_back(
        &self,
        from: &Path,
        last_crl: Option<&Path>,
    ) -> Result<(Database, Restored), RestoreError> {
        let fresh = Database::sqlite();
        let restored = restore(&fresh.url(), &self.key, from, last_crl).await?;
        Ok((fresh, restored))
    }
}

/// Number of a list, as openssl reads it.
fn number(files: &Files, crl: &[u8]) -> u64 {
    files.put("list.der", crl);
    let arguments = [
        "crl",
        "-inform",
        "DER",
        "-in",
        "list.der",
        "-noout",
        "-crlnumber",
    ];
    let (good, said) = openssl(files.folder.path(), &arguments);
    assert!(good, "{said}");
    let hex = said.trim().rsplit("0x").next().unwrap();
    u64::from_str_radix(hex, 16).unwrap()
}

#[tokio::test]
async fn nothing_revoked_since_is_good_again() {
    let files = Files::new();
    let database = Database::sqlite();
    let front = Front::start(&database).await;
    let known = front
        .issue(&request("known", "known.example"))
        .await
        .unwrap();
    let good = front.issue(&request("good", "good.example")).await.unwrap();
    let saved = files.back_up(&database).await;
    // After the backup: one is revoked that is in it, and one that is not.
    let later = front
        .issue(&request("later", "later.example"))
        .await
        .unwrap();
    front.revoke(&node("known")).await;
    front.revoke(&node("later")).await;
    let last = front.crl().await;
    let list = files.put("last.der", &last);
    front.server.stop().await;

    let (fresh, restored) = files.bring_back(&saved, Some(&list)).await.unwrap();
    assert_eq!(restored.revoked, 2);
    let front = Front::start(&fresh).await;
    let crl = front.crl().await;
    for issued in [&known, &later] {
        let refused = verify(issued, &crl).unwrap_err();
        assert!(refused.contains("certificate revoked"), "{refused}");
    }
    verify(&good, &crl).unwrap();
    assert!(number(&files, &crl) > number(&files, &last));
    // It is the same CA, and goes on.
    let next = front.issue(&request("next", "next.example")).await.unwrap();
    assert_eq!(next.chain_pem, good.chain_pem);
    assert_eq!(front.revoke(&node("good")).await.serials, [good.serial]);
}

#[tokio::test]
async fn without_a_list_numbers_still_go_on() {
    let files = Files::new();
    let database = Database::sqlite();
    let front = Front::start(&database).await;
    let saved = files.back_up(&database).await;
    for _ in 0..3 {
        front.revoke(&node("nobody")).await;
    }
    let last = front.crl().await;
    let (fresh, restored) = files.bring_back(&saved, None).await.unwrap();
    assert_eq!(restored.revoked, 0);
    let front = Front::start(&fresh).await;
    assert!(number(&files, &front.crl().await) > number(&files, &last));
}

#[tokio::test]
async fn only_a_list_of_this_ca_is_taken() {
    let files = Files::new();
    let database = Database::sqlite();
    let front = Front::start(&database).await;
    let saved = files.back_up(&database).await;
    let mut crl = front.crl().await;
    let other = Front::alone().await.crl().await;
    let length = crl.len();
    crl[length - 1] ^= 1;
    for (name, bytes) in [("other", other), ("changed", crl), ("no list", vec![0; 9])] {
        let path = files.put(name, &bytes);
        let refused = files.bring_back(&saved, Some(&path)).await;
        assert!(matches!(refused, Err(RestoreError::List { .. })), "{name}");
    }
    let missing = files.folder.path().join("missing");
    let refused = files.bring_back(&saved, Some(&missing)).await;
    assert!(matches!(refused, Err(RestoreError::File { .. })));
}
