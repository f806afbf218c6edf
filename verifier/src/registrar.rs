//! What the registrar knows of a node.

use bootkeep_link::{HttpClient, HttpError};
use bootkeep_protocol::{registrar::NodeRecord, NodeId, Problem, ProblemKind};

/// Asks the registrar for records.
#[derive(Clone, Debug)]
pub struct Registrar {
    client: HttpClient,
    base: String,
}

impl Registrar {
    /// `base` is the registrar's URL, without a path.
    #[must_use]
    pub fn new(client: HttpClient, base: &str) -> Self {
        Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    pub(crate) async fn record(&self, node: &NodeId) -> Result<NodeRecord, Problem> {
        let url = format!("{}/v1/nodes/{node}", self.base);
        self.client.get(&url).await.map_err(refusal)
    }
}

fn refusal(error: HttpError) -> Problem {
    match error.problem() {
        Some(problem) if problem.kind == ProblemKind::NotFound => Problem::new(
            ProblemKind::Untrusted,
            "not-registered",
            "the registrar does not know this node; register it first",
        ),
        _ => {
            tracing::warn!(%error, "the registrar gave no record");
            Problem::new(
                ProblemKind::Unavailable,
                "no-registrar",
                "the verifier cannot ask the registrar now; try again",
            )
        }
    }
}
