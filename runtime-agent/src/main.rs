//! `bootkeep-agent`: the daemon; `boot-files`: digests of the next boot's files; `place`: puts the hand-over's files in place; `enforce`: enforces revocations; `check`: says
//! which of this node's files are bad.

use std::{
    env,
    error::Error,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};

use bootkeep_handover::Handover;
use bootkeep_node::{config::DEFAULT_PATH, AgentConfig};
use bootkeep_runtime_agent::{
    boot_files::{self, BootFilesError},
    daemon,
    enforce::{self, EnforceError, EnforceSettings},
    place, AgentError, Settings, Supervisor,
};
use tokio::signal::unix::{signal, SignalKind};
use tracing_subscriber::filter::LevelFilter;

const USAGE: &str = "\
usage: bootkeep-agent          attest, until SIGTERM; configured by /etc/bootkeep/agent.yaml
       bootkeep-agent place    put the files that the initramfs handed over in place
       bootkeep-agent enforce  enforce revocations, until SIGTERM; configured by `revocation` in agent.yaml
       bootkeep-agent boot-files [--version V] [--file ROLE=PATH]...
                               report the files the next boot will use; ROLE: loader, kernel, initrd, uki, config
       bootkeep-agent check    check this node's files; exit code 2 when one is bad";

fn main() -> ExitCode {
    init_logging();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => ended(attest()),
        ["place"] => ended(place::run(&Handover::default(), Path::new("/"))),
        ["enforce"] => ended(enforce_revocations()),
        ["check"] => check(),
        ["boot-files", options @ ..] => report_boot_files(options),
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

#[tokio::main(flavor = "current_thread")]
async fn enforce_revocations() -> Result<(), EnforceError> {
    let config = AgentConfig::load(Path::new(DEFAULT_PATH))?;
    let supervisor = Supervisor::of_process();
    match &config.revocation {
        Some(revocation) => {
            let settings = EnforceSettings::of_node(revocation);
            enforce::run(&settings, &supervisor, asked_to_stop()).await
        }
        None => {
            enforce::idle(&supervisor, asked_to_stop()).await;
            Ok(())
        }
    }
}

fn report_boot_files(options: &[&str]) -> ExitCode {
    match boot_files::run(options, Path::new("/")) {
        Err(BootFilesError::Usage(what)) => {
            eprintln!("bootkeep-agent boot-files: {what}\n{USAGE}");
            ExitCode::from(2)
        }
        result => ended(result),
    }
}

fn check() -> ExitCode {
    let findings = enforce::check::node(Path::new(DEFAULT_PATH));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.iter().any(|finding| finding.is_bad()) {
        true => ExitCode::from(2),
        false => ExitCode::SUCCESS,
    }
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
