//! `bootkeep provision` and `bootkeep reinstate`.

use bootkeep_protocol::verifier::{NodeStatus, State};

use crate::{
    cli, node_name, output,
    policies::{Policies, Sources},
    provision::{self, Deadline, Inputs, Journal, Kind, Lines, Options, Provisioned},
    services::Services,
    Error, Home,
};

/// Reads the inputs and provisions, with the steps shown on standard error.
///
/// # Errors
/// As [`provision::provision`]; [`Error::Usage`] for inputs that are not usable, and for a node that is revoked.
pub async fn provision(
    home: &Home,
    services: &Services,
    options: &cli::Provision,
) -> Result<Provisioned, Error> {
    let policies = policies(home, services, options).await?;
    let inputs = Inputs::read(home, options, policies)?;
    if known(home, services, &options.node)
        .await?
        .is_some_and(|node| is_revoked(&node))
    {
        return Err(Error::Usage(format!(
            "{} is revoked: nothing is given to it until you take it back with `bootkeep reinstate` (same options)",
            options.node
        )));
    }
    run(home, services, options, inputs).await
}

/// Takes a revoked node back: a fresh provisioning.
///
/// # Errors
/// As [`provision`]; [`Error::Usage`] for a node that is not revoked.
pub async fn reinstate(
    home: &Home,
    services: &Services,
    options: &cli::Provision,
) -> Result<Provisioned, Error> {
    let policies = policies(home, services, options).await?;
    let inputs = Inputs::read(home, options, policies)?;
    let status = known(home, services, &options.node).await?;
    let mut lines = Lines {
        colours: output::colours(),
    };
    match status {
        Some(status) if matches!(status.state, State::Untrusted | State::Revoked) => {
            // What an earlier provisioning left is of a certificate that is revoked.
            Journal::remove(home, &status.node_id, Kind::Provisioning)?;
            Journal::remove(home, &status.node_id, Kind::Rotation)?;
            lines.note("what was revoked stays revoked; the node gets a new K, a new payload and a new certificate");
            lines.note("it has to boot anew; once that boot was good the log says `reinstate` and its peers speak with it again");
        }
        // An earlier run of this command has already enrolled it anew; that one is gone on with.
        Some(status) if status.state != State::Trusted => {}
        _ => {
            return Err(Error::Usage(format!(
                "{} is not revoked; use `bootkeep provision`",
                options.node
            )))
        }
    }
    run(home, services, options, inputs).await
}

async fn run(
    home: &Home,
    services: &Services,
    options: &cli::Provision,
    inputs: Inputs,
) -> Result<Provisioned, Error> {
    let options = Options {
        node: options.node.clone(),
        inputs,
        until: options.wait,
        deadline: Deadline::after(options.timeout),
    };
    let mut lines = Lines {
        colours: output::colours(),
    };
    provision::provision(home, services, &options, &mut lines).await
}

async fn policies(
    home: &Home,
    services: &Services,
    options: &cli::Provision,
) -> Result<Policies, Error> {
    for choice in [&options.boot_policy, &options.runtime_policy] {
        if choice.is_pinned() {
            return Err(Error::Usage(
                "a node follows all generations of a policy: @NAME without a number".into(),
            ));
        }
    }
    Sources { home, services }
        .pair(&options.boot_policy, &options.runtime_policy)
        .await
}

/// What the verifier says of a node, if it has it. A verifier that is away is waited for later.
async fn known(home: &Home, services: &Services, name: &str) -> Result<Option<NodeStatus>, Error> {
    let node = match node_name::find(home, services, name).await {
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) if error.is_transient() => return Ok(None),
        other => other?,
    };
    match services.status(&node).await {
        Err(error) if error.is_transient() => Ok(None),
        other => other,
    }
}

fn is_revoked(status: &NodeStatus) -> bool {
    status.revocation.is_some() || status.state == State::Revoked
}
