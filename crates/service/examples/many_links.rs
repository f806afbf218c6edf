//! What an idle link costs a service: `cargo run --release -p bootkeep-service --example many_links -- 2000`.
//!
//! Starts a service and, as a process of its own, that many nodes that dial it over the loopback; prints how long the
//! links took and how much memory each holds on the service's side. Nodes give no quote here: this is the transport alone.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    env,
    io::Read,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use axum::{routing::any, Router};
use bootkeep_link::{dial, ClientTls};
use bootkeep_protocol::{link::ServerFrame, Role};
use bootkeep_service::{Limits, LinkUpgrade};
use common::{Pki, Server, Wanted};
use tokio::sync::mpsc;

/// Dials at the same time.
const AT_ONCE: usize = 32;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [count] => service(count).await,
        [count, url, ca] => nodes(count.parse().unwrap(), url, ca).await,
        _ => eprintln!("usage: many_links COUNT"),
    }
}

async fn service(count: &str) {
    let wanted: usize = count.parse().unwrap();
    let (opened, mut links) = mpsc::channel(wanted);
    let link = move |upgrade: LinkUpgrade| {
        let opened = opened.clone();
        async move {
            upgrade.on_open(|_, end| async move {
                let (sender, frames) = end.split();
                sender.accept().await.unwrap();
                sender.send(&ServerFrame::Accepted {}).await.unwrap();
                opened.send((sender, frames)).await.unwrap();
            })
        }
    };
    let pki = Arc::new(Pki::new("many links"));
    let identity = pki.issue(&Wanted::role(Role::Verifier));
    let limits = Limits {
        per_address: wanted,
        ..Limits::default()
    };
    let router = Router::new().route("/v1/link", any(link));
    let server = Server::start_as(Arc::clone(&pki), &identity, limits, router).await;
    let (before, start) = (resident(), Instant::now());
    let mut child = Command::new(env::current_exe().unwrap())
        .args([count, &server.url, &pki.ca_pem])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = Vec::with_capacity(wanted);
    while held.len() < wanted {
        held.push(links.recv().await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    let each = resident().saturating_sub(before) / wanted;
    println!("{wanted} links in {seconds:.2} s, both ends on this machine");
    println!("{each} bytes for each link at the service");
    drop(child.stdin.take());
    child.wait().unwrap();
}

async fn nodes(count: usize, url: &str, ca: &str) {
    let tls = ClientTls::new(ca.as_bytes()).unwrap();
    let urls = [url.to_owned()];
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let some = AT_ONCE.min(count - held.len());
        let dials = (0..some).map(|_| dial(&tls, &urls));
        for end in futures_util::future::join_all(dials).await {
            held.push(end.unwrap());
        }
    }
    let until_told = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    until_told.await.unwrap().unwrap();
}

/// Resident memory of this process (bytes).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() * 1024
}
