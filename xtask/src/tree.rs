//! Checks on the tree of dependencies, for machines without cargo-deny; deny.toml says the same to cargo-deny.

use std::collections::BTreeSet;

use anyhow::{bail, Result};
use bootkeep_vm_tests::command;

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

/// Licences, banned crates and sources of all dependencies.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let tree = [
        "tree",
        "--locked",
        "--workspace",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--no-dedupe",
    ];
    let text = command::output(workspace.cargo().args(tree).args(["--format", "{p}|{l}"]))?;
    // An empty line stands between the trees of two members.
    let lines: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let problems: Vec<String> = lines.into_iter().flat_map(problems).collect();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// Of a line `NAME vVERSION (SOURCE)|LICENCE`; the source is left out for the registry.
fn problems(line: &str) -> Vec<String> {
    let (package, licence) = line.split_once('|').unwrap_or((line, ""));
    let name = package.split(' ').next().unwrap_or_default();
    let mut found = Vec::new();
    if BANNED.contains(&name) {
        found.push(format!("{name} is banned"));
    }
    if !is_allowed(licence) {
        found.push(format!("{name}: licence {licence:?} is not allowed"));
    }
    if package.contains("://") {
        found.push(format!("{package} does not come from the registry"));
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
    use super::{is_allowed, problems};

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

    #[test]
    fn lines_of_cargo_tree() {
        assert!(problems("serde v1.0.0|MIT OR Apache-2.0").is_empty());
        assert!(problems("xtask v0.1.0 (/src/xtask)|MIT OR Apache-2.0").is_empty());
        assert_eq!(problems("ring v0.17.0|Apache-2.0 AND ISC").len(), 1);
        assert_eq!(
            problems("x v1.0.0 (https://example.org/x#1234)|GPL-3.0").len(),
            2
        );
        assert_eq!(problems("proc-macro v1.0.0 (proc-macro)|MIT").len(), 0);
    }
}
