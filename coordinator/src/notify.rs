//! Tells people what happened without being asked: webhooks, and a heartbeat for whoever watches the coordinator itself.
//!
//! ```text
//! state (notices.rs) -> effects -> event loop -> notify.rs -> one task per target: queue.rs (when, and what is given up) -> POST
//! ```
//! Nothing of it is waited for by the loop: a target that hangs delays its own messages alone.

pub mod config;
mod message;
mod queue;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::id::FleetId;
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::chain;
use crate::event_loop::{Fleet, at};
use crate::state::notices::Notice;
use config::{Format, Heartbeat, Target};
use message::Message;
pub use message::SIGNATURE_HEADER;
use queue::{Delivered, Queue, Wanted};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Notices that a target may be behind while it is waited for; how many of them are kept after that, its queue says.
const BEHIND_MAX: usize = 8_192;
/// Characters of an error that are kept.
const MAX_ERROR_CHARS: usize = 200;

/// What became of a target's messages, for `pith notify ls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetShown {
    /// Its name.
    pub name: String,
    /// The host that it is on; the rest of an address may be a secret.
    pub host: String,
    /// How messages are written.
    pub format: Format,
    /// Whether they are signed.
    pub signed: bool,
    /// Delivered since the start.
    pub delivered: u64,
    /// Attempts that failed since the start.
    #[serde(default)]
    pub failed: u64,
    /// Waiting.
    pub waiting: usize,
    /// Unix milliseconds of the last that arrived.
    pub last_ms: Option<u64>,
    /// Why the last attempt failed; none: it did not.
    pub error: Option<String>,
}

/// All targets, as they are now.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Vec<TargetShown>>>);

/// Tasks that end when it is dropped.
#[derive(Debug, Default)]
pub struct Notifier {
    tasks: Vec<JoinHandle<()>>,
}

impl Told {
    /// A copy of it.
    #[must_use]
    pub fn shown(&self) -> Vec<TargetShown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut TargetShown)) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.get_mut(index) {
            change(target);
        }
    }
}

impl Notifier {
    /// Starts a task for each target, and one for the heartbeat. Who is told takes `notices`; none: nothing happens that anybody is told of.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn start(
        targets: Vec<Target>,
        heartbeat: Option<Heartbeat>,
        notices: Option<mpsc::Receiver<Notice>>,
        (fleet, id): (&Fleet, &FleetId),
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(Policy::none())
            .user_agent(concat!("pith/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let told = fleet.told();
        *told.0.lock().unwrap_or_else(PoisonError::into_inner) =
            targets.iter().map(TargetShown::of).collect();
        let (mut tasks, mut tellers) = (Vec::new(), Vec::new());
        for (index, target) in targets.into_iter().enumerate() {
            let teller = Teller {
                http: http.clone(),
                fleet: id.clone(),
                queue: Queue::new(target.node_lost_after),
                began: Instant::now(),
                told: told.clone(),
                index,
                target,
            };
            let (sender, heard) = mpsc::channel(BEHIND_MAX);
            tellers.push(sender);
            tasks.push(tokio::spawn(teller.run(heard)));
        }
        tasks.extend(notices.map(|notices| tokio::spawn(pass_on(notices, tellers))));
        tasks.extend(heartbeat.map(|of| tokio::spawn(beat(http, of, fleet.clone()))));
        Ok(Self { tasks })
    }
}

/// Gives each target's task what happens; one that hangs misses what it cannot hold.
async fn pass_on(mut notices: mpsc::Receiver<Notice>, tellers: Vec<mpsc::Sender<Notice>>) {
    while let Some(notice) = notices.recv().await {
        for teller in &tellers {
            if teller.try_send(notice.clone()).is_err() {
                tracing::warn!(kind = ?notice.kind, "a target is too far behind to be told");
            }
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl TargetShown {
    fn of(target: &Target) -> Self {
        Self {
            name: target.name.clone(),
            host: target.url.host_str().unwrap_or_default().to_owned(),
            format: target.format,
            signed: target.secret.is_some(),
            ..Self::default()
        }
    }
}

struct Teller {
    http: reqwest::Client,
    fleet: FleetId,
    target: Target,
    queue: Queue,
    began: Instant,
    told: Told,
    index: usize,
}

impl Teller {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        loop {
            // What came while an answer was waited for.
            while let Ok(notice) = notices.try_recv() {
                self.add(notice);
            }
            self.show_waiting();
            if let Some((notice, lost)) = self.queue.next(self.now_ms()) {
                let message = Message::new(&self.target, &self.fleet, &notice, lost);
                let how = self.post(&message).await;
                self.queue.ended(&notice, &how, self.now_ms());
                self.show(&how);
                continue;
            }
            let wait = match self.queue.wake_at() {
                Some(at_ms) => Duration::from_millis(at_ms.saturating_sub(self.now_ms())),
                None => Duration::from_secs(3600),
            };
            tokio::select! {
                // Cancel-safe: a receiver that is dropped while it waits has taken nothing.
                notice = notices.recv() => match notice {
                    Some(notice) => self.add(notice),
                    None => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn add(&mut self, notice: Notice) {
        let wanted = if self.target.wants(&notice) { Wanted::Yes } else { Wanted::No };
        self.queue.add(notice, wanted, self.now_ms());
    }

    async fn post(&self, message: &Message) -> Delivered {
        let mut request = self.http.post(self.target.url.clone()).body(message.body.clone());
        for (name, value) in &message.headers {
            request = request.header(*name, value);
        }
        if let Some(secret) = &self.target.secret {
            request = request.header(SIGNATURE_HEADER, message.signed(secret, at().unix_ms / 1000));
        }
        match request.send().await {
            Ok(answer) => judged(answer.status()),
            Err(error) => Delivered::Later(said(error)),
        }
    }

    fn show_waiting(&self) {
        self.told.change(self.index, |shown| shown.waiting = self.queue.len());
    }

    fn show(&self, how: &Delivered) {
        let name = &self.target.name;
        self.told.change(self.index, |shown| match how {
            Delivered::Yes => {
                shown.delivered += 1;
                shown.last_ms = Some(at().unix_ms);
                shown.error = None;
            }
            Delivered::Later(why) | Delivered::Never(why) => {
                shown.failed += 1;
                shown.error = Some(why.clone());
            }
        });
        match how {
            Delivered::Yes => {}
            Delivered::Later(why) => {
                tracing::warn!(target = %name, %why, "not told; it is tried again");
            }
            Delivered::Never(why) => {
                tracing::warn!(target = %name, %why, "not told, and not tried again");
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn judged(status: StatusCode) -> Delivered {
    let is_for_now = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    let said = || format!("it answered {status}");
    if status.is_success() {
        Delivered::Yes
    } else if is_for_now {
        Delivered::Later(said())
    } else {
        Delivered::Never(said())
    }
}

/// The address may be a secret: it is left out.
fn said(error: reqwest::Error) -> String {
    chain(&error.without_url()).chars().take(MAX_ERROR_CHARS).collect()
}

/// Says that the coordinator lives: only while its loop answers.
async fn beat(http: reqwest::Client, of: Heartbeat, fleet: Fleet) {
    let mut every = tokio::time::interval(of.every);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if fleet.ask(|_, _| ()).await.is_err() {
            return;
        }
        let why = match http.get(of.url.clone()).send().await {
            Ok(answer) if answer.status().is_success() => continue,
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(error) => said(error),
        };
        tracing::warn!(%why, "the heartbeat was not heard");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let check = |code: u16, expected: &str| {
            let how = judged(StatusCode::from_u16(code).unwrap());
            assert!(format!("{how:?}").starts_with(expected), "{code}: {how:?}");
        };
        check(204, "Yes");
        check(503, "Later");
        check(429, "Later");
        check(404, "Never");
        check(301, "Never");
    }
}
