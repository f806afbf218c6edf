//! What happened to a node, for people.

use std::collections::VecDeque;

use bootkeep_evidence::printable;
use bootkeep_protocol::{limits::MAX_STEPS, verifier::StepRecord};

/// The last [`MAX_STEPS`] steps. Numbers start at the time of the start, so they grow over restarts too.
#[derive(Debug)]
pub(crate) struct Steps {
    next: u64,
    ring: VecDeque<StepRecord>,
}

impl Steps {
    pub(crate) fn starting_at(now_ms: u64) -> Self {
        Self {
            next: now_ms,
            ring: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, at_ms: u64, step: &str, node_ms: Option<u64>, detail: &str) {
        if self.ring.len() == MAX_STEPS {
            self.ring.pop_front();
        }
        self.ring.push_back(StepRecord {
            number: self.next,
            at_ms,
            step: step.to_owned(),
            node_ms,
            detail: printable(detail),
        });
        self.next += 1;
    }

    /// Newer than `number`, oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<StepRecord> {
        self.ring
            .iter()
            .filter(|step| step.number > number)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_steps_are_dropped_and_numbers_grow() {
        let mut steps = Steps::starting_at(1000);
        for _ in 0..MAX_STEPS + 3 {
            steps.push(1, "trusted", None, "a\nb");
        }
        let all = steps.after(0);
        assert_eq!(all.len(), MAX_STEPS);
        assert_eq!(all[0].number, 1003);
        assert_eq!(all[0].detail, "a?b");
        let last = all[MAX_STEPS - 1].number;
        assert_eq!(steps.after(last - 1).len(), 1);
        assert!(steps.after(last).is_empty());
    }
}
