//! `bootkeep`: the command line of the owner of nodes.

use std::process::ExitCode;

use bootkeep_tenant::{cli::Cli, commands, output, Error};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let form = cli.output;
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::print_error(form, &Error::Failed(error.to_string()));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(interruptible(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(form, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Ctrl-C ends any command: what must be remembered is on the disk before it is acted on.
async fn interruptible(cli: Cli) -> Result<(), Error> {
    tokio::select! {
        result = commands::run(cli) => result,
        _ = tokio::signal::ctrl_c() => Err(Error::TryAgain(
            "interrupted; run the same command again to go on".into(),
        )),
    }
}
