//! Probes of running instances: whom to ask and when ([`asked`]), how, and what the answers amount to ([`window`]).
//!
//! One task asks; whoever holds the [`Prober`] says whom to ask and reads what is known. It decides nothing: a dead
//! instance is restarted and an unready one leaves the route because `planner` says so.

pub mod asked;
mod check;
pub mod window;

use std::cell::RefCell;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use planner::Now;
use planner::node::Probed;
use protocol::spec::Health;
use tokio::sync::Notify;

use crate::alarm::Alarm;
use crate::clock;
use crate::engine::Engine;
use crate::engine::pull::AbortOnDrop;
use asked::{Answered, Asked, Asking};

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
    asked: RefCell<Asked>,
    /// Someone changed whom to ask.
    changed: Notify,
}

type Answering = Pin<Box<dyn Future<Output = Answered>>>;

impl Prober {
    /// Begins with nobody to probe. `tell` is called from the probing task for each change; it must not block.
    #[must_use]
    pub fn start<E: Engine>(engine: E, tell: impl Fn(ProbeChanged) + 'static) -> Self {
        let shared = Rc::new(Shared { asked: RefCell::default(), changed: Notify::new() });
        let task = tokio::task::spawn_local(probe(engine, Rc::clone(&shared), tell));
        Self { shared, _task: AbortOnDrop(task.abort_handle()) }
    }

    /// Whom to probe from now on. Who was probed already since the same start goes on.
    pub fn set(&self, targets: Vec<ProbeTarget>) {
        self.shared.asked.borrow_mut().set(targets);
        self.shared.changed.notify_one();
    }

    /// Whether failures count from now on.
    pub fn count(&self, counting: Counting) {
        self.shared.asked.borrow_mut().count(counting);
    }

    /// What is known of an instance; `None` when it is not probed.
    #[must_use]
    pub fn probed(&self, container: &str) -> Option<Probed> {
        self.shared.asked.borrow().probed(container).cloned()
    }
}

/// The task.
async fn probe<E: Engine>(engine: E, shared: Rc<Shared>, tell: impl Fn(ProbeChanged)) {
    let mut answers: FuturesUnordered<Answering> = FuturesUnordered::new();
    let alarm = Alarm::new();
    loop {
        let askings = shared.asked.borrow_mut().ask(clock::now());
        answers.extend(askings.into_iter().map(|asking| ask(engine.clone(), asking)));
        let next_at = shared.asked.borrow().next_at();
        let timer = async {
            match next_at {
                Some(at) => alarm.until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel-safe: an asking that has not ended stays in the set.
            Some(answered) = answers.next(), if !answers.is_empty() => {
                let change = shared.asked.borrow_mut().take(answered, clock::now());
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

fn ask<E: Engine>(engine: E, asking: Asking) -> Answering {
    let Asking { target, kind, checks, timeout } = asking;
    Box::pin(async move {
        let ProbeTarget { container, address, started, .. } = target;
        let answer = check::ask(&engine, &container, address, &checks, timeout).await;
        Answered { container, started, kind, answer }
    })
}

#[cfg(test)]
mod tests;
