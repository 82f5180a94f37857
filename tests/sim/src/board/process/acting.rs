//! Doing what the loop wants done: each act on the hardware, and what comes of it later.

use agent::engine::fake::PullOutcome;
use agent::engine::{Autopsy, EngineError, PullError, PullUpdate};
use agent::event_loop::{Act, Event, Job, MemoryPercents, Write};
use agent::link::Outgoing;
use agent::observe::gather::{FromEngine, Gathered, Scope};
use agent::probe::window::{Answer, Kind};
use planner::Now;
use protocol::id::ServiceName;
use protocol::release::Image;

use super::{Process, telling};
use crate::board::hardware::{Hardware, Request};

/// The engine answers a question within this.
const SLOWEST_ANSWER_MS: u64 = 20;
/// A registry that is away is noticed after this.
const UNREACHABLE_MS: u64 = 300;

impl Process {
    /// Does what is to be done, one after another, unless the agent is killed in between.
    pub(super) fn act(&mut self, board: &mut Hardware, now: Now) {
        for act in self.agent.take_acts() {
            if board.kills_now() {
                return;
            }
            self.perform(act, board, now);
        }
    }

    fn perform(&mut self, act: Act, board: &mut Hardware, now: Now) {
        match act {
            Act::Gather { scope, number, began, images, policy: _ } => {
                let engine = board.look(scope, &images);
                let proxy = scope.proxy.then(|| Ok(board.proxy.snapshot(board.now_ms)));
                let gathered = Gathered { number, began, engine, proxy, scope };
                self.later(answered_at(board, now), Event::Gathered(Box::new(gathered)));
            }
            Act::SetTable { table, .. } => {
                board.act(|| format!("sets the table: {}", telling::table(&table)));
                board.send(self.run, Request::Table(table));
            }
            Act::Execute { service, name, task } => {
                board.act(|| format!("{service}: {name}{}", telling::container(&task)));
                board.send(self.run, Request::Engine { service, task });
            }
            Act::CollectEvidence { service, container } => {
                board.act(|| format!("{service}: asks what {} wrote", telling::short(&container)));
                let log = Vec::new();
                self.later(answered_at(board, now), Event::Evidence { service, log });
            }
            Act::Write(write) => self.write(write, board),
            Act::Pull { service, image, number, login: _ } => {
                self.pull(&service, image, number, (board, now));
            }
            Act::CancelPull(pin) => {
                board.act(|| "stops a pull".to_owned());
                self.pulls.remove(&pin);
            }
            Act::RemoveImage(image) => {
                board.act(|| format!("remove image {}", image.reference));
                board.send(self.run, Request::RemoveImage(image));
            }
            Act::DiscardImage(image) => {
                board.act(|| format!("remove damaged image {}", image.reference));
                board.send(self.run, Request::RemoveImage(image));
            }
            Act::Examine { container } => {
                board.act(|| format!("looks into {}", telling::short(&container)));
                // No image is damaged here.
                let result = Ok(Autopsy::default());
                self.later(answered_at(board, now), Event::Examined { container, result });
            }
            Act::Measure(_) => {
                board.count_requests();
                let event = Event::Measured(MemoryPercents::new());
                self.later(answered_at(board, now), event);
            }
            Act::Probe(targets) => self.asked.set(targets),
            Act::Count(counting) => self.asked.count(counting),
            // No coordinator moves here.
            Act::Learn(_) => {}
            // Nothing launched it: it takes no releases of the agent.
            Act::Update(_) => {}
            // Nobody asks here.
            Act::Answer { .. } => {}
            // Nobody commands a board here.
            Act::Stream(..) => {}
            Act::Say(outgoing) => self.say(outgoing, board),
        }
    }

    fn say(&mut self, outgoing: Outgoing, board: &Hardware) {
        telling::said(&outgoing, board);
        self.said.push(outgoing);
    }

    fn write(&mut self, write: Box<Write>, board: &mut Hardware) {
        board.act(|| telling::job(&write.job));
        let change = match &write.job {
            // What was verified may be on the disk from now on, whether or not this process hears of it.
            Job::Accept { accepted, .. } => {
                board.allowed.extend(accepted.releases.keys().cloned());
                None
            }
            Job::Record { service, change, .. } => Some((service.clone(), change.clone())),
            Job::Succeed { .. } | Job::Image { .. } | Job::Hold(_) | Job::Floor => None,
        };
        board.send(self.run, Request::Disk { contents: write.contents.clone(), change });
        self.write = Some(write);
    }

    fn pull(
        &mut self,
        service: &ServiceName,
        image: Image,
        number: u64,
        (board, now): (&mut Hardware, Now),
    ) {
        board.act(|| format!("{service}: pull {}", image.reference));
        let outcome = match board.registry_away_until_ms > board.now_ms {
            true => PullOutcome::Fails { after_ms: UNREACHABLE_MS, error: PullError::Unreachable },
            false => board.docker.pull_outcome(&image),
        };
        let pin = image.pin.clone();
        self.pulls.insert(pin.clone(), (number, image));
        let (after_ms, update) = match outcome {
            PullOutcome::Comes { takes_ms, .. } => (takes_ms, PullUpdate::Done),
            PullOutcome::Fails { after_ms, error } => {
                (after_ms, PullUpdate::Failed { error, message: format!("{error:?}") })
            }
            PullOutcome::Hangs => return,
        };
        self.later(now.plus(after_ms), Event::Pull { pin, number, update });
    }

    /// What arrives counts as an act where the loop may be killed right after it; an image comes with the end of its pull.
    pub(super) fn note_event(&mut self, event: &Event, board: &mut Hardware) {
        if let Event::Written { write, .. } = event {
            board.act(|| format!("{} is durable", telling::job(&write.job)));
        } else if let Event::StepDone { service, result: Err(error) } = event {
            board.act(|| format!("{service}: step failed: {error}"));
        } else if let Event::Pull { pin, number, update } = event
            && let Some((_, image)) = self.pulls.get(pin).filter(|(of, _)| of == number)
        {
            match update {
                PullUpdate::Progress { .. } => return,
                PullUpdate::Done => {
                    board.act(|| format!("pulled {}", image.reference));
                    board.docker.image_comes(image);
                }
                PullUpdate::Failed { message, .. } => {
                    board.act(|| format!("pull of {} failed: {message}", image.reference));
                }
            }
            self.pulls.remove(pin);
        }
    }
}

fn answered_at(board: &mut Hardware, now: Now) -> Now {
    now.plus(board.random.between(1, SLOWEST_ANSWER_MS))
}

impl Hardware {
    /// As `agent::observe::gather` asks.
    fn look(&mut self, scope: Scope, images: &[Image]) -> Result<FromEngine, EngineError> {
        let (ours, engine) = (self.ours(), &mut self.docker);
        let mut from = FromEngine::default();
        if scope.info {
            from.info = Some(engine.info()?);
        }
        if scope.containers {
            from.containers = Some(engine.containers(&ours)?);
        }
        if scope.networks {
            from.networks = Some(engine.networks(&ours)?);
        }
        if scope.images {
            let look = |image: &Image| Ok((image.pin.clone(), engine.image(image)?));
            from.images = Some(images.iter().map(look).collect::<Result<_, EngineError>>()?);
        }
        Ok(from)
    }

    /// What an application answers to a probe.
    pub(super) fn ask(&self, container: &str, kind: Kind) -> Answer {
        let passes = match kind {
            Kind::Startup | Kind::Readiness => self.is_ready(container),
            Kind::Liveness => self.is_alive(container),
        };
        if passes { Answer::Passed } else { Answer::Failed("HTTP 503".to_owned()) }
    }
}
