//! Which node a user means: a full id, the first digits of one, or a label.

use bootkeep_protocol::{registrar::NodeRecord, NodeId};

use crate::{
    local::{self, Candidate, LocalNode, MIN_PREFIX},
    services::Services,
    Error, Home,
};

/// The node of this name, among those that this home, the verifier and the registrar know.
///
/// A full id is taken as it is. A service that cannot be reached matters only when the name is not found elsewhere.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Usage`] when more than one fits, errors of the services.
pub async fn find(home: &Home, services: &Services, name: &str) -> Result<NodeId, Error> {
    if let Ok(node) = name.parse() {
        return Ok(node);
    }
    let mut candidates = known_here(home)?;
    let mut missing = None;
    match services.statuses().await {
        Ok(statuses) => candidates.extend(statuses.into_iter().map(|status| Candidate {
            node_id: status.node_id,
            label: status.label,
        })),
        Err(error) => missing = Some(error),
    }
    match services.records().await {
        Ok(records) => candidates.extend(records.into_iter().map(|record| Candidate {
            node_id: record.node_id,
            label: String::new(),
        })),
        Err(error) => missing = Some(error),
    }
    match local::choose(name, &candidates)? {
        Some(node) => Ok(node),
        None => Err(missing.unwrap_or_else(|| unknown(name))),
    }
}

/// A registered node, or one that may yet register.
#[derive(Debug)]
pub enum Named {
    /// Registered.
    Record(Box<NodeRecord>),
    /// Nothing registered has this name yet.
    NotYet,
}

/// The record of the node of this name. Labels must be known; ids and their beginnings may yet come.
///
/// # Errors
/// As [`find`].
pub async fn registered(home: &Home, services: &Services, name: &str) -> Result<Named, Error> {
    let node = match find(home, services, name).await {
        Err(Error::NotFound(_)) if may_come(name) => return Ok(Named::NotYet),
        other => other?,
    };
    let record = services.record(&node).await?;
    Ok(record.map_or(Named::NotYet, |record| Named::Record(Box::new(record))))
}

fn may_come(name: &str) -> bool {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (MIN_PREFIX..=64).contains(&name.len()) && name.bytes().all(hex)
}

fn known_here(home: &Home) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    for node_id in local::nodes(home)? {
        let label = LocalNode::load(home, &node_id)?.map_or_else(String::new, |node| node.label);
        candidates.push(Candidate { node_id, label });
    }
    Ok(candidates)
}

fn unknown(name: &str) -> Error {
    Error::NotFound(format!(
        "no node is called {name:?}; `bootkeep nodes` lists them (an id, its first {MIN_PREFIX} or more digits, or a label)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_an_id_may_yet_come() {
        for good in ["abcdef", &"0".repeat(64)] {
            assert!(may_come(good), "{good}");
        }
        for bad in ["abcde", "web-server", "ABCDEF", &"0".repeat(65)] {
            assert!(!may_come(bad), "{bad}");
        }
    }
}
