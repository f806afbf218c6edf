//! `bootkeep policy`.

mod boot;
mod runtime;
mod summary;

use std::path::Path;

use bootkeep_policy::{KnownGood, PolicyError};

use super::attest::subject;
use crate::{
    cli::{self, Form, PolicyCreate},
    files::{self, PUBLIC},
    output,
    policies::{any_policy, AnyPolicy},
    services::Services,
    Error, Home,
};
use summary::Summary;

pub(super) async fn run(form: Form, home: &Home, command: cli::Policy) -> Result<(), Error> {
    match command {
        cli::Policy::Create(PolicyCreate::Boot(options)) => {
            let policy = boot::create(home, &options).await?;
            finish(form, AnyPolicy::Boot(policy), options.out.as_deref())
        }
        cli::Policy::Create(PolicyCreate::Runtime(options)) => {
            let policy = runtime::create(home, &options).await?;
            finish(form, AnyPolicy::Runtime(policy), options.out.as_deref())
        }
        cli::Policy::Show { file } => output::print(form, &Summary::of(&any_policy(&file)?)),
        cli::Policy::Check { file } => check(form, &file),
    }
}

/// Writes a new policy; its summary goes to standard output when the policy itself went to a file.
fn finish(form: Form, policy: AnyPolicy, out: Option<&Path>) -> Result<(), Error> {
    let text = match &policy {
        AnyPolicy::Boot(policy) => serde_json::to_vec_pretty(policy),
        AnyPolicy::Runtime(policy) => serde_json::to_vec_pretty(policy),
    };
    let mut text = text.map_err(|error| Error::Failed(error.to_string()))?;
    text.push(b'\n');
    files::write_result(out, &text, PUBLIC)?;
    output::print_beside(form, &Summary::of(&policy), out.is_some())
}

/// A policy that accepts nothing is no use; warnings are shown and do not fail.
fn check(form: Form, file: &Path) -> Result<(), Error> {
    let policy = any_policy(file)?;
    output::print(form, &Summary::of(&policy))?;
    let empty = match &policy {
        AnyPolicy::Boot(policy) => policy.is_empty(),
        AnyPolicy::Runtime(policy) => policy.is_empty(),
    };
    if empty {
        return Err(Error::Failed(format!("{} accepts nothing", file.display())));
    }
    Ok(())
}

pub(super) fn not_made(error: PolicyError) -> Error {
    Error::Failed(error.to_string())
}

async fn from_node(home: &Home, name: &str) -> Result<KnownGood, Error> {
    let services = Services::open(home)?;
    let subject = subject(home, &services, name).await?;
    subject.evidence(&services).await?.known_good(home)
}
