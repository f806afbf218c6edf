//! The verifier's process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use bootkeep_service::{init_logging, load_config, serve_plain, serve_tls_within, shutdown_signal};
use bootkeep_verifier::{backup, Config, Verifier};
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
        /// Number of the last entry of the revocation log, as the owner (`bootkeep revocations`) or any node
        /// (`/var/lib/bootkeep/revocations.json`) knows it.
        #[arg(long, value_name = "NUMBER")]
        log_end: Option<u64>,
        /// Ids of the nodes that were revoked since the backup; the word `none`. Needed when entries of the log are lost.
        #[arg(long, value_delimiter = ',', value_name = "ID,…|none")]
        revoked: Option<Vec<String>>,
    },
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
    match arguments.command {
        None => {}
        Some(Command::Check) => return Ok(()),
        Some(Command::Backup { out }) => {
            println!(
                "{}",
                backup::backup(&config.database, &config.state_key, &out).await?
            );
            return Ok(());
        }
        Some(Command::Restore {
            from,
            log_end,
            revoked,
        }) => {
            let since = backup::Since::new(log_end, revoked.as_deref())?;
            let (url, key) = (&config.database, &config.state_key);
            print!("{}", backup::restore(url, key, &from, &since).await?);
            return Ok(());
        }
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
