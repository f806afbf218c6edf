//! One action, as its file says it.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::On;

/// Words of a command.
const MAX_WORDS: usize = 64;
/// Length of one word (bytes).
const MAX_WORD: usize = 4096;
/// Unless the file says otherwise (seconds).
const DEADLINE: u64 = 10;
/// Longest that can be asked for (seconds): an acknowledgement waits for it.
const LONGEST: u64 = 45;
/// Kinds of unit that can be named.
const UNITS: [&str; 7] = [
    ".service", ".socket", ".target", ".timer", ".path", ".mount", ".slice",
];
/// This program's own unit: stopping it would end enforcement.
const OWN_UNIT: &str = "bootkeep-enforce.service";
const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// A checked action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// When.
    pub on: On,
    /// What.
    pub what: What,
    /// How long it may take.
    pub deadline: Duration,
}

/// What an action does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Asks systemd.
    Unit {
        /// For what.
        verb: Verb,
        /// Of which unit.
        name: String,
    },
    /// Removes one file.
    Remove(PathBuf),
    /// Runs a program; the first word is its absolute path.
    Command(Vec<String>),
}

/// What systemd is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `systemctl stop`.
    Stop,
    /// `systemctl start`.
    Start,
    /// `systemctl restart`.
    Restart,
}

impl Verb {
    /// The command.
    pub(super) fn argv(self, unit: &str) -> Vec<String> {
        let verb = match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
        };
        [SYSTEMCTL, "--no-ask-password", "--quiet", verb, "--", unit]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Why a file is no action.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not the YAML expected.
    #[error(transparent)]
    Yaml(#[from] serde_yaml::Error),
    /// None of them, or more than one.
    #[error("an action has exactly one of `unit`, `remove` and `command`")]
    NotOne,
    /// None of them, or more than one.
    #[error("`unit` has exactly one of `stop`, `start` and `restart`")]
    Verb,
    /// Not a name systemd would take.
    #[error("{0:?} is not the full name of a unit (`name.service`, `.socket`, `.target`, `.timer`, `.path`, `.mount`, `.slice`)")]
    Unit(String),
    /// The enforcer's own.
    #[error("{OWN_UNIT} enforces revocations and cannot be an action's unit")]
    OwnUnit,
    /// Not an absolute, plain path.
    #[error("{0:?} is not an absolute path without `.`, `..` and `//`")]
    Path(PathBuf),
    /// Not a command.
    #[error("a command is a list of 1 to {MAX_WORDS} words without NUL, each at most {MAX_WORD} bytes long; the first is an absolute path")]
    Command,
    /// Out of its range.
    #[error("deadline_seconds: {0} is not 1 to {LONGEST}")]
    Deadline(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    on: On,
    unit: Option<Unit>,
    remove: Option<PathBuf>,
    command: Option<Vec<String>>,
    deadline_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unit {
    stop: Option<String>,
    start: Option<String>,
    restart: Option<String>,
}

impl Action {
    /// Reads one file's text.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let file: File = serde_yaml::from_str(text)?;
        let what = match (file.unit, file.remove, file.command) {
            (Some(unit), None, None) => unit.check()?,
            (None, Some(path), None) => What::Remove(plain(path)?),
            (None, None, Some(argv)) => What::Command(command(argv)?),
            _ => return Err(SpecError::NotOne),
        };
        let deadline = file.deadline_seconds.unwrap_or(DEADLINE);
        if !(1..=LONGEST).contains(&deadline) {
            return Err(SpecError::Deadline(deadline));
        }
        Ok(Self {
            on: file.on,
            what,
            deadline: Duration::from_secs(deadline),
        })
    }
}

impl Unit {
    fn check(self) -> Result<What, SpecError> {
        let (verb, name) = match (self.stop, self.start, self.restart) {
            (Some(name), None, None) => (Verb::Stop, name),
            (None, Some(name), None) => (Verb::Start, name),
            (None, None, Some(name)) => (Verb::Restart, name),
            _ => return Err(SpecError::Verb),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let kind = UNITS
            .iter()
            .any(|kind| name.len() > kind.len() && name.ends_with(kind));
        if name == OWN_UNIT {
            return Err(SpecError::OwnUnit);
        }
        if !kind || name.len() > 255 || name.starts_with(['-', '.']) || !name.chars().all(good) {
            return Err(SpecError::Unit(name));
        }
        Ok(What::Unit { verb, name })
    }
}

fn plain(path: PathBuf) -> Result<PathBuf, SpecError> {
    is_plain(&path)
        .then_some(())
        .ok_or_else(|| SpecError::Path(path.clone()))?;
    Ok(path)
}

/// Whether the path is absolute, names something, and is written in its only form.
pub(super) fn is_plain(path: &Path) -> bool {
    let parts = path.components().skip(1);
    let normal = parts
        .clone()
        .all(|part| matches!(part, Component::Normal(_)));
    let rebuilt: PathBuf = Path::new("/").join(parts.collect::<PathBuf>());
    let no_nul = !path.as_os_str().as_encoded_bytes().contains(&0);
    path.is_absolute()
        && normal
        && no_nul
        && rebuilt.as_os_str() == path.as_os_str()
        && path.file_name().is_some()
}

fn command(argv: Vec<String>) -> Result<Vec<String>, SpecError> {
    let words = argv
        .iter()
        .all(|word| word.len() <= MAX_WORD && !word.contains('\0'));
    let program = argv
        .first()
        .is_some_and(|program| is_plain(Path::new(program)));
    (words && program && argv.len() <= MAX_WORDS)
        .then_some(argv)
        .ok_or(SpecError::Command)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_are_read() {
        let unit = Action::parse("on: revoke\nunit: {stop: app@1.service}\n").unwrap();
        let name = "app@1.service".to_owned();
        assert_eq!(
            unit.what,
            What::Unit {
                verb: Verb::Stop,
                name
            }
        );
        assert_eq!(unit.deadline, Duration::from_secs(DEADLINE));
        let remove =
            Action::parse("on: self-revoked\nremove: /var/lib/app/key\ndeadline_seconds: 3\n")
                .unwrap();
        assert_eq!((remove.on, remove.deadline.as_secs()), (On::SelfRevoked, 3));
        assert_eq!(remove.what, What::Remove("/var/lib/app/key".into()));
        let command =
            Action::parse("on: stale\ncommand: [/usr/bin/logger, 'a b', $HOME]\n").unwrap();
        assert_eq!(
            command.what,
            What::Command(
                ["/usr/bin/logger", "a b", "$HOME"]
                    .map(String::from)
                    .to_vec()
            )
        );
    }

    #[test]
    fn systemd_is_asked_without_a_shell_and_options_end_before_the_name() {
        assert_eq!(
            Verb::Restart.argv("a.service"),
            [
                SYSTEMCTL,
                "--no-ask-password",
                "--quiet",
                "restart",
                "--",
                "a.service"
            ]
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("on: revoke\ncommand: [/bin/x{}]", ", a".repeat(64));
        let cases = [
            ("nothing", "", "on"),
            ("no occasion", "remove: /a\n", "on"),
            ("an unknown occasion", "on: monday\nremove: /a\n", "monday"),
            (
                "an unknown key",
                "on: revoke\nremove: /a\nshell: x\n",
                "shell",
            ),
            ("nothing to do", "on: revoke\n", "exactly one"),
            (
                "two things",
                "on: revoke\nremove: /a\ncommand: [/b]\n",
                "exactly one",
            ),
            (
                "a unit twice",
                "on: revoke\nunit: {stop: a.service, start: b.service}\n",
                "exactly one",
            ),
            (
                "a unit without a kind",
                "on: revoke\nunit: {stop: app}\n",
                "app",
            ),
            (
                "an option as unit",
                "on: revoke\nunit: {stop: --root=x.service}\n",
                "--root",
            ),
            (
                "a pattern as unit",
                "on: revoke\nunit: {stop: '*.service'}\n",
                "*.service",
            ),
            (
                "a path as unit",
                "on: revoke\nunit: {start: /tmp/x.service}\n",
                "/tmp/x.service",
            ),
            (
                "its own unit",
                "on: revoke\nunit: {stop: bootkeep-enforce.service}\n",
                "enforces",
            ),
            ("a relative file", "on: revoke\nremove: a\n", "absolute"),
            ("dots", "on: revoke\nremove: /a/../etc/shadow\n", "absolute"),
            ("a dot", "on: revoke\nremove: /a/./b\n", "absolute"),
            ("a folder", "on: revoke\nremove: /a/\n", "absolute"),
            ("the root", "on: revoke\nremove: /\n", "absolute"),
            ("a NUL", "on: revoke\nremove: \"/a\\0b\"\n", "absolute"),
            (
                "a shell line",
                "on: revoke\ncommand: rm -rf /\n",
                "sequence",
            ),
            ("no word", "on: revoke\ncommand: []\n", "list of"),
            (
                "a program of PATH",
                "on: revoke\ncommand: [ls]\n",
                "list of",
            ),
            (
                "a program with dots",
                "on: revoke\ncommand: [/bin/../tmp/x]\n",
                "list of",
            ),
            (
                "a NUL in a word",
                "on: revoke\ncommand: [/bin/x, \"a\\0\"]\n",
                "list of",
            ),
            ("too many words", &long, "list of"),
            (
                "no time",
                "on: revoke\nremove: /a\ndeadline_seconds: 0\n",
                "deadline",
            ),
            (
                "all the time",
                "on: revoke\nremove: /a\ndeadline_seconds: 3600\n",
                "deadline",
            ),
        ];
        for (name, text, named) in cases {
            let error = Action::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{name}: {error}");
        }
    }
}
