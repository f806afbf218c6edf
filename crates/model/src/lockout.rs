//! States from which a node can never be unlocked again.
//!
//! "Always eventually" is not a property of single states, nor of single runs when there are cycles (a node can be
//! powered off for ever). What is checked is: from *every* reachable state there is a way. The graph is finite, so it is
//! built whole and searched backwards from the states that are unlocked.

use std::collections::HashMap;

use stateright::Model;

use crate::{Action, Config, State};

/// Who may act on the way to an unlocked node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// Node and verifier only.
    Unattended,
    /// The tenant too: provision again, reinstate.
    Attended,
}

/// The reachable states of a model.
#[derive(Debug)]
pub struct Graph {
    states: Vec<State>,
    index: HashMap<State, usize>,
    /// How each state was first reached.
    parents: Vec<Option<(usize, Action)>>,
    /// For each state those it can be reached from.
    before: Vec<Vec<(usize, Action)>>,
}

impl Help {
    fn allows(self, action: Action) -> bool {
        match action {
            Action::Node(_) | Action::Verifier(_) | Action::Fault(_) => true,
            Action::Tenant(_) => self == Self::Attended,
            Action::Attacker(_) => false,
        }
    }
}

impl Graph {
    /// Builds it, breadth first.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut graph = Self {
            states: Vec::new(),
            index: HashMap::new(),
            parents: Vec::new(),
            before: Vec::new(),
        };
        for state in config.init_states() {
            graph.add(state, None);
        }
        let mut at = 0;
        while at < graph.states.len() {
            for (action, next) in config.next_steps(&graph.states[at]) {
                let next = graph.add(next, Some((at, action)));
                graph.before[next].push((at, action));
            }
            at += 1;
        }
        graph
    }

    fn add(&mut self, state: State, parent: Option<(usize, Action)>) -> usize {
        if let Some(at) = self.index.get(&state) {
            return *at;
        }
        let at = self.states.len();
        self.index.insert(state.clone(), at);
        self.states.push(state);
        self.parents.push(parent);
        self.before.push(Vec::new());
        at
    }

    /// The states.
    #[must_use]
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// How a node is locked out for ever, shortest first; nothing when it cannot be.
    #[must_use]
    pub fn lockout(&self, help: Help) -> Option<Vec<Action>> {
        let saved = self.saved(help);
        let lost = (0..self.states.len()).find(|at| {
            let state = &self.states[*at];
            let counts = match help {
                Help::Unattended => state.is_unattended(),
                Help::Attended => state.is_attended(),
            };
            counts && !saved[*at]
        })?;
        Some(self.path(lost))
    }

    /// For each state whether there is a way to an unlocked one.
    fn saved(&self, help: Help) -> Vec<bool> {
        let mut saved = vec![false; self.states.len()];
        let mut todo: Vec<usize> = (0..self.states.len())
            .filter(|at| self.states[*at].is_unlocked())
            .collect();
        while let Some(at) = todo.pop() {
            if !std::mem::replace(&mut saved[at], true) {
                let before = self.before[at].iter();
                todo.extend(
                    before
                        .filter(|(_, action)| help.allows(*action))
                        .map(|(from, _)| from),
                );
            }
        }
        saved
    }

    /// How a state was reached.
    fn path(&self, mut at: usize) -> Vec<Action> {
        let mut path = Vec::new();
        while let Some((parent, action)) = self.parents[at] {
            path.push(action);
            at = parent;
        }
        path.reverse();
        path
    }
}
