//! Checks on the tree of dependencies, for machines without cargo-deny; deny.toml says the same to cargo-deny.

use std::collections::BTreeSet;

use anyhow::{bail, Context, Result};
use bootkeep_vm_tests::command;
use serde_json::Value;

use crate::workspace::Workspace;

/// Licences that a dependency may come under.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Crates that must not come in: a second TLS or crypto library, or an unkept one.
const BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "ring",
    "serde_yaml",
    "md5",
    "git2",
];
/// Where crates may come from.
const REGISTRY: &str = "registry+";

/// Licences, banned crates and sources of all dependencies.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let text =
        command::output(
            workspace
                .cargo()
                .args(["metadata", "--format-version=1", "--locked"]),
        )?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let problems: BTreeSet<String> = packages.iter().flat_map(problems).collect();
    if !problems.is_empty() {
        bail!("{}", problems.into_iter().collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

fn problems(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    if BANNED.contains(&name) {
        found.push(format!("{name} is banned"));
    }
    let licence = package["license"].as_str().unwrap_or_default();
    if !is_allowed(licence) {
        found.push(format!("{name}: licence {licence:?} is not allowed"));
    }
    if package["source"]
        .as_str()
        .is_some_and(|source| !source.starts_with(REGISTRY))
    {
        found.push(format!("{name} does not come from the registry"));
    }
    found
}

/// An SPDX expression without nested parentheses: all of its AND parts need one allowed OR part.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn licences() {
        let cases = [
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("GPL-3.0", false),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("", false),
        ];
        for (expression, allowed) in cases {
            assert_eq!(is_allowed(expression), allowed, "{expression}");
        }
    }
}
