//! Registrar, verifier and CA, each from the configuration `bootkeep init` wrote; they can be killed and started again.

use std::{
    future::pending,
    net::{Ipv4Addr, TcpListener as StdListener},
    path::{Path, PathBuf},
    sync::Mutex,
};

use bootkeep_service::{load_config, serve_tls, ServerTls};
use bootkeep_tenant::{cli::Cli, init::init, Home};
use clap::Parser;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

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
    running: Mutex<Vec<(Which, JoinHandle<()>)>>,
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

    pub async fn start_all(&self) {
        for which in [Which::Registrar, Which::Verifier, Which::Ca] {
            self.start(which).await;
        }
    }

    /// Starts a service on its database.
    pub async fn start(&self, which: Which) {
        let task = match which {
            Which::Registrar => self.registrar().await,
            Which::Verifier => self.verifier().await,
            Which::Ca => self.ca().await,
        };
        self.running.lock().unwrap().push((which, task));
    }

    /// Ends a service at once, as a crash does: its connections break.
    pub async fn kill(&self, which: Which) {
        let tasks: Vec<JoinHandle<()>> = {
            let mut running = self.running.lock().unwrap();
            let (killed, others) = running.drain(..).partition(|(it, _)| *it == which);
            *running = others;
            let killed: Vec<(Which, JoinHandle<()>)> = killed;
            killed.into_iter().map(|(_, task)| task).collect()
        };
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
    }

    async fn registrar(&self) -> JoinHandle<()> {
        let file = self.path().join("registrar/registrar.yaml");
        let config: bootkeep_registrar::Config = load_config(&file).unwrap();
        let config = config.resolved(&file);
        let roots = config.roots().unwrap();
        let registrar = bootkeep_registrar::Registrar::open(&config.database, roots)
            .await
            .unwrap();
        let router = registrar.router();
        serve(&config.listen, config.server_tls().unwrap(), router).await
    }

    async fn verifier(&self) -> JoinHandle<()> {
        let file = self.path().join("verifier/verifier.yaml");
        let config: bootkeep_verifier::Config = load_config(&file).unwrap();
        let config = config.resolved(&file);
        let (key, registrar) = (config.state_key().unwrap(), config.registrar().unwrap());
        let verifier = bootkeep_verifier::Verifier::open(&config.database, key, registrar)
            .await
            .unwrap();
        let router = verifier.router();
        serve(&config.listen, config.server_tls().unwrap(), router).await
    }

    async fn ca(&self) -> JoinHandle<()> {
        let file = self.path().join("ca/ca.yaml");
        let config: bootkeep_ca::Config = load_config(&file).unwrap();
        let config = config.resolved(&file);
        let key = config.state_key().unwrap();
        let ca = bootkeep_ca::Ca::open(&config.database, &key, &config.crl_url, config.lifetimes)
            .await
            .unwrap();
        let router = ca.router();
        serve(&config.listen, config.server_tls().unwrap(), router).await
    }
}

async fn serve(listen: &str, tls: ServerTls, router: axum::Router) -> JoinHandle<()> {
    let listener = TcpListener::bind(listen).await.unwrap();
    tokio::spawn(async move {
        serve_tls(listener, tls, router, pending()).await.unwrap();
    })
}
