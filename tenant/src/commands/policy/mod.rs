//! `bootkeep policy`.

mod authorize;
mod boot;
mod explain;
mod objects;
mod runtime;
mod summary;

use std::path::Path;

use bootkeep_policy::{KnownGood, PolicyError};

use super::attest::subject;
use crate::{
    cli::{self, Form, PolicyCreate},
    files::{self, PUBLIC},
    output,
    policies::{policy_file, AnyPolicy, PolicyFile},
    services::Services,
    Error, Home,
};
use objects::Generation;
use summary::Summary;

pub(super) async fn run(form: Form, home: &Home, command: cli::Policy) -> Result<(), Error> {
    match command {
        cli::Policy::Create(PolicyCreate::Boot(options)) => {
            boot::create(form, home, &options).await
        }
        cli::Policy::Create(PolicyCreate::Runtime(options)) => {
            runtime::create(form, home, &options).await
        }
        cli::Policy::Show { file } => show(form, home, &file).map(drop),
        cli::Policy::Check { file } => check(form, home, &file),
        cli::Policy::Sign(options) => objects::sign(form, home, &options),
        cli::Policy::Push { file } => objects::push(form, home, &file).await,
        cli::Policy::Publish(options) => objects::publish(form, home, &options).await,
        cli::Policy::Authorize(options) => authorize::authorize(form, home, &options).await,
        cli::Policy::List => objects::list(form, home).await,
        cli::Policy::Retire(options) => objects::retire(form, home, &options).await,
        cli::Policy::Explain(options) => explain::explain(form, home, &options).await,
    }
}

/// Writes a new policy; its summary goes to standard output when the policy itself went to a file.
fn finish(
    form: Form,
    policy: AnyPolicy,
    out: Option<&Path>,
    notes: Vec<String>,
) -> Result<(), Error> {
    let text = match &policy {
        AnyPolicy::Boot(policy) => serde_json::to_vec_pretty(policy),
        AnyPolicy::Runtime(policy) => serde_json::to_vec_pretty(policy),
    };
    let mut text = text.map_err(|error| Error::Failed(error.to_string()))?;
    text.push(b'\n');
    files::write_result(out, &text, PUBLIC)?;
    output::print_beside(form, &Summary::of(&policy).with(notes), out.is_some())
}

/// Shows a document, or a signed policy whose signature is the owner's.
fn show(form: Form, home: &Home, file: &Path) -> Result<AnyPolicy, Error> {
    match policy_file(file)? {
        PolicyFile::Document(policy) => {
            output::print(form, &Summary::of(&policy))?;
            Ok(policy)
        }
        PolicyFile::Signed(envelope) => {
            let signed = objects::verified(home, file, &envelope)?;
            let policy = objects::document_of(&signed);
            let both = summary::Signed::new(Generation::of(&signed), Summary::of(&policy));
            output::print(form, &both)?;
            Ok(policy)
        }
    }
}

/// A policy that accepts nothing is no use; warnings are shown and do not fail.
fn check(form: Form, home: &Home, file: &Path) -> Result<(), Error> {
    if show(form, home, file)?.is_empty() {
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
