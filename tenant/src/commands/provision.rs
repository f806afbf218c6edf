//! `bootkeep provision`.

use crate::{
    cli, output,
    provision::{self, Deadline, Inputs, Lines, Options, Provisioned},
    services::Services,
    Error, Home,
};

/// Reads the inputs and provisions, with the steps shown on standard error.
///
/// # Errors
/// As [`provision::provision`]; [`Error::Usage`] for inputs that are not usable.
pub async fn provision(
    home: &Home,
    services: &Services,
    options: &cli::Provision,
) -> Result<Provisioned, Error> {
    let options = Options {
        node: options.node.clone(),
        inputs: Inputs::read(options)?,
        until: options.wait,
        deadline: Deadline::after(options.timeout),
    };
    let mut lines = Lines {
        colours: output::colours(),
    };
    provision::provision(home, services, &options, &mut lines).await
}
