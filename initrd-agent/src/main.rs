//! The initramfs agent's process.
//!
//! Without an argument it is started by `bootkeep-initrd-agent.service` with the key socket as descriptor 3. In an
//! initramfs without systemd, scripts start it with `listen`, and the volume's keyscript with `key`.

use std::{io, os::unix::net::UnixListener, path::Path, process::ExitCode, sync::Arc};

use bootkeep_initrd_agent::{
    command::{self, Command},
    harden, offer_passphrase, unlock, Console, GaveUp, Settings,
};
use bootkeep_node::{config::DEFAULT_PATH, AgentConfig};

/// The arguments are not understood.
const USAGE: u8 = 2;
/// There is no key: the agent has given up, and a person is to be asked.
const ASK: u8 = 75;

fn main() -> ExitCode {
    harden();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Command::of(&arguments) {
        Some(Command::Unlock) => agent(|_| command::inherited()),
        Some(Command::Listen) => agent(|volume| command::listen(&command::socket_of(volume))),
        Some(Command::Key) => key(),
        None => {
            eprintln!("usage: bootkeep-initrd-agent [listen|key]");
            ExitCode::from(USAGE)
        }
    }
}

type Socket = fn(&str) -> Result<UnixListener, GaveUp>;

#[tokio::main(flavor = "current_thread")]
async fn agent(socket: Socket) -> ExitCode {
    let console = Arc::new(Console::default());
    match run(socket, &console).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.say(&format!("gave up: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(socket: Socket, console: &Arc<Console>) -> Result<(), GaveUp> {
    let settings = Settings::of_node(AgentConfig::load(Path::new(DEFAULT_PATH))?);
    let listener = socket(&settings.config.volume)?;
    let again = listener.try_clone().map_err(|_| GaveUp::NoSocket)?;
    match unlock(&settings, listener, console).await {
        Err(error) if settings.config.passphrase => {
            console.say(&format!("gave up: {error}"));
            offer_passphrase(&settings, again, error, console).await
        }
        result => result,
    }
}

fn key() -> ExitCode {
    let printed = AgentConfig::load(Path::new(DEFAULT_PATH))
        .map_err(io::Error::other)
        .and_then(|config| {
            let socket = command::socket_of(&config.volume);
            command::print_key(&socket, &mut io::stdout().lock())
        });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(ASK),
        Err(error) => {
            eprintln!("bootkeep: no key from the agent: {error}");
            ExitCode::FAILURE
        }
    }
}
