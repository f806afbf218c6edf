//! What a node's evidence is held against: a named policy through its generations, or a document.

use std::{collections::BTreeMap, sync::Arc};

use bootkeep_policy::{
    BootPolicy, Generation, Generations, PolicyError, RuntimePolicy, SignedPolicy,
};
use bootkeep_protocol::{policy::PolicyKind, verifier::PolicyUse};
use serde_json::Value;
use tokio::sync::watch;

/// Boot or runtime policy.
pub(crate) trait Kind: Sized + Send + Sync + std::fmt::Debug + 'static {
    const KIND: PolicyKind;

    fn of_signed(policy: &SignedPolicy) -> Option<Generation<Self>>;
    fn of_document(value: Value) -> Result<Self, PolicyError>;
    fn accepts_nothing(&self) -> bool;
}

impl Kind for BootPolicy {
    const KIND: PolicyKind = PolicyKind::Boot;

    fn of_signed(policy: &SignedPolicy) -> Option<Generation<Self>> {
        policy.boot()
    }

    fn of_document(value: Value) -> Result<Self, PolicyError> {
        Self::from_value(value)
    }

    fn accepts_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl Kind for RuntimePolicy {
    const KIND: PolicyKind = PolicyKind::Runtime;

    fn of_signed(policy: &SignedPolicy) -> Option<Generation<Self>> {
        policy.runtime()
    }

    fn of_document(value: Value) -> Result<Self, PolicyError> {
        Self::from_value(value)
    }

    fn accepts_nothing(&self) -> bool {
        self.is_empty()
    }
}

/// The generations of a line at one moment, with the digests of their texts.
#[derive(Debug)]
pub(crate) struct Content<P> {
    pub(crate) generations: Generations<P>,
    digests: BTreeMap<u64, String>,
}

impl<P: Kind> Content<P> {
    /// The generations that are not retired.
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a SignedPolicy>) -> Self {
        let mut digests = BTreeMap::new();
        let generations = policies.filter_map(|policy| {
            digests.insert(policy.generation(), policy.digest().to_owned());
            P::of_signed(policy)
        });
        Self {
            generations: Generations::new(generations.collect()),
            digests,
        }
    }
}

/// One policy, shared by every node that follows it. It stays the same while generations come and go.
#[derive(Debug)]
pub(crate) struct Line<P> {
    name: Option<String>,
    content: watch::Sender<Arc<Content<P>>>,
}

impl<P: Kind> Line<P> {
    /// A named policy that has no generation yet.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            content: watch::Sender::new(Arc::new(Content::of([].iter()))),
        }
    }

    /// A document; `digest` is that of its text.
    pub(super) fn document(policy: P, digest: &str) -> Self {
        let content = Content {
            generations: Generations::document(Arc::new(policy)),
            digests: [(0, digest.to_owned())].into(),
        };
        Self {
            name: None,
            content: watch::Sender::new(Arc::new(content)),
        }
    }

    pub(super) fn publish(&self, content: Content<P>) {
        self.content.send_replace(Arc::new(content));
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The generations now.
    pub(crate) fn content(&self) -> Arc<Content<P>> {
        self.content.borrow().clone()
    }

    /// Changes when generations come or go.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Content<P>>> {
        self.content.subscribe()
    }

    /// What counts at this moment, for people.
    pub(crate) fn in_use(&self, now_ms: u64) -> PolicyUse {
        let content = self.content();
        let live: Vec<u64> = content
            .generations
            .live_at(now_ms)
            .map(|generation| generation.number)
            .collect();
        let digest = live.first().and_then(|newest| content.digests.get(newest));
        PolicyUse {
            kind: P::KIND,
            name: self.name.clone(),
            digest: digest.cloned().unwrap_or_default(),
            generations: if self.name.is_some() {
                live
            } else {
                Vec::new()
            },
        }
    }
}
