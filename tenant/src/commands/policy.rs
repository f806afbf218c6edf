//! `bootkeep policy`.

use std::path::Path;

use bootkeep_evidence::ima::{parse_ascii, parse_binary, Entry};
use bootkeep_policy::{
    BootOptions, BootPolicy, KnownGood, MemfdRule, PolicyError, RuntimePolicy, Tree, ViolationRule,
};
use serde::Serialize;

use super::attest::subject;
use crate::{
    cli::{self, CreateBoot, CreateRuntime, Form, PolicyCreate},
    evidence_file::EvidenceFile,
    files::{self, PUBLIC},
    output::{self, Show},
    policies::{any_policy, boot_policy, runtime_policy, AnyPolicy},
    services::Services,
    Error, Home,
};

/// Largest measurement list that is read (bytes).
const MAX_LIST: u64 = 64 * 1024 * 1024;

pub(super) async fn run(form: Form, home: &Home, command: cli::Policy) -> Result<(), Error> {
    match command {
        cli::Policy::Create(PolicyCreate::Boot(options)) => {
            let policy = create_boot(home, &options).await?;
            finish(form, AnyPolicy::Boot(policy), options.out.as_deref())
        }
        cli::Policy::Create(PolicyCreate::Runtime(options)) => {
            let policy = create_runtime(home, &options).await?;
            finish(form, AnyPolicy::Runtime(policy), options.out.as_deref())
        }
        cli::Policy::Show { file } => output::print(form, &Summary::of(&any_policy(&file)?)),
        cli::Policy::Check { file } => check(form, &file),
    }
}

/// What a policy asks for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Summary {
    /// A boot policy.
    Boot {
        /// Accepted values by PCR.
        values: Vec<(u8, usize)>,
        /// Whether a node without an event log is refused.
        event_log_required: bool,
        /// Accepted events by PCR, with their notes.
        events: Vec<(u8, Vec<String>)>,
        /// What a person should know.
        warnings: Vec<String>,
    },
    /// A runtime policy.
    Runtime {
        /// Number of files.
        files: usize,
        /// Paths that are not judged.
        excludes: Vec<String>,
        /// What a person should know.
        warnings: Vec<String>,
    },
}

impl Summary {
    fn of(policy: &AnyPolicy) -> Self {
        match policy {
            AnyPolicy::Boot(policy) => Self::Boot {
                values: policy
                    .pcrs
                    .iter()
                    .map(|(pcr, values)| (*pcr, values.len()))
                    .collect(),
                event_log_required: policy.event_log.required,
                events: policy
                    .event_log
                    .events
                    .iter()
                    .map(|(pcr, rules)| {
                        (*pcr, rules.iter().map(|rule| rule.note.clone()).collect())
                    })
                    .collect(),
                warnings: policy.warnings(),
            },
            AnyPolicy::Runtime(policy) => Self::Runtime {
                files: policy.files(),
                excludes: policy.excludes().to_vec(),
                warnings: policy.warnings(),
            },
        }
    }

    fn warnings(&self) -> &[String] {
        match self {
            Self::Boot { warnings, .. } | Self::Runtime { warnings, .. } => warnings,
        }
    }
}

impl Show for Summary {
    fn human(&self) -> String {
        let mut text = match self {
            Self::Boot {
                values,
                event_log_required,
                events,
                ..
            } => boot_text(values, *event_log_required, events),
            Self::Runtime {
                files, excludes, ..
            } => {
                let mut text = format!("runtime policy: {files} files\n");
                for pattern in excludes {
                    text.push_str(&format!("  not judged: {pattern}\n"));
                }
                text
            }
        };
        for warning in self.warnings() {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text
    }
}

fn boot_text(values: &[(u8, usize)], required: bool, events: &[(u8, Vec<String>)]) -> String {
    let log = if required { "required" } else { "not required" };
    let mut text = format!("boot policy: {} PCRs, event log {log}\n", values.len());
    for (pcr, count) in values {
        text.push_str(&format!("  PCR {pcr:<2} one of {count}\n"));
    }
    for (pcr, notes) in events {
        for note in notes {
            text.push_str(&format!("  PCR {pcr:<2} event {note}\n"));
        }
    }
    text
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

fn not_made(error: PolicyError) -> Error {
    Error::Failed(error.to_string())
}

async fn from_node(home: &Home, name: &str) -> Result<KnownGood, Error> {
    let services = Services::open(home)?;
    let subject = subject(home, &services, name).await?;
    subject.evidence(&services).await?.known_good(home)
}

async fn create_boot(home: &Home, options: &CreateBoot) -> Result<BootPolicy, Error> {
    let good = match (&options.evidence, &options.node) {
        (Some(path), _) => EvidenceFile::read(path)?.known_good(home)?,
        (None, Some(name)) => from_node(home, name).await?,
        (None, None) => return Err(Error::Usage("name --node or --evidence".into())),
    };
    let without = BootOptions {
        without: options.without.clone(),
    };
    let mut policy = BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &without)
        .map_err(not_made)?;
    for path in &options.also {
        policy.merge(&boot_policy(path)?.0);
    }
    Ok(policy)
}

async fn create_runtime(home: &Home, options: &CreateRuntime) -> Result<RuntimePolicy, Error> {
    if let Some(image) = options.initramfs.iter().find(|path| path.is_file()) {
        return Err(Error::Usage(format!(
            "{} is not a folder; unpack the image first (lsinitrd --unpack, unmkinitramfs)",
            image.display()
        )));
    }
    let folders = options.rootfs.iter().chain(&options.initramfs);
    let trees: Vec<Tree> = folders.map(|path| Tree::root(path)).collect();
    let mut policy = RuntimePolicy::from_trees(&trees).map_err(not_made)?;
    for path in &options.ima_list {
        add_list(&mut policy, &read_list(path)?)?;
    }
    if let Some(name) = &options.node {
        add_list(&mut policy, &from_node(home, name).await?.ima)?;
    }
    for path in &options.also {
        policy.merge(&runtime_policy(path)?.0).map_err(not_made)?;
    }
    set_rules(&mut policy, options)?;
    Ok(policy)
}

fn set_rules(policy: &mut RuntimePolicy, options: &CreateRuntime) -> Result<(), Error> {
    policy
        .exclude(&options.exclude)
        .map_err(|error| Error::Usage(error.to_string()))?;
    if options.accept_violations {
        policy.set_violations(ViolationRule::Accept);
    }
    if options.accept_memfd {
        policy.set_memfd(MemfdRule::Accept);
    }
    Ok(())
}

fn add_list(policy: &mut RuntimePolicy, entries: &[Entry]) -> Result<(), Error> {
    let listed = RuntimePolicy::from_list(entries).map_err(not_made)?;
    policy.merge(&listed).map_err(not_made)
}

/// A list as the kernel gives it: ASCII begins with the PCR's number, binary does not.
fn read_list(path: &Path) -> Result<Vec<Entry>, Error> {
    let bytes = files::read(path, MAX_LIST)?;
    let unusable = |error: String| Error::Usage(format!("{}: {error}", path.display()));
    if bytes
        .first()
        .is_some_and(|byte| byte.is_ascii_digit() || *byte == b' ')
    {
        let text = std::str::from_utf8(&bytes).map_err(|error| unusable(error.to_string()))?;
        return parse_ascii(text).map_err(|error| unusable(error.to_string()));
    }
    let (entries, consumed) = parse_binary(&bytes).map_err(|error| unusable(error.to_string()))?;
    if consumed != bytes.len() {
        return Err(unusable("ends inside an entry".into()));
    }
    Ok(entries)
}
