//! The registrar's process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use bootkeep_registrar::{backup, Config, Registrar};
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
    /// Writes the database to a new file; the service may run meanwhile. Keys and configuration are not in it.
    Backup {
        /// The file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Brings a backup back where no database is yet.
    Restore {
        /// What `backup` wrote.
        #[arg(long)]
        from: PathBuf,
    },
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
    match &arguments.command {
        None => {}
        Some(Command::Check) => return Ok(()),
        Some(Command::Backup { out }) => {
            let made = backup::backup(&config.database, out).await?;
            println!("{made}");
            return Ok(());
        }
        Some(Command::Restore { from }) => {
            let made = backup::restore(&config.database, from).await?;
            println!("restored: {made}");
            return Ok(());
        }
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
