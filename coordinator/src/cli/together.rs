//! Several services in one deploy: each once what it depends on is done, those that are independent at the same time, in
//! one view.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::ServiceName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::follow::{Followed, Patience, follow};
use super::session::Session;
use super::{CliError, Exit};
use crate::client::Client;
use crate::render::{self, Progress};
use crate::state::requests::{Accepted, Deploy};
use crate::state::shown::RolloutShown;

/// Lines of progress that wait to be shown.
const MAX_LINES_WAITING: usize = 64;

/// A service, what it depends on, and its deploy.
pub(super) type Request = (ServiceName, BTreeSet<ServiceName>, Deploy);

/// Which services may go, which are done and which never come to it.
#[derive(Debug, Default)]
struct Order {
    waiting: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    failed: BTreeSet<ServiceName>,
}

impl Order {
    /// Dependencies that are not part of this deploy are there already.
    fn of(services: impl Iterator<Item = (ServiceName, BTreeSet<ServiceName>)>) -> Self {
        let mut waiting: BTreeMap<_, BTreeSet<ServiceName>> = services.collect();
        let names: BTreeSet<ServiceName> = waiting.keys().cloned().collect();
        waiting.values_mut().for_each(|needs| needs.retain(|name| names.contains(name)));
        Self { waiting, failed: BTreeSet::new() }
    }

    /// Those that wait for nothing any more.
    fn next(&mut self) -> Vec<ServiceName> {
        let free = self.waiting.iter().filter(|(_, needs)| needs.is_empty());
        let free: Vec<ServiceName> = free.map(|(name, _)| name.clone()).collect();
        self.waiting.retain(|name, _| !free.contains(name));
        free
    }

    fn done(&mut self, name: &ServiceName) {
        for needs in self.waiting.values_mut() {
            needs.remove(name);
        }
    }

    /// A service did not get there: whatever depends on it, and on that, is not begun. Says which and why.
    fn failed(&mut self, name: &ServiceName) -> Vec<(ServiceName, ServiceName)> {
        self.failed.insert(name.clone());
        let mut skipped = Vec::new();
        loop {
            let stopped = self.waiting.iter().find_map(|(name, needs)| {
                let why = needs.intersection(&self.failed).next()?;
                Some((name.clone(), why.clone()))
            });
            let Some((name, why)) = stopped else { return skipped };
            self.waiting.remove(&name);
            self.failed.insert(name.clone());
            skipped.push((name, why));
        }
    }
}

type Ended = (ServiceName, Result<(Accepted, Followed), CliError>);

/// Deploys all of them; the exit code is that of the first that did not get there.
pub(super) async fn run(
    session: &Session,
    client: &Client,
    requests: Vec<Request>,
    patience: Option<Patience>,
) -> Result<(Vec<RolloutShown>, Exit), CliError> {
    let mut order =
        Order::of(requests.iter().map(|(name, needs, _)| (name.clone(), needs.clone())));
    let mut requests: BTreeMap<ServiceName, Deploy> =
        requests.into_iter().map(|(name, _, request)| (name, request)).collect();
    let (lines_in, mut lines) = mpsc::channel::<(ServiceName, Vec<String>)>(MAX_LINES_WAITING);
    let mut running: JoinSet<Ended> = JoinSet::new();
    let mut view: BTreeMap<ServiceName, Vec<String>> = BTreeMap::new();
    let mut progress = Progress::new(!session.is_json());
    let (mut shown, mut exit, mut trouble) = (Vec::new(), Exit::Done, None);
    loop {
        for name in order.next() {
            let Some(request) = requests.remove(&name) else { continue };
            let (client, lines) = (client.clone(), lines_in.clone());
            running.spawn(async move { (name, one(&client, request, patience, &lines).await) });
        }
        // Cancel-safe: joining and receiving lose nothing when the other was ready first.
        let (name, result) = tokio::select! {
            Some((name, text)) = lines.recv() => {
                view.insert(name, text);
                progress.show(view.values().flatten().cloned().collect());
                continue;
            }
            ended = running.join_next() => match ended {
                None => break,
                Some(ended) => ended.map_err(CliError::failed)?,
            },
        };
        view.remove(&name);
        progress.end();
        let ended = match result {
            Ok((accepted, followed)) => {
                if !session.is_json() {
                    print!("{}", render::accepted(&accepted, &followed.rollout));
                }
                let is_over = patience.is_some() && !accepted.unchanged;
                let ended = if is_over { followed.close(session) } else { Exit::Done };
                shown.push(followed.rollout);
                ended
            }
            Err(error) => {
                error.print();
                let ended = error.exit;
                trouble.get_or_insert(error);
                ended
            }
        };
        if ended == Exit::Done {
            order.done(&name);
            continue;
        }
        exit = if exit == Exit::Done { ended } else { exit };
        for (skipped, why) in order.failed(&name) {
            eprintln!("{skipped} is not deployed: it depends on {why}, which did not get there");
        }
    }
    progress.end();
    Ok((shown, exit))
}

async fn one(
    client: &Client,
    request: Deploy,
    patience: Option<Patience>,
    lines: &mpsc::Sender<(ServiceName, Vec<String>)>,
) -> Result<(Accepted, Followed), CliError> {
    let accepted = client.deploy(&request).await?;
    let (id, revision) = (&accepted.service, accepted.revision);
    let Some(patience) = patience.filter(|_| !accepted.unchanged) else {
        let rollout = client.rollout(id, Some(revision), None).await?;
        return Ok((accepted, Followed::at_once(rollout)));
    };
    let name = id.name.clone();
    // A full queue means that something newer is about to be shown anyway.
    let show = |text: Vec<String>| drop(lines.try_send((name.clone(), text)));
    let followed = follow(client, id, revision, patience, show).await?;
    Ok((accepted, followed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(services: &[(&str, &str)]) -> Order {
        let name = |name: &str| name.parse::<ServiceName>().unwrap();
        let needs = |text: &str| text.split_whitespace().map(name).collect();
        Order::of(services.iter().map(|(service, text)| (name(service), needs(text))))
    }

    fn names(names: &[ServiceName]) -> String {
        names.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_goes_once_what_it_depends_on_is_done() {
        let mut order = order(&[("web", "api"), ("api", "db"), ("db", ""), ("chat", "elsewhere")]);
        assert_eq!(names(&order.next()), "chat db");
        assert_eq!(names(&order.next()), "");
        order.done(&"db".parse().unwrap());
        assert_eq!(names(&order.next()), "api");
    }

    #[test]
    fn what_depends_on_a_failed_one_is_not_begun_and_others_are() {
        let mut order = order(&[("web", "api"), ("api", "db"), ("db", ""), ("chat", "")]);
        assert_eq!(names(&order.next()), "chat db");
        let skipped = order.failed(&"db".parse().unwrap());
        let text: Vec<String> = skipped.iter().map(|(one, why)| format!("{one}:{why}")).collect();
        assert_eq!(text, ["api:db", "web:api"]);
        assert_eq!(names(&order.next()), "");
    }
}
