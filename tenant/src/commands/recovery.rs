//! `bootkeep recovery`.

use std::path::PathBuf;

use bootkeep_protocol::NodeId;
use serde::Serialize;

use crate::{cli, clock::written, local, output::Show, recovery, Error, Home};

/// An offline key that was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// The private half.
    pub private: PathBuf,
    /// The public half, in the home.
    pub public: PathBuf,
}

impl Show for Made {
    fn human(&self) -> String {
        format!(
            "Made {private}: move it off this machine, and keep a copy in another place.\n\
             {public} stays here: recovery keys are sealed to it.\n",
            private = self.private.display(),
            public = self.public.display(),
        )
    }
}

/// Makes the owner's offline key.
///
/// # Errors
/// As [`recovery::keygen`].
pub fn keygen(home: &Home, options: &cli::Keygen) -> Result<Made, Error> {
    Ok(Made {
        public: recovery::keygen(home, &options.out)?,
        private: options.out.clone(),
    })
}

/// One recovery key.
#[derive(Serialize)]
pub struct RecoveryKey {
    /// The volume it opens.
    pub volume: String,
    /// Whether the node has shown that it uses the K this is derived from.
    pub in_use: bool,
    /// When it was made, milliseconds since 1970 (UTC).
    pub made_at_ms: u64,
    /// What is typed at the console. Secret.
    pub key: String,
}

impl Drop for RecoveryKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

/// The recovery keys of a node.
#[derive(Serialize)]
pub struct RecoveryKeys {
    /// The node.
    pub node_id: NodeId,
    /// Newest first.
    pub keys: Vec<RecoveryKey>,
}

impl Show for RecoveryKeys {
    fn human(&self) -> String {
        let mut text = String::new();
        for key in &self.keys {
            let state = match key.in_use {
                true => "in use",
                false => "counts once the node has booted with it",
            };
            text += &format!(
                "{} (made {}, {state})\n{}\n",
                key.volume,
                written(key.made_at_ms),
                key.key
            );
        }
        text + &format!(
            "Type it at the node's console. Once the node is back: `bootkeep rotate {}`, which makes a new one.\n",
            self.node_id.short()
        )
    }
}

/// Opens the recovery keys of a node. No service is asked: it works while all of them are down.
///
/// # Errors
/// As [`recovery::show`]; [`Error::NotFound`] for a node this home does not know.
pub fn show_recovery(home: &Home, options: &cli::ShowRecovery) -> Result<RecoveryKeys, Error> {
    let node_id = match options.node.parse() {
        Ok(node) => node,
        Err(_) => local::find(home, &options.node)?.ok_or_else(|| {
            Error::NotFound(format!("this home knows no node {:?}", options.node))
        })?,
    };
    let shown = recovery::show(home, &node_id, &options.key, options.again)?;
    let keys = shown.into_iter().map(|shown| RecoveryKey {
        volume: shown.about.volume,
        in_use: shown.about.in_use,
        made_at_ms: shown.about.made_at_ms,
        key: shown.key.as_str().to_owned(),
    });
    Ok(RecoveryKeys {
        keys: keys.collect(),
        node_id,
    })
}
