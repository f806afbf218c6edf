//! The registrar's process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use bootkeep_registrar::{Config, Registrar};
use bootkeep_service::{init_logging, load_config, serve_plain, serve_tls_within, shutdown_signal};
use clap::Parser;
use tokio::net::TcpListener;

/// Registers nodes: which AK lives in the TPM of which EK.
#[derive(Parser)]
#[command(name = "bootkeep-registrar", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, default_value = "/etc/bootkeep/registrar.yaml")]
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
            eprintln!("bootkeep-registrar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config: Config = load_config(&arguments.config)?;
    let config = config.resolved(&arguments.config);
    let (tls, roots) = (config.server_tls()?, config.roots()?);
    tracing::info!(roots = roots.roots(), "EK roots read");
    if matches!(arguments.command, Some(Command::Check)) {
        return Ok(());
    }
    let registrar = Registrar::open(&config.database, roots).await?;
    if let Some(address) = &config.metrics_listen {
        let metrics = listen(address).await?;
        tokio::spawn(serve_plain(
            metrics,
            registrar.metrics_router(),
            shutdown_signal(),
        ));
    }
    let listener = listen(&config.listen).await?;
    serve_tls_within(
        config.limits,
        listener,
        tls,
        registrar.router(),
        shutdown_signal(),
    )
    .await?;
    Ok(())
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}
