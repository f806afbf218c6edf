//! The commands: each reads its options, asks the services and gives a result to print.

mod approve;
mod attest;
mod generate;
mod nodes;
mod policy;
mod provision;
mod recovery;
mod remove;
mod revocations;
mod rotate;
mod status;

pub use approve::{approvals, approve, Approved, ApprovedList};
pub use attest::{attest, Attested};
pub use generate::{completions, man};
pub use nodes::{nodes, NodeLine, NodeList};
pub use provision::{provision, reinstate};
pub use recovery::{keygen, show_recovery, Made, RecoveryKeys};
pub use remove::{remove, revoke, Removed, Revoked};
pub use revocations::{revocations, Log};
pub use rotate::rotate;
pub use status::{status, Status};

use crate::{
    cli::{self, Cli, Command},
    init, output, seal,
    services::Services,
    Error, Home,
};

/// Does what the command line says.
///
/// # Errors
/// Why it was not done; [`Error::exit_code`] is the program's exit code.
pub async fn run(cli: Cli) -> Result<(), Error> {
    let home = Home::find(cli.home.as_deref());
    let form = cli.output;
    match cli.command {
        Command::Init(options) => {
            let home = options.directory.as_deref().map_or(home, Home::at);
            output::print(form, &init::init(&options, &home)?)
        }
        Command::Seal(options) => {
            output::print_beside(form, &seal::seal(&options, &home)?, options.out.is_some())
        }
        Command::Policy(command) => policy::run(form, &home, command).await,
        Command::Provision(options) => output::print(
            form,
            &provision(&home, &Services::open(&home)?, &options).await?,
        ),
        Command::Nodes => output::print(form, &nodes(&home, &Services::open(&home)?).await?),
        Command::Status(of) => output::print(
            form,
            &status(&home, &Services::open(&home)?, &of.node).await?,
        ),
        Command::Attest(options) => {
            let attested = attest(&home, &Services::open(&home)?, &options).await?;
            output::print(form, &attested)?;
            attested.verdict()
        }
        Command::Revoke(options) => output::print(
            form,
            &revoke(&home, &Services::open(&home)?, &options).await?,
        ),
        Command::Reinstate(options) => output::print(
            form,
            &reinstate(&home, &Services::open(&home)?, &options).await?,
        ),
        Command::Rotate(options) => output::print(
            form,
            &rotate(&home, &Services::open(&home)?, &options).await?,
        ),
        Command::Recovery(cli::Recovery::Keygen(options)) => {
            output::print(form, &keygen(&home, &options)?)
        }
        Command::Recovery(cli::Recovery::Show(options)) => {
            output::print(form, &show_recovery(&home, &options)?)
        }
        Command::Revocations(options) => {
            revocations(form, &home, &Services::open(&home)?, &options).await
        }
        Command::Remove(options) => output::print(
            form,
            &remove(&home, &Services::open(&home)?, &options).await?,
        ),
        Command::Approve(options) => output::print(
            form,
            &approve(&home, &Services::open(&home)?, &options).await?,
        ),
        Command::Approvals => {
            output::print(form, &approvals(&home, &Services::open(&home)?).await?)
        }
        Command::Completions { shell } => completions(shell),
        Command::Man { directory } => man(&directory),
    }
}
