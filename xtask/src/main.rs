//! `cargo xtask`: set-up, builds, demo, tests and benches.

mod bench;
mod compile;
mod demo;
mod dist;
mod files;
mod isolate;
mod setup;
mod tally;
mod tests;
mod tree;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use bootkeep_vm_tests::{progress::Progress, scenarios};
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, builds, demo, tests and benches of Bootkeep"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the system packages that builds, tests and the demo need (Debian, as root).
    Setup,
    /// Build everything: services and `bootkeep` for this machine, the node's programs small.
    Build,
    /// Build everything and pack it: `target/dist/bootkeep-node.tar.gz` for nodes, `bootkeep-owner.tar.gz` for the owner.
    Dist,
    /// Build the images of the virtual machines.
    Image,
    /// Provision a virtual machine before your eyes, then tamper with it.
    Demo,
    /// Format, lints, all tests, and the scenarios on virtual machines.
    Test {
        /// No virtual machines.
        #[arg(long)]
        fast: bool,
        /// Only these scenarios, nothing else; `list` shows them.
        #[arg(long, value_name = "NAME")]
        scenario: Vec<String>,
    },
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// What runs inside the network namespace of the virtual machines.
    #[command(hide = true, subcommand)]
    Inside(Inside),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Size of the initramfs, times of a boot, memory of the agents.
    Boot,
    /// From a violation to its verdict, and on to the end of the associations at the peers (strongSwan; as root).
    Revocation,
    /// Loading and holding large policies.
    Policy,
}

#[derive(Debug, Subcommand)]
enum Inside {
    Scenarios { names: Vec<String> },
    Demo,
    BenchBoot,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let (workspace, progress) = (Workspace::find()?, Progress::default());
    match &cli.command {
        Command::Setup => setup::run(progress)?,
        Command::Build => compile::everything(&workspace, progress)?,
        Command::Dist => dist::pack(&workspace, progress)?,
        Command::Image => scenarios::prepare(&prepare(&workspace, progress)?, &[])?,
        Command::Demo => {
            prepare(&workspace, progress)?;
            return isolate::again(&["demo"]);
        }
        Command::Test { scenario, .. } if !scenario.is_empty() => {
            return tests::scenarios(&workspace, progress, scenario)
        }
        Command::Test { fast, .. } => return tests::all(&workspace, progress, *fast),
        Command::Bench(Bench::Boot) => {
            bench::weigh(&prepare(&workspace, progress)?, progress)?;
            return isolate::again(&["bench-boot"]);
        }
        Command::Bench(Bench::Revocation) => bench::tests(&workspace, bench::REVOCATION)?,
        Command::Bench(Bench::Policy) => bench::tests(&workspace, bench::POLICY)?,
        Command::Inside(Inside::Scenarios { names }) => {
            return tests::inside(&workspace, progress, names)
        }
        Command::Inside(Inside::Demo) => demo::run(&workspace, progress)?,
        Command::Inside(Inside::BenchBoot) => bench::boot(&workspace, progress)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs and the image; the network is needed for this, and for nothing after it.
fn prepare(workspace: &Workspace, progress: Progress) -> Result<bootkeep_vm_tests::stage::Set> {
    setup::require_root()?;
    setup::run(progress)?;
    compile::everything(workspace, progress)?;
    bootkeep_vm_tests::stage::Set::prepare(&workspace.programs(), progress)
}
