//! `bootkeep rotate`.

use crate::{
    cli,
    local::LocalNode,
    node_name, output,
    policies::Sources,
    provision::{self, Deadline, Inputs, Lines, Rotated, Rotation},
    services::Services,
    Error, Home,
};

/// Gives a running node a new K, or finishes what an earlier run began.
///
/// # Errors
/// As [`provision::rotate`]; [`Error::Usage`] for a node that does not boot alone.
pub async fn rotate(
    home: &Home,
    services: &Services,
    options: &cli::Rotate,
) -> Result<Rotated, Error> {
    let node = node_name::find(home, services, &options.node).await?;
    let unknown = || {
        Error::NotFound(format!(
            "this home has not provisioned {node}: only the owner that did can rotate its keys"
        ))
    };
    let local = LocalNode::load(home, &node)?.ok_or_else(unknown)?;
    let mut lines = Lines {
        colours: output::colours(),
    };
    let deadline = Deadline::after(options.timeout);
    if options.finish {
        return provision::finish(home, services, local, &deadline, &mut lines).await;
    }
    let local = provision::settle(home, services, local, &mut lines).await?;
    let policies = Sources { home, services }.of(&local).await?;
    let rotation = Rotation {
        inputs: Inputs::for_rotation(home, options, &local, policies)?,
        local,
        deadline,
    };
    provision::rotate(home, services, rotation, &mut lines).await
}
