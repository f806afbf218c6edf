//! Registrar, verifier and CA, each from the configuration `bootkeep init` wrote; they can be killed and started again.

use std::{
    future::pending,
    net::{Ipv4Addr, TcpListener as StdListener},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use bootkeep_service::{load_config, serve_tls, ServerTls};
use bootkeep_tenant::{cli::Cli, init::init, Home};
use clap::Parser;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    time::sleep,
};

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Registrar,
    Verifier,
    Ca,
}

/// An owner and its running services.
pub struct Owner {
    pub folder: TempDir,
    running: Mutex<Vec<(Which, Runtime)>>,
}

fn free_ports() -> [u16; 4] {
    let listeners: Vec<StdListener> = (0..4)
        .map(|_| StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let ports: Vec<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    ports.try_into().unwrap()
}

impl Owner {
    /// A new owner that believes in the TPM makers of `roots`. Nothing runs yet.
    pub fn new(roots: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [registrar, verifier, ca, crl] = free_ports().map(|port| port.to_string());
        let home = folder.path().join("home");
        let arguments = [
            "bootkeep",
            "init",
            home.to_str().unwrap(),
            "--host",
            "127.0.0.1",
            "--listen",
            "127.0.0.1",
            "--ek-roots",
            roots.to_str().unwrap(),
            "--registrar-port",
            &registrar,
            "--verifier-port",
            &verifier,
            "--ca-port",
            &ca,
            "--crl-port",
            &crl,
        ];
        let cli = Cli::try_parse_from(arguments).unwrap();
        let bootkeep_tenant::cli::Command::Init(options) = cli.command else {
            panic!("not init");
        };
        init(&options, &Home::at(&home)).unwrap();
        Self {
            folder,
            running: Mutex::default(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn home(&self) -> Home {
        Home::at(&self.path())
    }

    pub fn services(&self) -> bootkeep_tenant::services::Services {
        bootkeep_tenant::services::Services::open(&self.home()).unwrap()
    }

    pub async fn start_all(&self) {
        for which in [Which::Registrar, Which::Verifier, Which::Ca] {
            self.start(which).await;
        }
    }

    /// Starts a service on its database, on threads of its own.
    pub async fn start(&self, which: Which) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let home = self.path();
        let started = runtime.spawn(async move {
            match which {
                Which::Registrar => registrar(&home).await,
                Which::Verifier => verifier(&home).await,
                Which::Ca => ca(&home).await,
            }
        });
        started.await.unwrap();
        self.running.lock().unwrap().push((which, runtime));
    }

    /// Ends a service at once, as a crash does: everything it does stops, its connections break.
    pub fn kill(&self, which: Which) {
        let mut running = self.running.lock().unwrap();
        while let Some(index) = running.iter().position(|(it, _)| *it == which) {
            running.remove(index).1.shutdown_background();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for (_, runtime) in self.running.lock().unwrap().drain(..) {
            runtime.shutdown_background();
        }
    }
}

async fn registrar(home: &Path) {
    let file = home.join("registrar/registrar.yaml");
    let config: bootkeep_registrar::Config = load_config(&file).unwrap();
    let config = config.resolved(&file);
    let roots = config.roots().unwrap();
    let registrar = bootkeep_registrar::Registrar::open(&config.database, roots)
        .await
        .unwrap();
    let router = registrar.router();
    serve(&config.listen, config.server_tls().unwrap(), router).await;
}

async fn verifier(home: &Path) {
    let file = home.join("verifier/verifier.yaml");
    let config: bootkeep_verifier::Config = load_config(&file).unwrap();
    let config = config.resolved(&file);
    let (key, registrar) = (config.state_key().unwrap(), config.registrar().unwrap());
    let policy_keys = config.policy_keys().unwrap();
    let verifier =
        bootkeep_verifier::Verifier::open_with(&config.database, key, registrar, policy_keys)
            .await
            .unwrap();
    let revocation_key = config.revocation_key().unwrap().unwrap();
    let ca = config.ca_notices().unwrap();
    verifier
        .start_revocations(revocation_key, ca)
        .await
        .unwrap();
    let router = verifier.router();
    serve(&config.listen, config.server_tls().unwrap(), router).await;
}

async fn ca(home: &Path) {
    let file = home.join("ca/ca.yaml");
    let config: bootkeep_ca::Config = load_config(&file).unwrap();
    let config = config.resolved(&file);
    let key = config.state_key().unwrap();
    let ca = bootkeep_ca::Ca::open(&config.database, &key, config.urls(), config.lifetimes)
        .await
        .unwrap();
    let router = ca.router();
    serve(&config.listen, config.server_tls().unwrap(), router).await;
}

async fn serve(listen: &str, tls: ServerTls, router: axum::Router) {
    // The one before may not have let go of the port yet.
    let mut bound = TcpListener::bind(listen).await;
    for _ in 0..100 {
        if bound.is_ok() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        bound = TcpListener::bind(listen).await;
    }
    let listener = bound.unwrap();
    tokio::spawn(async move { serve_tls(listener, tls, router, pending()).await });
}
