//! The CA's process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use bootkeep_ca::{Ca, Config};
use bootkeep_service::{init_logging, load_config, serve_plain, serve_tls_within, shutdown_signal};
use clap::Parser;
use tokio::net::TcpListener;

/// Issues and revokes node certificates, publishes the revocation list.
#[derive(Parser)]
#[command(name = "bootkeep-ca", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, default_value = "/etc/bootkeep/ca.yaml")]
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
            eprintln!("bootkeep-ca: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config: Config = load_config(&arguments.config)?;
    let config = config.resolved(&arguments.config);
    let (tls, state_key) = (config.server_tls()?, config.state_key()?);
    if matches!(arguments.command, Some(Command::Check)) {
        return Ok(());
    }
    let urls = config.urls();
    let ca = Ca::open(&config.database, &state_key, urls, config.lifetimes).await?;
    drop(state_key);
    let public = listen(&config.crl_listen).await?;
    let listener = listen(&config.listen).await?;
    tokio::spawn(ca.clone().keep_fresh());
    tokio::spawn(serve_plain(public, ca.public_router(), shutdown_signal()));
    serve_tls_within(config.limits, listener, tls, ca.router(), shutdown_signal()).await?;
    Ok(())
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
