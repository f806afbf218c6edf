//! docs/policies-runtime.md is true: its examples are read, its codes are those of the code.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

use bootkeep_policy::RuntimePolicy;
use regex::Regex;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn captures(pattern: &str, text: &str) -> BTreeSet<String> {
    let found = Regex::new(pattern).unwrap();
    let found = found.captures_iter(text);
    found.map(|capture| capture[1].to_owned()).collect()
}

#[test]
fn every_example_is_read() {
    let text = read("../../docs/policies-runtime.md");
    let examples = captures("(?s)```yaml\n(.*?)```", &text);
    assert!(examples.len() >= 10);
    for example in examples {
        let policy = RuntimePolicy::from_text(example.as_bytes());
        assert!(policy.is_ok(), "{example}{policy:?}");
    }
}

#[test]
fn every_code_is_explained() {
    let mut sources = String::new();
    for folder in ["src/runtime", "src/appraise/ima"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in fs::read_dir(folder).unwrap() {
            sources += &fs::read_to_string(file.unwrap().path()).unwrap();
        }
    }
    let calls = r#"(?:Missing::new|Refusal::of|reasons\.add)\(\s*"([a-z0-9-]+)""#;
    let mut codes = captures(calls, &sources);
    let arms = r#"(?:=>|DmEventKind::Rename =>|\{) "((?:dm|file-signature)[a-z-]*)""#;
    codes.extend(captures(arms, &sources));
    codes.extend(captures(r#"^\s+"(file-signature-algorithm)""#, &sources));
    codes.extend(["ima-malformed", "file-signature-algorithm", "dm-device"].map(str::to_owned));
    let text = read("../../docs/policies-runtime.md");
    let explained = captures(
        r"(?m)^\| `([a-z0-9-]+)` \| ",
        text.split("## Codes").nth(1).unwrap(),
    );
    assert_eq!(codes, explained);
}
