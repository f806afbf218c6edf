//! EKs without a certificate that this owner accepts: `approvals.yaml`. The registrar's list is its own.

use std::{collections::BTreeMap, path::PathBuf};

use bootkeep_protocol::NodeId;

use crate::{
    files::{self, PRIVATE},
    Error, Home,
};

/// Largest file that is read (bytes).
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Node ids and why they are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals(BTreeMap<NodeId, String>);

fn path(home: &Home) -> PathBuf {
    home.folder().join("approvals.yaml")
}

impl Approvals {
    /// Reads the home's list; none is an empty one.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be read as a list; errors of files.
    pub fn load(home: &Home) -> Result<Self, Error> {
        let path = path(home);
        let text = match files::read_text(&path, MAX_FILE) {
            Err(Error::NotFound(_)) => return Ok(Self::default()),
            other => other?,
        };
        serde_yaml::from_str(&text)
            .map(Self)
            .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
    }

    /// Why this EK is accepted.
    #[must_use]
    pub fn note(&self, node: &NodeId) -> Option<&str> {
        self.0.get(node).map(String::as_str)
    }

    /// All of them, with why.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &str)> {
        self.0.iter().map(|(node, note)| (node, note.as_str()))
    }

    /// Accepts an EK and keeps that.
    ///
    /// # Errors
    /// Errors of files.
    pub fn add(mut self, home: &Home, node: &NodeId, note: &str) -> Result<(), Error> {
        self.0.insert(node.clone(), note.to_owned());
        self.save(home)
    }

    /// Takes an approval back; whether there was one.
    ///
    /// # Errors
    /// Errors of files.
    pub fn withdraw(mut self, home: &Home, node: &NodeId) -> Result<bool, Error> {
        let was = self.0.remove(node).is_some();
        self.save(home)?;
        Ok(was)
    }

    fn save(&self, home: &Home) -> Result<(), Error> {
        let text =
            serde_yaml::to_string(&self.0).map_err(|error| Error::Failed(error.to_string()))?;
        files::replace(&path(home), text.as_bytes(), PRIVATE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn approvals_are_kept_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let node = NodeId::of_ek_public(b"ek");
        assert_eq!(Approvals::load(&home).unwrap().note(&node), None);
        Approvals::default()
            .add(&home, &node, "seen it: \"rack 4\"")
            .unwrap();
        let approvals = Approvals::load(&home).unwrap();
        assert_eq!(approvals.note(&node), Some("seen it: \"rack 4\""));
        assert!(approvals.withdraw(&home, &node).unwrap());
        assert_eq!(Approvals::load(&home).unwrap(), Approvals::default());
        std::fs::write(path(&home), "x: y\n").unwrap();
        assert_eq!(Approvals::load(&home).unwrap_err().exit_code(), 2);
    }
}
