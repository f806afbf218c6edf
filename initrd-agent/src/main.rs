//! The initramfs agent's process; started by `bootkeep-initrd-agent.service` with the key socket as descriptor 3.

use std::{os::unix::net::UnixListener, path::Path, process::ExitCode, sync::Arc};

use bootkeep_initrd_agent::{harden, offer_passphrase, unlock, Console, GaveUp, Settings};
use bootkeep_node::{config::DEFAULT_PATH, AgentConfig};
use listenfd::ListenFd;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    harden();
    let console = Arc::new(Console::default());
    match run(&console).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.say(&format!("gave up: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(console: &Arc<Console>) -> Result<(), GaveUp> {
    let settings = Settings::of_node(AgentConfig::load(Path::new(DEFAULT_PATH))?);
    let listener = socket_of_systemd()?;
    let again = listener.try_clone().map_err(|_| GaveUp::NoSocket)?;
    match unlock(&settings, listener, console).await {
        Err(error) if settings.config.passphrase => {
            console.say(&format!("gave up: {error}"));
            offer_passphrase(&settings, again, error, console).await
        }
        result => result,
    }
}

fn socket_of_systemd() -> Result<UnixListener, GaveUp> {
    ListenFd::from_env()
        .take_unix_listener(0)
        .ok()
        .flatten()
        .ok_or(GaveUp::NoSocket)
}
