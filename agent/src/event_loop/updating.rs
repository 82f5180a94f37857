//! Which agent this one is to become: releases are accepted, brought to the board, tried, and confirmed or taken back.
//!
//! ```text
//! down/agent-release -> inbox -> ours? -> Act::Update(Fetch) -> Event::Update(Fetched) -> record: trial -> End: `launch` starts it
//! this process is part of a trial -> Watch -> record: confirmed | another turn -> End
//! ```
//! Nothing that runs depends on it: containers and routes stay as they are, and a step under way is waited for.

use planner::Now;
use protocol::agent_release::{AgentRelease, AgentUpdate, UpdatePhase};
use protocol::reason::Reason;
use tracing::{info, warn};

use super::acts::Act;
use super::agent::Agent;
use crate::update::fetch::{Fetched, Order};
use crate::update::record::{Held, Record};
use crate::update::trial::{Verdict, Watch};
use crate::update::{Launched, Own};

/// Steps of services are waited for this long before the agent ends for another.
const PATIENCE_MS: u64 = 60_000;
/// After a record that could not be written.
const RETRY_MS: u64 = 10_000;

/// Something to do for it.
#[derive(Debug)]
pub enum UpdateAct {
    /// Bring a program; one that is on its way is left. Ends with [`UpdateNews::Fetched`].
    Fetch(Order),
    /// Write the record; ends with [`UpdateNews::Kept`].
    Keep(Box<Record>),
    /// Have the proxy exchange itself; ends with [`UpdateNews::ProxyRenewed`].
    RenewProxy,
    /// End the process, so that what the record says is started.
    End,
}

/// What came of it.
#[derive(Debug)]
pub enum UpdateNews {
    /// Why the program of this counter is not here yet.
    Delayed(u64, String),
    /// The program of this counter is here, or never will be.
    Fetched(u64, Result<Fetched, String>),
    /// The record is durable, or not.
    Kept(Result<(), String>),
    /// The proxy runs the confirmed program, or why not.
    ProxyRenewed(Result<(), String>),
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Updates {
    own: Own,
    watch: Watch,
    /// Not looked at yet: the last one counts.
    incoming: Option<Vec<u8>>,
    /// Accepted, and not begun while another is tried.
    next: Option<Box<AgentRelease>>,
    fetching: Option<AgentUpdate>,
    /// Here, and not begun while a step is under way.
    ready: Option<Held>,
    /// On its way to the disk, and whether this process ends once it is there.
    keeping: Option<(Record, Then)>,
    /// What this process ends for waits until then for steps under way.
    end_by: Option<Now>,
    retry_at: Option<Now>,
    is_renewing: bool,
    is_ending: bool,
    /// What became of a release that is not written down: this agent takes none.
    refused: Option<AgentUpdate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    End,
}

impl Updates {
    pub(super) fn new(own: Own, now: Now) -> Self {
        Self {
            watch: Watch::new(own.launched.as_ref(), now),
            own,
            incoming: None,
            next: None,
            fetching: None,
            ready: None,
            keeping: None,
            end_by: None,
            retry_at: None,
            is_renewing: false,
            is_ending: false,
            refused: None,
        }
    }

    pub(super) fn hear(&mut self, bytes: Vec<u8>) {
        self.incoming = Some(bytes);
    }

    /// The agent's version.
    pub(super) fn version(&self) -> String {
        self.own.version.to_string()
    }

    pub(super) fn answered(&mut self, now: Now) {
        self.watch.answered(now);
    }

    pub(super) fn listed(&mut self, now: Now) {
        self.watch.listed(now);
    }

    /// What a report says of the newest release.
    pub(super) fn shown(&self) -> Option<AgentUpdate> {
        let recorded = || self.own.launched.as_ref()?.record.last.clone();
        self.fetching.clone().or_else(|| self.refused.clone()).or_else(recorded)
    }

    /// Most of the time.
    fn is_at_rest(&self) -> bool {
        let record = self.own.launched.as_ref().map(|launched| &launched.record);
        let is_due = record.is_some_and(|record| record.trial.is_some() || record.is_proxy_due);
        !is_due && self.ready.is_none() && self.next.is_none()
    }

    pub(super) const fn is_quiet(&self) -> bool {
        self.incoming.is_none() && self.keeping.is_none()
    }

    pub(super) fn wake_at(&self) -> Option<Now> {
        if self.is_ending || self.keeping.is_some() {
            return None;
        }
        if let Some(at) = self.retry_at {
            return Some(at);
        }
        // What is due waits for steps under way, whose ends wake the loop.
        self.end_by.or_else(|| self.watch.wake_at())
    }
}

impl Agent {
    /// After the trust roots that it may be signed under.
    pub(super) fn read_agent_release(&mut self) {
        if self.writing.is_accepting() {
            return;
        }
        let Some(bytes) = self.updates.incoming.take() else { return };
        match self.inbox.receive_agent_release(&bytes) {
            Ok(release) => {
                let counter = release.counter;
                let before = self.updates.next.as_ref().map_or(0, |next| next.counter);
                if counter >= before {
                    self.updates.next = Some(Box::new(release));
                }
            }
            Err(refusal) => {
                self.voice.has_news = true;
                self.tell_refused(Reason::AgentReleaseRefused, &refusal);
            }
        }
    }

    /// Once per turn: what follows for releases and trials.
    pub(super) fn look_for_updates(&mut self, now: Now) {
        let updates = &self.updates;
        let waits = updates.retry_at.is_some_and(|at| now < at);
        if updates.is_ending || updates.keeping.is_some() || waits {
            return;
        }
        self.updates.retry_at = None;
        if self.updates.is_at_rest() {
            return;
        }
        let Some(launched) = self.updates.own.launched.clone() else {
            return self.refuse_unlaunched();
        };
        let record = &launched.record;
        if record.trial.is_some() {
            return self.go_on_with_trial(record, now);
        }
        if let Some(held) = self.updates.ready.clone() {
            if self.may_end(now) {
                // Both stay as they are until it is durable; then this process ends.
                info!(version = %held.version, counter = held.counter, "the new agent is tried");
                self.keep(record.tried(held), Then::End);
            }
            return;
        }
        if let Some(release) = self.updates.next.take() {
            self.begin_release(*release, &launched);
        } else if record.is_proxy_due && !self.updates.is_renewing {
            self.updates.is_renewing = true;
            self.acts.push(Act::Update(UpdateAct::RenewProxy));
        }
    }

    fn refuse_unlaunched(&mut self) {
        let Some(release) = self.updates.next.take() else { return };
        let why =
            "this agent was not started by `pith-agent launch`, as the units of the package do"
                .to_owned();
        self.refuse_release(&release, why);
    }

    fn refuse_release(&mut self, release: &AgentRelease, why: String) {
        warn!(version = %release.version, why, "a release of the agent is not taken");
        self.updates.fetching = None;
        self.updates.refused = Some(said(release, UpdatePhase::Refused, Some(why)));
        self.voice.has_news = true;
    }

    fn begin_release(&mut self, release: AgentRelease, launched: &Launched) {
        let record = &launched.record;
        let is_known = |known: &AgentUpdate| {
            known.counter == release.counter && known.phase != UpdatePhase::Trying
        };
        let known = record.last.iter().chain(&self.updates.refused);
        if known.chain(&self.updates.fetching).any(is_known) {
            return;
        }
        let architecture = super::saying::own_architecture();
        let program = match release.program_for(architecture, record.floor) {
            Ok(program) => program.clone(),
            Err(not_taken) => return self.refuse_release(&release, not_taken.to_string()),
        };
        if record.bad.contains(&program.digest) {
            let why = "this very program was taken back on this board before".to_owned();
            return self.refuse_release(&release, why);
        }
        self.updates.refused = None;
        self.updates.fetching = Some(said(&release, UpdatePhase::Downloading, None));
        self.voice.has_news = true;
        let order = Order {
            counter: release.counter,
            version: release.version,
            program,
            slot: record.free_slot(),
            package: launched.package.clone(),
        };
        self.acts.push(Act::Update(UpdateAct::Fetch(order)));
    }

    fn go_on_with_trial(&mut self, record: &Record, now: Now) {
        let Some(verdict) = self.updates.watch.verdict(now) else { return };
        if verdict == Verdict::Confirm {
            return self.keep(record.confirmed(), Then::Stay);
        }
        if !self.may_end(now) {
            return;
        }
        match verdict {
            Verdict::Confirm => {}
            Verdict::Turn(turn) => {
                let missing = self.updates.watch.missing();
                warn!(?turn, missing, "the trial of an agent goes on with the other one");
                self.keep(record.turned(turn), Then::End);
            }
            Verdict::Revert(why) => {
                warn!(why, "the new agent is taken back");
                self.keep(record.reverted(&why), Then::End);
            }
            Verdict::Restart => self.end_for_another(),
        }
    }

    /// A step under way ends first, within reason: it would be gone on with, but need not be.
    fn may_end(&mut self, now: Now) -> bool {
        let is_idle = self.busy.is_empty() && self.steps.is_empty() && self.writing.is_idle();
        let by = *self.updates.end_by.get_or_insert(now.plus(PATIENCE_MS));
        let may = is_idle || now >= by;
        if may {
            self.updates.end_by = None;
        }
        may
    }

    fn keep(&mut self, record: Record, then: Then) {
        self.acts.push(Act::Update(UpdateAct::Keep(Box::new(record.clone()))));
        self.updates.keeping = Some((record, then));
    }

    fn end_for_another(&mut self) {
        self.updates.is_ending = true;
        self.acts.push(Act::Update(UpdateAct::End));
    }

    /// Something that was done came back.
    pub(super) fn update_news(&mut self, news: UpdateNews, now: Now) {
        match news {
            UpdateNews::Delayed(counter, why) => {
                if let Some(known) =
                    self.updates.fetching.as_mut().filter(|of| of.counter == counter)
                {
                    known.why = Some(why);
                }
            }
            UpdateNews::Fetched(counter, result) => self.fetched(counter, result),
            UpdateNews::Kept(result) => self.record_kept(result, now),
            UpdateNews::ProxyRenewed(result) => {
                if let Err(why) = result {
                    let text = format!(
                        "the proxy goes on with the program it has until its next start: {why}"
                    );
                    self.tell(None, None, &text);
                }
                self.updates.is_renewing = false;
                if let Some(launched) = &self.updates.own.launched {
                    let record = Record { is_proxy_due: false, ..launched.record.clone() };
                    self.keep(record, Then::Stay);
                }
            }
        }
    }

    fn fetched(&mut self, counter: u64, result: Result<Fetched, String>) {
        let Some(of) = self.updates.fetching.clone().filter(|of| of.counter == counter) else {
            return;
        };
        let Some(launched) = &self.updates.own.launched else { return };
        match result {
            Ok(Fetched::Ready(held)) => self.updates.ready = Some(held),
            Ok(Fetched::Same) => {
                let mut record = launched.record.clone();
                record.floor = record.floor.max(counter);
                record.last = Some(AgentUpdate { phase: UpdatePhase::Confirmed, why: None, ..of });
                self.updates.fetching = None;
                self.keep(record, Then::Stay);
            }
            Err(why) => {
                let mut record = launched.record.clone();
                warn!(version = %of.version, why, "a release of the agent is not taken");
                let refused = AgentUpdate { phase: UpdatePhase::Refused, why: Some(why), ..of };
                record.last = Some(refused.clone());
                self.updates.fetching = None;
                // Said also where the disk takes no record of it.
                self.updates.refused = Some(refused);
                self.keep(record, Then::Stay);
            }
        }
    }

    fn record_kept(&mut self, result: Result<(), String>, now: Now) {
        let Some((record, then)) = self.updates.keeping.take() else { return };
        if let Err(error) = result {
            let text = format!("what becomes of the new agent cannot be written: {error}");
            self.tell(None, None, &text);
            self.updates.retry_at = Some(now.plus(RETRY_MS));
            return;
        }
        let Some(launched) = &mut self.updates.own.launched else { return };
        let was_tried = launched.record.trial.is_some();
        launched.record = record;
        match then {
            Then::End => self.end_for_another(),
            Then::Stay if was_tried => {
                self.updates.watch = Watch::new(self.updates.own.launched.as_ref(), now);
                let text = format!("the agent {} is confirmed", self.updates.own.version);
                info!("{text}");
                self.tell(None, None, &text);
            }
            Then::Stay => {}
        }
    }
}

fn said(release: &AgentRelease, phase: UpdatePhase, why: Option<String>) -> AgentUpdate {
    let (counter, version) = (release.counter, release.version.clone());
    AgentUpdate { counter, version, phase, why }
}
