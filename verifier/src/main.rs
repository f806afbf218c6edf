//! The verifier's process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use bootkeep_service::{init_logging, load_config, serve_plain, serve_tls_within, shutdown_signal};
use bootkeep_verifier::{Config, Verifier};
use clap::Parser;
use tokio::net::TcpListener;

/// Attests nodes and releases share V.
#[derive(Parser)]
#[command(name = "bootkeep-verifier", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, default_value = "/etc/bootkeep/verifier.yaml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Checks the configuration and ends.
    Check,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bootkeep-verifier: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config: Config = load_config(&arguments.config)?;
    let config = config.resolved(&arguments.config);
    let tls = config.server_tls()?;
    let (registrar, state_key) = (config.registrar()?, config.state_key()?);
    let webhooks = config.webhook_targets()?;
    let policy_keys = config.policy_keys()?;
    let (revocation_key, ca) = (config.revocation_key()?, config.ca_notices()?);
    if matches!(arguments.command, Some(Command::Check)) {
        return Ok(());
    }
    let verifier = Verifier::open_with(&config.database, state_key, registrar, policy_keys).await?;
    verifier.start_webhooks(webhooks);
    if let Some(key) = revocation_key {
        verifier.start_revocations(key, ca).await?;
    }
    if let Some(address) = &config.metrics_listen {
        let listener = listen(address).await?;
        tokio::spawn(serve_plain(
            listener,
            verifier.metrics_router(),
            shutdown_signal(),
        ));
    }
    let listener = listen(&config.listen).await?;
    let router = verifier.router();
    serve_tls_within(config.limits, listener, tls, router, shutdown_signal()).await?;
    verifier.close().await;
    Ok(())
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
