//! What an appraisal needs of a runtime policy.

use std::{fmt, sync::Arc};

use bootkeep_evidence::ima::Entry;
use bootkeep_protocol::verifier::Reason;

use crate::reason::Refusal;

/// Decides about measured entries: one policy, or several of which one must accept.
pub trait RuntimeRules: fmt::Debug + Send + Sync {
    /// Whether nothing at all can be accepted. An appraisal against that is refused as a whole.
    fn is_empty(&self) -> bool;

    /// Refuses the appraisal as a whole when nothing at all can be accepted, saying why.
    ///
    /// # Errors
    /// [`Refusal`].
    fn usable(&self) -> Result<(), Refusal> {
        if self.is_empty() {
            let detail = "the runtime policy lists no file: it accepts nothing";
            return Err(Refusal::of("runtime-policy-empty", detail));
        }
        Ok(())
    }

    /// Why an entry that a quote covers is refused; `None` when it is accepted. `number` counts from 0 in the whole
    /// list and is only for the text.
    fn refusal(&self, number: u64, entry: &Entry) -> Option<Reason>;
}

impl<T: RuntimeRules + ?Sized> RuntimeRules for Arc<T> {
    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn usable(&self) -> Result<(), Refusal> {
        (**self).usable()
    }

    fn refusal(&self, number: u64, entry: &Entry) -> Option<Reason> {
        (**self).refusal(number, entry)
    }
}
