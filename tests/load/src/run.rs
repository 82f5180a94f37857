//! The schedule: who asks what when.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::exchange::{After, Connection};
use crate::{Config, Record, Shared, websocket};

/// After the end, what is in flight is waited for this long.
const GRACE: Duration = Duration::from_secs(11);

/// Runs until `stopped`.
pub(crate) async fn run(config: Config, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let mut sockets = JoinSet::new();
    for n in 0..config.websockets {
        let target = config.targets[n % config.targets.len()];
        sockets.spawn(websocket::hold(target, Arc::clone(&shared)));
    }
    let mut asking = JoinSet::new();
    let mut anew = JoinSet::new();
    let queues = keep(&config, &shared, &mut asking);
    tokio::select! {
        // The arms own nothing that is lost: schedules are dropped, requests in flight live in `asking` and `anew`.
        () = schedule(config.kept_rate, |due, n| {
            let _ = queues[usize::try_from(n).unwrap_or(0) % queues.len()].send(due);
        }) => {}
        () = ask_anew(&config, &shared, &mut anew) => {}
        _ = stopped => {}
    }
    drop(queues);
    let in_flight = async {
        while asking.join_next().await.is_some() {}
        while anew.join_next().await.is_some() {}
    };
    let _ = tokio::time::timeout(GRACE, in_flight).await;
}

/// Calls `start` at every moment of an even schedule; for ever, or never at rate 0.
async fn schedule(rate: u32, mut start: impl FnMut(Instant, u64)) {
    if rate == 0 {
        return std::future::pending().await;
    }
    let begun = Instant::now();
    for n in 0.. {
        let due = begun + Duration::from_nanos(1_000_000_000 * n / u64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        start(due, n);
    }
}

/// The kept-alive connections: one queue per target, its connections take what is due in turn.
fn keep(
    config: &Config,
    shared: &Arc<Shared>,
    asking: &mut JoinSet<()>,
) -> Vec<mpsc::UnboundedSender<Instant>> {
    let mut queues = Vec::new();
    for (n, target) in config.targets.iter().enumerate() {
        let (queue, due) = mpsc::unbounded_channel();
        let due = Arc::new(Mutex::new(due));
        let targets = config.targets.len();
        let connections = (config.kept_connections + targets - 1 - n) / targets;
        for _ in 0..connections.max(1) {
            asking.spawn(ask_kept(
                *target,
                config.path.clone(),
                Arc::clone(&due),
                Arc::clone(shared),
            ));
        }
        queues.push(queue);
    }
    queues
}

async fn ask_kept(
    target: SocketAddr,
    path: String,
    due: Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>,
    shared: Arc<Shared>,
) {
    let mut connection: Option<Connection> = None;
    loop {
        // The async lock is only a turnstile: whoever holds it waits for the next moment.
        let Some(due) = due.lock().await.recv().await else { return };
        let kept = connection.take().filter(|kept| !kept.is_closed());
        let opened = match kept {
            Some(kept) => Ok(kept),
            None => Connection::open(target).await,
        };
        let outcome = match opened {
            Ok(mut open) => {
                let (outcome, after) = open.get(&path, After::Keep).await;
                connection = (after == After::Keep).then_some(open);
                outcome
            }
            Err(error) => Err(error),
        };
        record(&shared, target, "kept", due, outcome);
    }
}

/// Requests on a connection each, spawned into `asking`, which outlives this: at the end what is in flight still counts.
async fn ask_anew(config: &Config, shared: &Arc<Shared>, asking: &mut JoinSet<()>) {
    schedule(config.new_rate, |due, n| {
        let target = config.targets[usize::try_from(n).unwrap_or(0) % config.targets.len()];
        let (path, shared) = (config.path.clone(), Arc::clone(shared));
        asking.spawn(async move {
            let outcome = match Connection::open(target).await {
                Ok(mut open) => open.get(&path, After::Close).await.0,
                Err(error) => Err(error),
            };
            record(&shared, target, "new", due, outcome);
        });
        while asking.try_join_next().is_some() {}
    })
    .await;
}

fn record(
    shared: &Shared,
    target: SocketAddr,
    kind: &str,
    due: Instant,
    outcome: Result<String, String>,
) {
    let outcome = outcome.map_err(|error| format!("{target} ({kind}): {error}"));
    shared.records().push(Record { due, done: Instant::now(), outcome });
}
