//! Around the loop's state: does its acts on engine, proxy, disk and broker, and brings back what came of them. Whatever
//! waits is a local task.
//!
//! Must not decide: an act is done as it is, in its turn. Here alone a test may kill the agent, before and after each step
//! ([`failpoint`]).

mod learning;
mod pulls;
mod streams;
mod updates;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use planner::Now;
use planner::node::{LedgerChange, Probed};
use protocol::hello::Load;
use protocol::id::{CommandId, ServiceName};
use protocol::manifest::Version;
use protocol::release::{Image, Pin};
use proxy::{Applied, Client, ClientError, Snapshot, Table};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::acts::{Act, Surroundings};
use super::agent::Agent;
use super::commanding::Streamed;
use super::measuring::MemoryPercents;
use super::writing::{Job, Write};
use super::{Beginning, Event, Parts};
use crate::archives::Archives;
use crate::doctor::Subject;
use crate::engine::Engine;
use crate::engine::pull::AbortOnDrop;
use crate::execute::{Executor, Task};
use crate::ledger::{Ledger, LedgerError};
use crate::link::{Incoming, Outgoing};
use crate::load::{Detail, Root};
use crate::local::calls::Calls;
use crate::local::socket::Call;
use crate::moving::Keeper;
use crate::observe::gather::{Inquiry, Scope, gather};
use crate::policy::Looked;
use crate::probe::Prober;
use crate::registries::Registries;
use crate::sampler::Sampler;
use crate::update::fetch::Source;
use crate::{clock, failpoint, network, sampler};
use streams::Telling;

/// What recording a failure is called.
const GIVE_UP: &str = "give up";

/// What a task brings back.
#[derive(Debug)]
pub(super) enum Told {
    /// Something happened.
    Event(Event),
    /// A step ended.
    Step {
        /// Its number, for failpoints.
        number: u64,
        /// How.
        event: Event,
    },
    /// A write ended, and the ledger comes back.
    Written {
        /// It.
        ledger: Box<Ledger>,
        /// The number of the step that was recorded.
        number: Option<u64>,
        /// What was to be written.
        write: Box<Write>,
        /// How it went.
        result: Result<(), LedgerError>,
    },
}

/// The state and what is around it.
#[derive(Debug)]
pub(super) struct Shell<E: Engine> {
    agent: Agent,
    outside: Outside<E>,
}

#[derive(Debug)]
struct Outside<E: Engine> {
    told: mpsc::Sender<Told>,
    executor: Rc<Executor<E>>,
    proxy: Client,
    registries: Registries,
    archives: Archives,
    /// None while a write is under way.
    ledger: Option<Ledger>,
    prober: Prober,
    sampler: Option<Sampler>,
    broker: Option<IpAddr>,
    keeper: Keeper,
    outgoing: mpsc::Sender<Outgoing>,
    pulls: BTreeMap<Pin, (u64, AbortHandle)>,
    streams: BTreeMap<CommandId, Telling>,
    /// The number of each change that is to be recorded and is not durable yet.
    records: BTreeMap<ServiceName, u64>,
    calls: Calls,
    subject: Subject,
    unix_ms: fn() -> u64,
    programs: Source,
    /// The program that is on its way.
    fetching: Option<AbortOnDrop>,
    is_ending: bool,
    _watching: [AbortOnDrop; 2],
}

impl<E: Engine> Shell<E> {
    /// Takes over what the ledger remembers and begins to watch engine, proxy and probes.
    pub(super) fn start(
        parts: Parts<E>,
        told: mpsc::Sender<Told>,
        now: Now,
    ) -> (Self, mpsc::Receiver<Incoming>, mpsc::Receiver<Call>) {
        let Parts { node, key, root, ledger, executor, proxy, registries, archives, .. } = parts;
        let settings = parts.settings;
        for damage in ledger.damage() {
            tracing::error!(
                damage,
                "ledger damaged: what runs goes on, and the next manifest is waited for"
            );
        }
        let executor = Rc::new(executor);
        let (prober, watching) = watch(&executor, &proxy, &told);
        let (broker, floor) = (settings.broker, settings.between.floor.clone());
        let beginning = Beginning {
            node,
            key,
            root,
            settings,
            ledger: ledger.contents(),
            boot_id: ledger.boot_id().to_owned(),
            opened_at: ledger.opened_at(),
            unix_ms: (parts.clock.unix_ms)(),
            cores: sampler::cores(),
        };
        let outside = Outside {
            told,
            executor,
            proxy,
            registries,
            archives,
            ledger: Some(ledger),
            prober,
            sampler: None,
            broker,
            keeper: parts.keeper,
            outgoing: parts.outgoing,
            pulls: BTreeMap::new(),
            streams: BTreeMap::new(),
            records: BTreeMap::new(),
            calls: Calls::new(floor),
            subject: parts.subject,
            unix_ms: parts.clock.unix_ms,
            programs: parts.programs,
            fetching: None,
            is_ending: false,
            _watching: watching,
        };
        (Self { agent: Agent::new(beginning, now), outside }, parts.incoming, parts.calls)
    }

    /// See [`Agent::turn`].
    pub(super) fn turn(&mut self, now: Now) -> Now {
        let wake_at = self.agent.turn(&mut self.outside, now);
        if self.act(now) { now } else { wake_at }
    }

    /// See [`Agent::hear`].
    pub(super) fn hear(&mut self, message: Incoming, now: Now) {
        self.agent.hear(message, now);
    }

    /// See [`Agent::handle`].
    pub(super) fn handle(&mut self, told: Told, now: Now) {
        let event = self.outside.take(told);
        self.agent.handle(event, &self.outside, now);
        let _ = self.act(now);
    }

    /// Root of the board asks something.
    pub(super) fn ask(&mut self, call: Call, unix_ms: u64, now: Now) {
        let event = Event::Asked(Box::new(self.outside.calls.take(call, unix_ms)));
        self.agent.handle(event, &self.outside, now);
        let _ = self.act(now);
    }

    /// Whether another agent is to be started.
    pub(super) fn is_ending(&self) -> bool {
        self.outside.is_ending
    }

    /// Ends in order: what is being written is written.
    pub(super) fn finish(self) {
        for (_, pull) in self.outside.pulls.values() {
            pull.abort();
        }
        info!("agent ends; what runs goes on");
    }

    /// Does what is to be done; whether something came of it at once.
    fn act(&mut self, now: Now) -> bool {
        let mut has_come = false;
        for act in self.agent.take_acts() {
            if let Some(event) = self.outside.perform(act) {
                self.agent.handle(event, &self.outside, now);
                has_come = true;
            }
        }
        has_come
    }
}

impl<E: Engine> Outside<E> {
    /// What was told, once a failpoint had its chance.
    fn take(&mut self, told: Told) -> Event {
        match told {
            Told::Event(event) => {
                self.forget_pull(&event);
                if let Event::Stream(id, Streamed::Ended(_)) = &event {
                    self.streams.remove(id);
                }
                event
            }
            Told::Step { number, event } => {
                failpoint::after(number);
                event
            }
            Told::Written { ledger, number, write, result } => {
                self.ledger = Some(*ledger);
                match (&result, number, &write.job) {
                    (Ok(()), Some(number), _) => failpoint::after(number),
                    (Err(_), Some(number), Job::Record { service, .. }) => {
                        self.records.insert(service.clone(), number);
                    }
                    (Err(_), Some(_), _) | (_, None, _) => {}
                }
                Event::Written { write, result }
            }
        }
    }

    /// Does one act, or begins it; what is known of it at once comes back.
    fn perform(&mut self, act: Act) -> Option<Event> {
        match act {
            Act::Gather { scope, number, began, images, policy } => {
                self.gather(scope, (number, began), images, policy);
            }
            Act::SetTable { services, table } => {
                let names = services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" ");
                self.set_table(&names, table);
            }
            Act::Execute { service, name, task } => self.execute(service, &name, task),
            Act::CollectEvidence { service, container } => {
                self.collect_evidence(service, container);
            }
            Act::Write(write) => self.write(write),
            Act::Pull { service, image, login, number } => {
                self.pull(&service, image, login.as_ref(), number);
            }
            Act::CancelPull(pin) => {
                if let Some((_, task)) = self.pulls.remove(&pin) {
                    task.abort();
                }
            }
            Act::RemoveImage(image) => self.remove_image(image),
            Act::DiscardImage(image) => self.discard_image(image),
            Act::Examine { container } => self.examine(container),
            Act::Measure(containers) => self.measure(containers),
            Act::Probe(targets) => self.prober.set(targets),
            Act::Count(counting) => self.prober.count(counting),
            Act::Learn(known) => self.learn(known),
            Act::Answer { number, answer } => self.calls.answer(number, *answer),
            Act::Stream(id, stream) => self.stream(id, stream),
            Act::Update(act) => self.update(act),
            Act::Say(outgoing) => return self.say(outgoing),
        }
        None
    }

    fn gather(
        &self,
        scope: Scope,
        (number, began): (u64, Now),
        images: Vec<Image>,
        policy: Option<Looked>,
    ) {
        let (told, executor, proxy) =
            (self.told.clone(), Rc::clone(&self.executor), self.proxy.clone());
        tokio::task::spawn_local(async move {
            let looked = executor.policy.look(policy.as_ref());
            if policy.as_ref() != Some(&looked) {
                tell(&told, Told::Event(Event::Policy(Box::new(looked)))).await;
            }
            let inquiry = Inquiry {
                engine: &executor.engine,
                proxy: &proxy,
                ours: &executor.ours,
                images: &images,
                hosts_file: &executor.hosts_file,
            };
            let gathered = gather(inquiry, scope, number, began).await;
            tell(&told, Told::Event(Event::Gathered(Box::new(gathered)))).await;
        });
    }

    fn set_table(&self, services: &str, table: Table) {
        let number = failpoint::before(&format!("route {services}"));
        let (told, proxy) = (self.told.clone(), self.proxy.clone());
        tokio::task::spawn_local(async move {
            let event = Event::TableSet(Box::new(set(&proxy, &table).await));
            tell(&told, Told::Step { number, event }).await;
        });
    }

    fn execute(&self, service: ServiceName, name: &str, task: Task) {
        let number = failpoint::before(&format!("{name} {service}"));
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        tokio::task::spawn_local(async move {
            let event = Event::StepDone { service, result: executor.execute(&task).await };
            tell(&told, Told::Step { number, event }).await;
        });
    }

    /// The first part of the step that records a failure.
    fn collect_evidence(&mut self, service: ServiceName, container: String) {
        let number = failpoint::before(&format!("{GIVE_UP} {service}"));
        self.records.insert(service.clone(), number);
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        tokio::task::spawn_local(async move {
            let log = executor.log_tail(&container).await;
            tell(&told, Told::Event(Event::Evidence { service, log })).await;
        });
    }

    fn write(&mut self, write: Box<Write>) {
        let number = match &write.job {
            Job::Record { service, change, .. } => Some(
                self.records
                    .remove(service)
                    .unwrap_or_else(|| failpoint::before(&format!("{} {service}", word(change)))),
            ),
            Job::Accept { .. }
            | Job::Succeed { .. }
            | Job::Image { .. }
            | Job::Hold(_)
            | Job::Floor => None,
        };
        let mut ledger = self.ledger.take().expect("one write at a time");
        let told = self.told.clone();
        tokio::task::spawn_local(async move {
            let result = ledger.write(&write.contents).await;
            tell(&told, Told::Written { ledger: Box::new(ledger), number, write, result }).await;
        });
    }

    fn measure(&self, containers: Vec<String>) {
        let (told, executor) = (self.told.clone(), Rc::clone(&self.executor));
        tokio::task::spawn_local(async move {
            let mut percents = MemoryPercents::new();
            for container in containers {
                // A container that is gone meanwhile, or an engine that is away, says nothing about the release.
                if let Ok(Some(percent)) = executor.engine.memory_percent(&container).await {
                    percents.insert(container, percent);
                }
            }
            tell(&told, Told::Event(Event::Measured(percents))).await;
        });
    }

    fn say(&self, outgoing: Outgoing) -> Option<Event> {
        let subject = outgoing.subject;
        self.outgoing.try_send(outgoing).err().map(|_| {
            warn!(?subject, "nobody takes what the node says");
            Event::Unsaid(subject)
        })
    }
}

impl<E: Engine> Surroundings for Outside<E> {
    fn probed(&self, container: &str) -> Option<Probed> {
        self.prober.probed(container)
    }

    fn memory_available(&self) -> Option<u64> {
        sampler::memory_available()
    }

    fn own_address(&self) -> Option<IpAddr> {
        network::own_address(self.broker)
    }

    fn load(&mut self, root_dir: &str, seen: Version, detail: Option<Detail<'_>>) -> Option<Load> {
        if self.sampler.is_none() {
            self.sampler = Sampler::new(Root::new("/"), root_dir.into());
        }
        Some(self.sampler.as_mut()?.sample(seen, detail, clock::now()))
    }

    fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        if let Err(error) = getrandom::fill(&mut nonce) {
            warn!(%error, "no randomness for a hello");
        }
        nonce
    }
}

/// Starts the tasks that bring news; they end when dropped.
fn watch<E: Engine>(
    executor: &Rc<Executor<E>>,
    proxy: &Client,
    told: &mpsc::Sender<Told>,
) -> (Prober, [AbortOnDrop; 2]) {
    let (mut news, sender) = (executor.engine.events(&executor.ours), told.clone());
    let engine = tokio::task::spawn_local(async move {
        while let Some(event) = news.next().await {
            tell(&sender, Told::Event(Event::Engine(event))).await;
        }
    });
    let (mut changes, sender) = (proxy.watch(), told.clone());
    let proxy = tokio::task::spawn_local(async move {
        loop {
            let event = changes.next().await;
            tell(&sender, Told::Event(Event::Proxy(event))).await;
        }
    });
    let sender = told.clone();
    // A full queue means that the loop is about to look anyway; what is known is read from the prober.
    let prober = Prober::start(executor.engine.clone(), move |changed| {
        let _ = sender.try_send(Told::Event(Event::Probe(changed)));
    });
    (prober, [engine, proxy].map(|task| AbortOnDrop(task.abort_handle())))
}

/// Sends what a task brings back; a loop that ended hears nothing more.
async fn tell(sender: &mpsc::Sender<Told>, told: Told) {
    // The loop ended: nobody needs it.
    let _ = sender.send(told).await;
}

async fn set(proxy: &Client, table: &Table) -> Result<(Applied, Snapshot), ClientError> {
    let applied = proxy.set(table).await?;
    Ok((applied, proxy.get().await?))
}

fn word(change: &LedgerChange) -> &'static str {
    match change {
        LedgerChange::Begin { .. } => "begin",
        LedgerChange::Complete(_) => "complete",
        LedgerChange::GiveUp { .. } => GIVE_UP,
        LedgerChange::Forget => "forget",
    }
}
