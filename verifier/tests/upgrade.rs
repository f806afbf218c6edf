//! A database of the release before K sets: what it holds still unlocks its nodes.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::verifier::State;
use common::{node::Node, World, ENVELOPE, SHARE_V};
use sqlx::{migrate::Migrator, AnyPool, Row};

/// The first migrations, up to the one before K sets.
async fn migrations_before(folder: &Path) -> Migrator {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    for entry in std::fs::read_dir(all).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name < "0006" {
            std::fs::copy(&path, folder.join(name)).unwrap();
        }
    }
    Migrator::new(folder).await.unwrap()
}

/// Sealed as that release did.
fn sealed(node: &str, what: &str, plain: &[u8]) -> String {
    let context = format!("bootkeep verifier {what} {node}");
    let key = StateKey::from_bytes(common::STATE_KEY);
    STANDARD.encode(key.seal(context.as_bytes(), plain).unwrap())
}

#[tokio::test]
async fn nodes_of_the_release_before_still_get_their_v() {
    let mut world = World::new().await;
    let (machine, _) = world.enrolled("enrolled").await;
    let (revoked, _) = world.enrolled("revoked").await;
    let pool = AnyPool::connect(&world.database_url).await.unwrap();
    let rows =
        sqlx::query("SELECT node_id, enrolment, boot_policy, runtime_policy, trust FROM nodes");
    let rows = rows.fetch_all(&pool).await.unwrap();
    let policies = sqlx::query("SELECT digest, document FROM policies");
    let policies = policies.fetch_all(&pool).await.unwrap();
    pool.close().await;

    let folder = tempfile::tempdir().unwrap();
    let migrations = migrations_before(folder.path()).await;
    let path = world.folder.path().join("old.db");
    std::fs::write(&path, b"").unwrap();
    world.database_url = format!("sqlite://{}", path.display());
    let pool = AnyPool::connect(&world.database_url).await.unwrap();
    migrations.run(&pool).await.unwrap();
    for row in policies {
        sqlx::query("INSERT INTO policies (digest, document) VALUES ($1, $2)")
            .bind(row.get::<String, _>(0))
            .bind(row.get::<String, _>(1))
            .execute(&pool)
            .await
            .unwrap();
    }
    for row in rows {
        let text = |n: usize| row.get::<String, _>(n);
        let gone = text(0) == revoked.node.as_str();
        let secret = |what, plain| {
            if gone {
                String::new()
            } else {
                sealed(&text(0), what, plain)
            }
        };
        // That release knew no value of PCR 15 in a verdict.
        let trust = text(4).replace(",\"latched\":null", "");
        assert!(!trust.contains("latched"), "{trust}");
        sqlx::query(
            "INSERT INTO nodes (node_id, enrolment, boot_policy, runtime_policy, share_v, envelope, trust) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(text(0))
        .bind(text(1))
        .bind(text(2))
        .bind(text(3))
        .bind(secret("share-v", &SHARE_V))
        .bind(secret("envelope", ENVELOPE))
        .bind(trust)
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;

    world.start().await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let share = node.share().await;
    assert_eq!(node.unwrap(&share).expose(), &SHARE_V);
    assert_eq!(share.envelope.as_ref().unwrap().0, ENVELOPE);
    assert_eq!(share.kept, None);
    world.until(&machine.node, State::BootTrusted).await;
    let mut node = Node::connect(&world.node_tls, &world.url, &revoked)
        .await
        .unwrap();
    assert!(world
        .step(&revoked.node, "refused")
        .await
        .contains("no share V"));
    assert!(!node.has_share());
}
