//! A registrar that comes back from a backup knows its nodes and gives no generation twice.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_registrar::backup::{backup, restore};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::AkKind;
use common::{roots, Database, Front, Node};

#[tokio::test]
async fn nodes_are_known_and_generations_go_on() {
    let swtpm = Swtpm::certified().unwrap();
    let database = Database::sqlite();
    let front = Front::start(&database, roots(&swtpm)).await;
    let node = Node::of(&swtpm).await;
    front.register(&node).await.unwrap();
    let record = front.record(node.id()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("backup");
    backup(&database.url(), &out).await.unwrap();
    // After the backup the node has another AK, and goes back to the first: generation 3.
    let node = node.with_ak(AkKind::Rsa2048).await;
    assert_eq!(front.register(&node).await.unwrap().generation, 2);
    let node = node.with_ak(AkKind::EccP256).await;
    assert_eq!(front.register(&node).await.unwrap().generation, 3);
    front.server.stop().await;

    let fresh = Database::sqlite();
    restore(&fresh.url(), &out).await.unwrap();
    let front = Front::start(&fresh, roots(&swtpm)).await;
    assert_eq!(front.records().await, std::slice::from_ref(&record));
    let node = if node.identity.ak_public == record.ak_public.as_slice() {
        assert_eq!(front.register(&node).await.unwrap().generation, 1);
        node.with_ak(AkKind::Rsa2048).await
    } else {
        node
    };
    let first = front.register(&node).await.unwrap().generation;
    assert!(first > 3, "{first}");
    assert_eq!(front.register(&node).await.unwrap().generation, first);
}
