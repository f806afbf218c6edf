//! Which policy the command line means.

use std::{path::PathBuf, str::FromStr};

use bootkeep_policy::is_policy_name;

/// A named policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Only this generation, whether it counts now or not; absent: those that count.
    pub generation: Option<u64>,
}

/// `FILE`, `@NAME` or `@NAME:GENERATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChoice {
    /// A document of its own.
    File(PathBuf),
    /// A policy the verifier has.
    Named(Wanted),
}

impl PolicyChoice {
    /// The generations of this name that count.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::Named(Wanted {
            name: name.to_owned(),
            generation: None,
        })
    }

    /// Whether it is one generation alone, which a node cannot follow.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        matches!(
            self,
            Self::Named(Wanted {
                generation: Some(_),
                ..
            })
        )
    }
}

impl FromStr for PolicyChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(named) = text.strip_prefix('@') else {
            return Ok(Self::File(text.into()));
        };
        let (name, generation) = match named.split_once(':') {
            None => (named, None),
            Some((name, number)) => {
                let number = number.parse().ok().filter(|number| *number > 0);
                let bad = || format!("{text:?}: a generation is a number from 1");
                (name, Some(number.ok_or_else(bad)?))
            }
        };
        if !is_policy_name(name) {
            return Err(format!(
                "{name:?} is not the name of a policy: up to 64 of a-z, 0-9, '-' and '.' (a file: ./{text})"
            ));
        }
        Ok(Self::Named(Wanted {
            name: name.to_owned(),
            generation,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_names_and_generations_are_told_apart() {
        let read = |text: &str| text.parse::<PolicyChoice>();
        assert_eq!(read("a/@b").unwrap(), PolicyChoice::File("a/@b".into()));
        assert_eq!(read("@web").unwrap(), PolicyChoice::named("web"));
        assert!(!read("@web").unwrap().is_pinned());
        assert!(read("@web-1.x:12").unwrap().is_pinned());
        for bad in ["@", "@Web", "@web:", "@web:0", "@web:x", "@../x", "@-a"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
