//! What root of the board asks: answered from the state of this moment, and a hold only once it is durable.

use std::collections::BTreeMap;

use planner::Now;
use planner::node::{CannotHold, Held, History, Wanted};
use protocol::id::ServiceName;
use protocol::reason::Reason;
use tracing::info;

use super::acts::Act;
use super::agent::Agent;
use super::writing::Job;
use crate::ledger::Hold;
use crate::local::{Answer, Board, Change, Request, Wish};
use crate::observe::gather::Scope;

/// A request of root's, from the local socket.
#[derive(Debug)]
pub struct Asked {
    /// What its answer carries.
    pub number: u64,
    /// What.
    pub request: Request,
    /// Who, for people.
    pub by: String,
    /// Unix seconds by the node's clock.
    pub at_s: u64,
}

/// A hold, or the end of one, on its way to the disk.
#[derive(Debug)]
pub struct Holding {
    /// Of which service.
    pub service: ServiceName,
    /// None: it is released.
    pub hold: Option<Hold>,
    /// Who waits for it.
    pub asked: u64,
    /// What is said once it is durable.
    pub done: String,
    /// By whom.
    pub by: String,
}

type Choice =
    fn(&ServiceName, &Wanted, &BTreeMap<ServiceName, History>) -> Result<Held, CannotHold>;

impl Agent {
    pub(super) fn asked(&mut self, asked: Asked, now: Now) {
        match asked.request.wish.clone() {
            Wish::Ps => {
                let board = Box::new(self.board(now));
                self.answer(asked.number, Answer::Board(board));
            }
            Wish::Hold(change) => self.hold(asked, change, Held::at_present),
            Wish::Undo(change) => self.hold(asked, change, Held::before),
            Wish::Release(change) => self.release(asked, change.service),
        }
    }

    fn board(&self, now: Now) -> Board {
        let releases = self.wanted.iter().flat_map(|wanted| &wanted.releases);
        let images = releases.map(|(id, release)| (id.clone(), release.image.reference.clone()));
        let before = |service: &ServiceName| {
            let held = Held::before(service, self.wanted.as_ref()?, &self.histories).ok()?;
            Some((service.clone(), held.kept.release))
        };
        Board {
            name: self.settings.name.clone(),
            report: self.report_now(now),
            images: images.collect(),
            before: self.histories.keys().filter_map(before).collect(),
        }
    }

    fn hold(&mut self, asked: Asked, change: Change, choose: Choice) {
        let Asked { number, by, at_s, .. } = asked;
        let Change { service, reason } = change;
        let Some(wanted) = &self.wanted else {
            let message = "this board has no manifest yet: nothing of a service is known";
            return self.answer(number, Answer::Refused(message.to_owned()));
        };
        let held = match choose(&service, wanted, &self.histories) {
            Ok(held) => held,
            Err(error) => return self.answer(number, Answer::Refused(error.to_string())),
        };
        let revision = held.kept.revision;
        let image = wanted.releases.get(&held.kept.release).map(|r| r.image.reference.clone());
        let image = image.unwrap_or_else(|| held.kept.release.short().to_owned());
        let done = format!(
            "{service} is held at revision {revision} ({image}); `pith-agent release {service}` lets go"
        );
        let hold = Some(Hold { held, by: by.clone(), since_s: at_s, reason });
        let holding = Holding { service, hold, asked: number, done, by };
        self.writing.push(Job::Hold(Box::new(holding)));
    }

    fn release(&mut self, asked: Asked, service: ServiceName) {
        if !self.holds.contains_key(&service) {
            let message = format!("`{service}` is not held; `pith-agent ps` shows what is");
            return self.answer(asked.number, Answer::Refused(message));
        }
        let done = format!("{service} is released: the newest manifest counts again");
        let by = asked.by;
        let holding = Holding { service, hold: None, asked: asked.number, done, by };
        self.writing.push(Job::Hold(Box::new(holding)));
    }

    /// A hold, or its end, is durable.
    pub(super) fn holding_written(&mut self, holding: Holding, now: Now) {
        let Holding { service, hold, asked, done, by } = holding;
        self.take_holds();
        // What was decided before it says nothing any more.
        self.is_undecided = self.wanted.is_some();
        let message = match &hold {
            Some(hold) => {
                info!(%service, by, revision = hold.held.kept.revision, "held locally");
                format!("{} at revision {}", told(hold), hold.held.kept.revision)
            }
            None => {
                info!(%service, by, "released");
                self.memory.service(&service, now).progress_at = now;
                format!("released by {by}")
            }
        };
        self.tell(Some(service), Some(Reason::HeldLocally), &message);
        self.gathering.want(Scope { images: true, ..Scope::NOTHING }, now);
        self.answer(asked, Answer::Done(done));
    }

    /// What the ledger says is held.
    pub(super) fn take_holds(&mut self) {
        self.holds = self.writing.holds();
        let held = self.held();
        if let Some(wanted) = &mut self.wanted {
            wanted.held = held;
        }
    }

    /// What each held service is held at.
    pub(super) fn held(&self) -> BTreeMap<ServiceName, Held> {
        self.holds.iter().map(|(name, hold)| (name.clone(), hold.held.clone())).collect()
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        self.acts.push(Act::Answer { number, answer: Box::new(answer) });
    }
}

/// `held locally by root: the disk is nearly full`.
pub(crate) fn told(hold: &Hold) -> String {
    let reason = hold.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("held locally by {}{reason}", hold.by)
}
