//! `bootkeep-cloud-init`: see the library.

#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{bail, Context, Result};
use bootkeep_cloud_init_handler::{check, ensure_tmpfs, part, seed, Places};
use bootkeep_tpkd::MAX_CONTAINER;

const USAGE: &str = "usage: bootkeep-cloud-init seed | open | applied | unsealed TYPE NAME | check";
/// Something was refused, or something is missing.
const REFUSED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let places = Places::default();
    let done = match arguments.as_slice() {
        ["seed"] => run_seed(&places),
        ["open"] => run_open(&places),
        ["applied"] => run_applied(&places),
        ["unsealed", kind, name] => Ok(part::unsealed_may_pass(&places, kind, name)),
        ["check"] => run_check(&places),
        ["--version"] => {
            println!("bootkeep-cloud-init {}", env!("CARGO_PKG_VERSION"));
            Ok(true)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            eprintln!("bootkeep: {error:#}");
            ExitCode::from(REFUSED)
        }
    }
}

fn run_seed(places: &Places) -> Result<bool> {
    ensure_tmpfs(Path::new("/run"))?;
    seed::seed(places)?;
    Ok(true)
}

fn run_open(places: &Places) -> Result<bool> {
    let Some(plain) = part::open_part(places, &part_on_stdin()?)? else {
        return Ok(false);
    };
    io::stdout().write_all(&plain).context("standard output")?;
    Ok(true)
}

fn run_applied(places: &Places) -> Result<bool> {
    part::applied(places, &part_on_stdin()?)?;
    Ok(true)
}

fn run_check(places: &Places) -> Result<bool> {
    let findings = check::check(places)?;
    for finding in &findings {
        let word = if finding.fails { "failed" } else { "note" };
        eprintln!(
            "bootkeep: cloud-init: {word}: {} ({})",
            finding.detail, finding.code
        );
    }
    Ok(!findings.iter().any(|finding| finding.fails))
}

fn part_on_stdin() -> Result<Vec<u8>> {
    let limit = MAX_CONTAINER * 2;
    let mut body = Vec::new();
    io::stdin()
        .take(limit as u64 + 1)
        .read_to_end(&mut body)
        .context("standard input")?;
    if body.len() > limit {
        bail!("the part is larger than {limit} bytes");
    }
    Ok(body)
}
