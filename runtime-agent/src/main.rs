//! `bootkeep-agent`: the daemon; `bootkeep-agent place`: puts the hand-over's files in place.

use std::{
    env,
    error::Error,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};

use bootkeep_handover::Handover;
use bootkeep_node::{config::DEFAULT_PATH, AgentConfig};
use bootkeep_runtime_agent::{daemon, place, AgentError, Settings, Supervisor};
use tokio::signal::unix::{signal, SignalKind};
use tracing_subscriber::filter::LevelFilter;

const USAGE: &str = "\
usage: bootkeep-agent          attest, until SIGTERM; configured by /etc/bootkeep/agent.yaml
       bootkeep-agent place    put the files that the initramfs handed over in place";

fn main() -> ExitCode {
    init_logging();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => ended(attest()),
        ["place"] => ended(place::run(&Handover::default(), Path::new("/"))),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn ended<E: Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn attest() -> Result<(), AgentError> {
    let settings = Settings::of_node(AgentConfig::load(Path::new(DEFAULT_PATH))?);
    daemon::run(&settings, &Supervisor::of_process(), asked_to_stop()).await
}

async fn asked_to_stop() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
            tracing::info!("asked to stop");
        }
        // Without a handler the signal ends the process by itself.
        Err(_) => std::future::pending().await,
    }
}

/// Events go to stderr; the journal has its own clock.
fn init_logging() {
    let level = env::var("BOOTKEEP_LOG")
        .ok()
        .and_then(|text| text.parse::<LevelFilter>().ok())
        .unwrap_or(LevelFilter::INFO);
    let events = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false);
    if io::stderr().is_terminal() {
        events.init();
    } else {
        events.without_time().init();
    }
}
