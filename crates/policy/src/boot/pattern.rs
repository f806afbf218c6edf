//! How a rule names texts: exactly, or by a regular expression that is matched in linear time over the whole text.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Longest pattern (bytes): GRUB measures a menu's whole body as one command.
pub(super) const MAX_PATTERN: usize = 64 * 1024;
/// Largest compiled expression (bytes).
const MAX_COMPILED: usize = 1 << 20;

/// A text, or `{ regex: … }` for the whole of a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Pattern {
    form: Form,
    regex: Option<Regex>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Exact(String),
    Regex(RegexForm),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegexForm {
    regex: String,
}

impl Pattern {
    /// A text to be met exactly.
    #[must_use]
    pub fn exact(text: &str) -> Self {
        Self {
            form: Form::Exact(text.to_owned()),
            regex: None,
        }
    }

    /// An expression for the whole text.
    ///
    /// # Errors
    /// When it cannot be compiled or is too large.
    pub fn regex(text: &str) -> Result<Self, String> {
        Self::try_from(Form::Regex(RegexForm {
            regex: text.to_owned(),
        }))
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.form {
            Form::Exact(text) => text,
            Form::Regex(form) => &form.regex,
        }
    }

    /// Whether it is an expression.
    #[must_use]
    pub fn is_regex(&self) -> bool {
        self.regex.is_some()
    }

    /// Whether the whole of `text` is what this names.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(text),
            None => self.text() == text,
        }
    }

    /// Whether it fits a parameter of a kernel command line: an exact one, `name=` and `name=*` for any value,
    /// `text*` for all that begin so, or an expression.
    #[must_use]
    pub fn matches_parameter(&self, parameter: &str) -> bool {
        if self.is_regex() {
            return self.matches(parameter);
        }
        let wanted = same_name(self.text());
        let given = same_name(parameter);
        match wanted.strip_suffix('*') {
            Some(start) => given.starts_with(start),
            None if wanted.ends_with('=') => given.starts_with(&wanted),
            None => given == wanted,
        }
    }
}

/// The kernel and systemd take `-` and `_` in a parameter's name for the same.
fn same_name(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) => format!("{}={value}", name.replace('-', "_")),
        None => parameter.replace('-', "_"),
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.form == other.form
    }
}

impl Eq for Pattern {}

impl TryFrom<Form> for Pattern {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let text = match &form {
            Form::Exact(text) => text,
            Form::Regex(form) => &form.regex,
        };
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!("a pattern has 1 to {MAX_PATTERN} bytes"));
        }
        let regex = match &form {
            Form::Exact(_) => None,
            Form::Regex(form) => Some(compile(&form.regex)?),
        };
        Ok(Self { form, regex })
    }
}

impl From<Pattern> for Form {
    fn from(pattern: Pattern) -> Self {
        pattern.form
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    // On its own first: so that no bracket of the text can end the group.
    Regex::new(text).map_err(|error| error.to_string())?;
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_only() {
        let pattern = Pattern::regex("a|b").unwrap();
        for (text, good) in [
            ("a", true),
            ("b", true),
            ("ab", false),
            ("xb", false),
            ("a\n", false),
        ] {
            assert_eq!(pattern.matches(text), good, "{text:?}");
        }
        for bad in ["a)|(b", "(", "", "a{1000}{1000}{1000}"] {
            assert!(Pattern::regex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters() {
        for (pattern, parameter, good) in [
            ("ro", "ro", true),
            ("ro", "root=x", false),
            ("init=", "init=/bin/sh", true),
            ("init=", "rdinit=/bin/sh", false),
            ("init=*", "init=", true),
            ("rd.break*", "rd.break=pre-mount", true),
            ("systemd.debug-shell", "systemd.debug_shell", true),
            ("a-b=x-y", "a_b=x-y", true),
            ("a=x-y", "a=x_y", false),
        ] {
            assert_eq!(
                Pattern::exact(pattern).matches_parameter(parameter),
                good,
                "{pattern} {parameter}"
            );
        }
    }
}
