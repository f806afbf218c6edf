//! The lines in memory: each policy once, however many nodes follow it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bootkeep_policy::PolicyError;
use serde_json::Value;

use super::line::{Kind, Line};

#[derive(Debug)]
pub(crate) struct Shelf<P> {
    named: Mutex<HashMap<String, Arc<Line<P>>>>,
    /// By the digest of their texts; those that no node follows any more are dropped.
    documents: Mutex<HashMap<String, Weak<Line<P>>>>,
}

impl<P> Default for Shelf<P> {
    fn default() -> Self {
        Self {
            named: Mutex::default(),
            documents: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Kind> Shelf<P> {
    /// The line of this name, made when it is not known yet. Lines of names stay.
    pub(crate) fn named(&self, name: &str) -> Arc<Line<P>> {
        let mut named = lock(&self.named);
        let line = named.entry(name.to_owned());
        line.or_insert_with(|| Arc::new(Line::named(name))).clone()
    }

    /// The line of this name, when there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Line<P>>> {
        lock(&self.named).get(name).cloned()
    }

    /// The document with this digest, when a node follows it.
    pub(crate) fn known(&self, digest: &str) -> Option<Arc<Line<P>>> {
        lock(&self.documents).get(digest).and_then(Weak::upgrade)
    }

    /// The document with this digest, read when no node follows it yet.
    pub(crate) fn document(&self, digest: &str, value: Value) -> Result<Arc<Line<P>>, PolicyError> {
        if let Some(known) = self.known(digest) {
            return Ok(known);
        }
        let line = Arc::new(Line::document(P::of_document(value)?, digest));
        let mut documents = lock(&self.documents);
        documents.retain(|_, line| line.strong_count() > 0);
        if let Some(known) = documents.get(digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        documents.insert(digest.to_owned(), Arc::downgrade(&line));
        Ok(line)
    }
}
