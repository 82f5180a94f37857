//! Probes of running instances: when to ask, how, and what the answers amount to ([`window`]).
//!
//! One task asks; whoever holds the [`Prober`] says whom to ask and reads what is known. It decides nothing: a dead
//! instance is restarted and an unready one leaves the route because `planner` says so.

mod check;
pub mod window;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use planner::Now;
use planner::node::Probed;
use protocol::spec::Health;
use tokio::sync::Notify;

use crate::clock;
use crate::engine::Engine;
use crate::engine::pull::AbortOnDrop;
use window::{Answer, Kind, Window};

/// An instance to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The engine's id.
    pub container: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// When it started; another value is another start, and begins anew.
    pub started: Now,
    /// Its probes.
    pub health: Arc<Health>,
    /// The ports it serves, connected to where no readiness is written.
    pub targets: Vec<u16>,
}

/// Readiness or being dead changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeChanged {
    /// The engine's id of the instance.
    pub container: String,
    /// What its probes say now.
    pub probed: Probed,
}

/// Whether failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// They do.
    Normal,
    /// They do not: the engine is away, and with it perhaps its containers' network. Successes still count.
    Suspended,
}

/// Probes instances for as long as it lives.
#[derive(Debug)]
pub struct Prober {
    shared: Rc<Shared>,
    _task: AbortOnDrop,
}

#[derive(Debug)]
struct Shared {
    state: RefCell<State>,
    /// Someone changed whom to ask.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    instances: BTreeMap<String, Probing>,
    counting: Counting,
}

#[derive(Debug)]
struct Probing {
    target: ProbeTarget,
    window: Window,
}

/// An answer, and whom and what it is about.
struct Answered {
    container: String,
    started: Now,
    kind: Kind,
    answer: Answer,
}

type Asking = Pin<Box<dyn Future<Output = Answered>>>;

impl Prober {
    /// Begins with nobody to probe. `tell` is called from the probing task for each change; it must not block.
    #[must_use]
    pub fn start<E: Engine>(engine: E, tell: impl Fn(ProbeChanged) + 'static) -> Self {
        let state = State { instances: BTreeMap::new(), counting: Counting::Normal };
        let shared = Rc::new(Shared { state: RefCell::new(state), changed: Notify::new() });
        let task = tokio::task::spawn_local(probe(engine, Rc::clone(&shared), tell));
        Self { shared, _task: AbortOnDrop(task.abort_handle()) }
    }

    /// Whom to probe from now on. Who was probed already since the same start goes on.
    pub fn set(&self, targets: Vec<ProbeTarget>) {
        let mut state = self.shared.state.borrow_mut();
        let mut before = std::mem::take(&mut state.instances);
        for target in targets {
            let kept = before.remove(&target.container).filter(|probing| probing.target == target);
            let probing = kept.unwrap_or_else(|| {
                let window = Window::new(&target.health, &target.targets, target.started);
                Probing { target: target.clone(), window }
            });
            state.instances.insert(target.container, probing);
        }
        self.shared.changed.notify_one();
    }

    /// Whether failures count from now on.
    pub fn count(&self, counting: Counting) {
        self.shared.state.borrow_mut().counting = counting;
    }

    /// What is known of an instance; `None` when it is not probed.
    #[must_use]
    pub fn probed(&self, container: &str) -> Option<Probed> {
        let state = self.shared.state.borrow();
        state.instances.get(container).map(|probing| probing.window.probed().clone())
    }
}

/// The task.
async fn probe<E: Engine>(engine: E, shared: Rc<Shared>, tell: impl Fn(ProbeChanged)) {
    let mut askings: FuturesUnordered<Asking> = FuturesUnordered::new();
    loop {
        let next_at = shared.state.borrow_mut().ask(&engine, &mut askings);
        let wait_ms = next_at.map(|at| at.since(clock::now()));
        let timer = async {
            match wait_ms {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel-safe: an asking that has not ended stays in the set.
            Some(answered) = askings.next(), if !askings.is_empty() => {
                let change = shared.state.borrow_mut().take(answered);
                if let Some(change) = change {
                    tell(change);
                }
            }
            // Cancel-safe: only waits.
            () = timer => {}
            // Cancel-safe: a permit that was not taken stays.
            () = shared.changed.notified() => {}
        }
    }
}

impl State {
    /// Asks whatever is due; returns when the next one is.
    fn ask<E: Engine>(
        &mut self,
        engine: &E,
        askings: &mut FuturesUnordered<Asking>,
    ) -> Option<Now> {
        let now = clock::now();
        // Nobody is due: nobody is asked early either.
        let first = self.next_at()?;
        if first > now {
            return Some(first);
        }
        for probing in self.instances.values_mut() {
            for kind in probing.window.due(now) {
                let (checks, timeout) = probing.window.begin(kind, now);
                let (engine, target) = (engine.clone(), probing.target.clone());
                askings.push(Box::pin(async move {
                    let ProbeTarget { container, address, started, .. } = target;
                    let answer = check::ask(&engine, &container, address, &checks, timeout).await;
                    Answered { container, started, kind, answer }
                }));
            }
        }
        self.next_at()
    }

    fn next_at(&self) -> Option<Now> {
        self.instances.values().filter_map(|probing| probing.window.next_at()).min()
    }

    /// Takes in an answer; what changed by it is told.
    fn take(&mut self, answered: Answered) -> Option<ProbeChanged> {
        let Answered { container, started, kind, answer } = answered;
        let probing = self.instances.get_mut(&container)?;
        if probing.target.started != started {
            return None;
        }
        let answer = match (answer, self.counting) {
            (Answer::Failed(_), Counting::Suspended) => Answer::Unknown,
            (answer, _) => answer,
        };
        let has_changed = probing.window.finish(kind, answer, clock::now());
        let probed = probing.window.probed().clone();
        has_changed.then_some(ProbeChanged { container, probed })
    }
}

#[cfg(test)]
mod tests;
