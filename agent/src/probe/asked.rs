//! Who is asked, and what is known of each. Pure: time is an argument, and answers come from outside.

use std::collections::BTreeMap;

use planner::Now;
use planner::node::Probed;
use protocol::spec::Check;
use protocol::units::Millis;

use super::window::{Answer, Kind, Window};
use super::{Counting, ProbeChanged, ProbeTarget};

/// Every instance that is probed.
#[derive(Debug)]
pub struct Asked {
    instances: BTreeMap<String, Probing>,
    counting: Counting,
}

#[derive(Debug)]
struct Probing {
    target: ProbeTarget,
    window: Window,
}

/// Something to ask now.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Whom.
    pub target: ProbeTarget,
    /// Which of its probes.
    pub kind: Kind,
    /// All of these must pass,
    pub checks: Vec<Check>,
    /// within this.
    pub timeout: Millis,
}

/// An answer, and whom and what it is about.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The engine's id.
    pub container: String,
    /// The start that was asked about.
    pub started: Now,
    /// Which of its probes.
    pub kind: Kind,
    /// What it came to.
    pub answer: Answer,
}

impl Default for Asked {
    fn default() -> Self {
        Self { instances: BTreeMap::new(), counting: Counting::Normal }
    }
}

impl Asked {
    /// Whom to probe from now on. Who was probed already since the same start goes on.
    pub fn set(&mut self, targets: Vec<ProbeTarget>) {
        let mut before = std::mem::take(&mut self.instances);
        for target in targets {
            let kept = before.remove(&target.container).filter(|probing| probing.target == target);
            let probing = kept.unwrap_or_else(|| {
                let window = Window::new(&target.health, &target.targets, target.started);
                Probing { target: target.clone(), window }
            });
            self.instances.insert(target.container, probing);
        }
    }

    /// Whether failures count from now on.
    pub const fn count(&mut self, counting: Counting) {
        self.counting = counting;
    }

    /// What is known of an instance; `None` when it is not probed.
    #[must_use]
    pub fn probed(&self, container: &str) -> Option<&Probed> {
        self.instances.get(container).map(|probing| probing.window.probed())
    }

    /// When somebody is to be asked next; none while every answer is awaited.
    #[must_use]
    pub fn next_at(&self) -> Option<Now> {
        self.instances.values().filter_map(|probing| probing.window.next_at()).min()
    }

    /// Whatever is due, marked as asked.
    pub fn ask(&mut self, now: Now) -> Vec<Asking> {
        // Nobody is due: nobody is asked early either.
        if self.next_at().is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut askings = Vec::new();
        for Probing { target, window } in self.instances.values_mut() {
            for kind in window.due(now) {
                let (checks, timeout) = window.begin(kind, now);
                askings.push(Asking { target: target.clone(), kind, checks, timeout });
            }
        }
        askings
    }

    /// Takes in an answer; what changed by it.
    pub fn take(&mut self, answered: Answered, now: Now) -> Option<ProbeChanged> {
        let Answered { container, started, kind, answer } = answered;
        let probing = self.instances.get_mut(&container)?;
        if probing.target.started != started {
            return None;
        }
        let answer = match (answer, self.counting) {
            (Answer::Failed(_), Counting::Suspended) => Answer::Unknown,
            (answer, _) => answer,
        };
        let has_changed = probing.window.finish(kind, answer, now);
        let probed = probing.window.probed().clone();
        has_changed.then_some(ProbeChanged { container, probed })
    }
}
