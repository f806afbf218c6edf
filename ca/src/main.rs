//! The CA's process.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use bootkeep_ca::{backup, Ca, Config};
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
        /// The newest revocation list that anybody has (`/crl.der` of a mirror, the verifier or any node), so that nothing
        /// it revokes is good again. The word `none`: nothing was revoked and no certificate issued since the backup.
        #[arg(long, value_name = "FILE|none")]
        last_crl: PathBuf,
    },
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
    match &arguments.command {
        None => {}
        Some(Command::Check) => return Ok(()),
        Some(Command::Backup { out }) => {
            println!(
                "{}",
                backup::backup(&config.database, &config.state_key, out).await?
            );
            return Ok(());
        }
        Some(Command::Restore { from, last_crl }) => {
            let last = Some(last_crl.as_path()).filter(|path| *path != Path::new("none"));
            let done = backup::restore(&config.database, &config.state_key, from, last).await?;
            println!("restored: {}", done.manifest);
            println!(
                "{} certificates revoked that the backup did not know of",
                done.revoked
            );
            return Ok(());
        }
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
