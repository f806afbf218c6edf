//! The pages say what is there: links lead somewhere, and the tests they name exist.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .into()
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(tree().join("docs")).unwrap();
    docs.map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .chain([tree().join("README.md")])
        .collect()
}

/// The names of all functions of the work tree.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1);
            found.extend(names.filter_map(|rest| rest.split(['(', '<']).next().map(String::from)));
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            let outside = target.is_empty() || target.contains("://");
            let there = page.parent().unwrap().join(target).exists();
            assert!(outside || there, "{}: {link}", page.display());
        }
    }
}

#[test]
fn the_tests_that_are_named_exist() {
    let mut known = BTreeSet::new();
    functions(&tree(), &mut known);
    let page = fs::read_to_string(tree().join("docs/threat-model.md")).unwrap();
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let plain = word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_*".contains(c));
        if !plain || !word.contains('_') || word.contains("cloud_init") {
            continue;
        }
        named += 1;
        let (start, end) = word.split_once('*').unwrap_or((word, ""));
        let fits = |name: &&String| {
            if word.contains('*') {
                name.starts_with(start) && name.ends_with(end)
            } else {
                *name == start
            }
        };
        assert!(known.iter().any(|name| fits(&name)), "{word}");
    }
    assert!(named > 30, "only {named} tests are named");
}
