//! The steps of a provisioning, shown live.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::Instant,
};

use bootkeep_protocol::{limits::clean_text, verifier::StepRecord};
use serde::Serialize;

/// Who tells of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Teller {
    /// This program.
    Tenant,
    /// The verifier.
    Verifier,
    /// The node, through the verifier. Nobody has proved it.
    Node,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Milliseconds since this program began.
    pub at_ms: u64,
    /// Who tells of it.
    pub teller: Teller,
    /// Kebab-case, stable.
    pub step: String,
    /// One line for people.
    pub detail: String,
}

/// Sees each step when it comes.
pub trait Watch {
    /// A step was made.
    fn moment(&mut self, moment: &Moment);
    /// Nothing happens until `what` does.
    fn waiting(&mut self, at_ms: u64, what: &str);
}

/// Keeps and shows the steps.
pub struct Timeline<'a> {
    began: Instant,
    began_ms: u64,
    moments: Vec<Moment>,
    said: BTreeSet<String>,
    last_said: String,
    watch: &'a mut dyn Watch,
}

impl std::fmt::Debug for Timeline<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "timeline of {} steps", self.moments.len())
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

impl<'a> Timeline<'a> {
    /// Begins now.
    pub fn new(watch: &'a mut dyn Watch) -> Self {
        Self {
            began: Instant::now(),
            began_ms: now_ms(),
            moments: Vec::new(),
            said: BTreeSet::new(),
            last_said: String::new(),
            watch,
        }
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// A step of this program.
    pub fn step(&mut self, step: &str, detail: impl Into<String>) {
        self.push(Moment {
            at_ms: self.elapsed_ms(),
            teller: Teller::Tenant,
            step: step.into(),
            detail: detail.into(),
        });
    }

    /// A step the verifier tells of; what happened before this program began is left out.
    pub fn told(&mut self, record: &StepRecord) {
        if record.at_ms < self.began_ms {
            return;
        }
        let teller = match record.node_ms {
            Some(_) => Teller::Node,
            None => Teller::Verifier,
        };
        self.push(Moment {
            at_ms: record.at_ms - self.began_ms,
            teller,
            step: clean_text(&record.step),
            detail: clean_text(&record.detail),
        });
    }

    /// Says what is waited for, once until a step comes, and then only when it is something else.
    pub fn waiting(&mut self, what: &str) {
        if self.said.insert(what.to_owned()) && self.last_said != what {
            what.clone_into(&mut self.last_said);
            self.watch.waiting(self.elapsed_ms(), what);
        }
    }

    fn push(&mut self, moment: Moment) {
        self.said.clear();
        self.watch.moment(&moment);
        self.moments.push(moment);
    }

    /// All steps, in the order they were made; news of the verifier may have come later than that.
    #[must_use]
    pub fn into_moments(mut self) -> Vec<Moment> {
        self.moments.sort_by_key(|moment| moment.at_ms);
        self.moments
    }
}

/// Shows steps on standard error, a line each.
#[derive(Debug)]
pub struct Lines {
    /// Whether to colour them.
    pub colours: bool,
}

impl Lines {
    fn line(&self, at_ms: u64, colour: &str, mark: &str, text: &str) {
        let seconds = format!("{:>4}.{:03} s", at_ms / 1000, at_ms % 1000);
        let line = if self.colours {
            format!("\x1b[2m{seconds}\x1b[0m  \x1b[{colour}m{mark}\x1b[0m {text}")
        } else {
            format!("{seconds}  {mark} {text}")
        };
        // The provisioning goes on when nobody can watch.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

impl Lines {
    /// A line beside the steps.
    pub fn note(&mut self, text: &str) {
        // Standard error may be closed; the work goes on.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

impl Watch for Lines {
    fn moment(&mut self, moment: &Moment) {
        let bad = ["refused", "untrusted", "revoked"].contains(&moment.step.as_str());
        let (colour, mark) = match (bad, moment.teller) {
            (true, _) => ("31", "!"),
            (_, Teller::Tenant) => ("32", "*"),
            (_, Teller::Verifier) => ("36", "v"),
            (_, Teller::Node) => ("33", "n"),
        };
        let text = format!("{:<16} {}", moment.step, moment.detail);
        self.line(moment.at_ms, colour, mark, text.trim_end());
    }

    fn waiting(&mut self, at_ms: u64, what: &str) {
        self.line(at_ms, "2", ".", what);
    }
}
