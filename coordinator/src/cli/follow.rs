//! Waiting verbs: follow something to its end, show progress, and stop at a timeout or Ctrl-C without stopping it.

use std::time::Duration;

use protocol::id::ServiceId;
use protocol::reason::Reason;
use tokio::time::Instant;

use super::session::Session;
use super::sources::is_away;
use super::{CliError, Exit, WaitArgs};
use crate::client::{Client, ClientError};
use crate::render::{self, Progress};
use crate::state::shown::RolloutShown;

/// A coordinator that restarts is waited for this long.
const AWAY_PATIENCE: Duration = Duration::from_secs(30);
const AWAY_RETRY: Duration = Duration::from_millis(250);

/// How long a verb waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    until: Option<Instant>,
}

impl Patience {
    /// As the arguments say; none where nobody waits.
    pub(super) fn of(wait: &WaitArgs) -> Option<Self> {
        (!wait.detach).then(|| Self::at_most(wait.timeout.map(|t| t.duration())))
    }

    pub(super) fn at_most(time: Option<Duration>) -> Self {
        Self { until: time.map(|time| Instant::now() + time) }
    }

    async fn over(self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

/// How a wait ended.
pub(super) enum Waited<T> {
    /// With this answer.
    Done(T),
    /// The time was over.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

/// Runs `work` until it is done, the patience is over, or a person interrupts.
pub(super) async fn wait<T>(
    patience: Patience,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<Waited<T>, CliError> {
    tokio::select! {
        // Cancel-safe: what is followed goes on without us, that is the point.
        done = work => Ok(Waited::Done(done?)),
        () = patience.over() => Ok(Waited::TimedOut),
        _ = tokio::signal::ctrl_c() => Ok(Waited::Interrupted),
    }
}

/// Asks again while the coordinator is away for a moment.
pub(super) async fn patiently<T, F: Future<Output = Result<T, ClientError>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, CliError> {
    let until = Instant::now() + AWAY_PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if is_away(&error) && Instant::now() < until => {
                tokio::time::sleep(AWAY_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A rollout that is not followed any more.
pub(super) struct Followed {
    pub(super) rollout: RolloutShown,
    how: How,
}

enum How {
    Stands,
    TimedOut,
    Interrupted,
}

impl Followed {
    /// A rollout that nobody waits for.
    pub(super) fn at_once(rollout: RolloutShown) -> Self {
        Self { rollout, how: How::Stands }
    }

    /// Says how it ended, on stderr where it is not what was asked for.
    pub(super) fn close(&self, session: &Session) -> Exit {
        let how = format!("pith rollout status {} --watch", self.rollout.service);
        match self.how {
            How::Stands => end_of(session, &self.rollout),
            How::TimedOut => {
                eprintln!(
                    "not finished in the time given; the rollout goes on. Follow it with: {how}"
                );
                Exit::NotFinished
            }
            How::Interrupted => {
                eprintln!("the rollout goes on in the background. Follow it with: {how}");
                Exit::Interrupted
            }
        }
    }
}

/// Follows a rollout until it stands, the patience is over or a person interrupts; `show` gets its lines.
pub(super) async fn follow(
    client: &Client,
    id: &ServiceId,
    revision: u64,
    patience: Patience,
    show: impl FnMut(Vec<String>),
) -> Result<Followed, CliError> {
    let how = match wait(patience, to_its_end(client, id, revision, show)).await? {
        Waited::Done(rollout) => return Ok(Followed { rollout, how: How::Stands }),
        Waited::TimedOut => How::TimedOut,
        Waited::Interrupted => How::Interrupted,
    };
    Ok(Followed { rollout: client.rollout(id, Some(revision), None).await?, how })
}

/// Follows a rollout to its end; the last that was seen of it and the exit code that belongs to it.
pub(super) async fn rollout(
    session: &Session,
    client: &Client,
    id: &ServiceId,
    revision: u64,
    patience: Patience,
) -> Result<(RolloutShown, Exit), CliError> {
    let mut progress = Progress::new(!session.is_json());
    let followed = follow(client, id, revision, patience, |lines| progress.show(lines)).await?;
    progress.end();
    let exit = followed.close(session);
    Ok((followed.rollout, exit))
}

async fn to_its_end(
    client: &Client,
    id: &ServiceId,
    revision: u64,
    mut show: impl FnMut(Vec<String>),
) -> Result<RolloutShown, CliError> {
    let mut after = None;
    loop {
        let rollout = patiently(|| client.rollout(id, Some(revision), after)).await?;
        show(render::rollout_lines(&rollout));
        let is_held = rollout.reason == Some(Reason::HeldLocally);
        if stands(&rollout.state) || is_held {
            return Ok(rollout);
        }
        after = Some(rollout.version);
    }
}

/// Whether a rollout in this state does not move on by itself.
fn stands(state: &str) -> bool {
    !matches!(state, "pending" | "in_progress" | "rolling_back")
}

/// Says how it ended, on stderr where it is not what was asked for.
fn end_of(session: &Session, rollout: &RolloutShown) -> Exit {
    let exit = exit_of(&rollout.state);
    if exit == Exit::Done {
        if !session.is_json() {
            print!("{}", render::rolled_out(rollout));
        }
    } else {
        eprint!("{}", render::not_rolled_out(rollout));
    }
    exit
}

/// The exit code that belongs to a rollout's state.
pub(super) fn exit_of(state: &str) -> Exit {
    match state {
        "succeeded" => Exit::Done,
        "rolled_back" | "rolling_back" => Exit::RolledBack,
        "pending" | "in_progress" | "paused" | "awaiting_promotion" => Exit::NotFinished,
        _ => Exit::Failed,
    }
}
