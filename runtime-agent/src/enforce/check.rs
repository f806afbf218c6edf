//! Says which of this node's files are bad, before they are needed.

use std::{fmt, path::Path};

use bootkeep_node::AgentConfig;

use super::{actions, keys, EnforceSettings, Peers};

/// What is to be said of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is good, and says this.
    Good(String),
    /// It is bad, for this reason.
    Bad(String),
}

impl Finding {
    /// Whether something must be done.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Bad(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(text) => write!(f, "good  {text}"),
            Self::Bad(text) => write!(f, "BAD   {text}"),
        }
    }
}

/// Looks at agent.yaml and at all that it names.
#[must_use]
pub fn node(config: &Path) -> Vec<Finding> {
    match AgentConfig::load(config) {
        Err(error) => vec![Finding::Bad(error.to_string())],
        Ok(read) => {
            let good = Finding::Good(config.display().to_string());
            let rest = match &read.revocation {
                Some(revocation) => files(&EnforceSettings::of_node(revocation)),
                None => vec![Finding::Good(
                    "no `revocation`: this node takes no revocations".into(),
                )],
            };
            std::iter::once(good).chain(rest).collect()
        }
    }
}

/// Looks at the files that the enforcer reads.
#[must_use]
pub fn files(settings: &EnforceSettings) -> Vec<Finding> {
    let keys = match keys(&settings.keys) {
        Ok(_) => Finding::Good(format!("{}: keys of revocations", settings.keys.display())),
        Err(error) => Finding::Bad(error.to_string()),
    };
    let peers = match Peers::load(&settings.ipsec, &settings.identity) {
        Ok(peers) => Finding::Good(peers.describe()),
        Err(error) => Finding::Bad(error.to_string()),
    };
    let (good, refused) = actions::load(&settings.actions);
    let good = good
        .into_iter()
        .map(|(name, action)| Finding::Good(format!("{name}: on {}", action.on)));
    let refused = refused
        .into_iter()
        .map(|refused| Finding::Bad(format!("{}: {}", refused.name, refused.problem)));
    [keys, peers]
        .into_iter()
        .chain(good)
        .chain(refused)
        .collect()
}
