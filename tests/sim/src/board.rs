//! One node of a simulated fleet: what outlives the agent, and the agent's process, which may be killed between any two acts.

pub mod hardware;
pub mod process;
pub mod proxy;

use agent::link::{Incoming, Outgoing};
use hardware::{Hardware, Releases};
use process::Process;

use crate::random::Random;
use crate::safety::Safety;
use crate::trace::Trace;
use crate::{fleet, safety};

/// A node acts at most so often within one moment; more is a loop without an end.
const MAX_TURNS: u32 = 500;

/// See the file's head.
#[derive(Debug)]
pub struct Board {
    /// What outlives the process.
    pub hardware: Hardware,
    /// The agent, while it runs.
    pub process: Option<Process>,
    /// When the agent starts again.
    pub starts_at_ms: Option<u64>,
    /// When something is due.
    pub wake_at_ms: u64,
    safety: Safety,
    runs: u64,
}

impl Board {
    /// A board that has just been switched on.
    #[must_use]
    pub fn new(
        number: usize,
        now_ms: u64,
        releases: Releases,
        random: Random,
        trace: Trace,
    ) -> Self {
        let name = fleet::name(number).to_string();
        let hardware = Hardware::new((number, name), now_ms, releases, (random, trace));
        let mut board = Self {
            hardware,
            process: None,
            starts_at_ms: Some(now_ms),
            wake_at_ms: now_ms,
            safety: Safety::default(),
            runs: 0,
        };
        board.hardware.now_ms = now_ms;
        board
    }

    /// Everything that is due by now; what the node says.
    ///
    /// # Errors
    /// Names an invariant that does not hold.
    pub fn advance(&mut self, now_ms: u64) -> Result<Vec<Outgoing>, String> {
        let mut said = Vec::new();
        for _ in 0..MAX_TURNS {
            let replied = self.take_replies(now_ms)?;
            let wake_at_ms = match &mut self.process {
                None => u64::MAX,
                Some(process) => {
                    let wake = process.turn(&mut self.hardware);
                    said.extend(process.take_said());
                    self.safety.note(&self.hardware, process);
                    self.hardware.boot_at_ms.saturating_add(wake.0)
                }
            };
            if self.hardware.kills_now() {
                self.kill();
            }
            self.wake_at_ms = self.starts_at_ms.unwrap_or(u64::MAX).min(wake_at_ms);
            let moment = self.hardware.next_moment().unwrap_or(u64::MAX);
            self.wake_at_ms = self.wake_at_ms.min(moment);
            if self.wake_at_ms > now_ms && !replied {
                return Ok(said);
            }
        }
        Err(format!("{} never comes to rest within one moment", self.hardware.name))
    }

    /// Whether anything arrived at engine, disk or proxy; each of it is looked at on its own.
    fn take_replies(&mut self, now_ms: u64) -> Result<bool, String> {
        let mut any = false;
        loop {
            let reply = self.hardware.pass(now_ms);
            safety::check(self)?;
            let Some((run, reply)) = reply else { return Ok(any) };
            any = true;
            if let Some(process) = self.process.as_mut().filter(|process| process.run == run) {
                process.answered(reply, &self.hardware);
            }
        }
    }

    /// For looking at all of it at once.
    pub(crate) fn parts(&mut self) -> (&mut Hardware, &mut Safety, Option<&Process>) {
        (&mut self.hardware, &mut self.safety, self.process.as_ref())
    }

    /// The agent starts.
    pub fn start(&mut self) {
        self.runs += 1;
        self.starts_at_ms = None;
        self.hardware.kill_after = None;
        self.hardware.act(|| "the agent starts".to_owned());
        self.process = Some(Process::start(self.runs, &self.hardware));
        self.wake_at_ms = self.hardware.now_ms;
    }

    /// The agent ends at once, as by SIGKILL, and starts again after a while.
    pub fn kill(&mut self) {
        self.hardware.kill_after = None;
        if self.process.take().is_none() {
            return;
        }
        self.hardware.act(|| "the agent is killed".to_owned());
        self.hardware.settle_requests();
        let pause_ms = self.hardware.random.between(50, 5_000);
        self.starts_at_ms = Some(self.hardware.now_ms + pause_ms);
    }

    /// Power is lost and comes back.
    pub fn reboot(&mut self) {
        self.kill();
        self.hardware.act(|| "the board loses power".to_owned());
        self.hardware.reboot();
        self.safety.rebooted();
        self.starts_at_ms = Some(self.hardware.now_ms + self.hardware.random.between(500, 20_000));
    }

    /// Something from the broker.
    pub fn hear(&mut self, message: Incoming) {
        let now = self.hardware.local();
        if let Some(process) = &mut self.process {
            process.hear(message, now);
            self.wake_at_ms = self.hardware.now_ms;
        }
    }

    /// Whether nothing is under way on it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.agent.is_idle())
    }
}
