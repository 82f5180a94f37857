//! `pith rm`

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};

use protocol::id::{EnvironmentName, ServiceId, ServiceName};

use super::follow::{self, Patience, Waited};
use super::session::Session;
use super::{CliError, Exit, RmArgs, sources};
use crate::client::Client;
use crate::render::{self, Progress};
use crate::state::shown::{Deployed, RemovalShown};

pub(super) async fn run(session: &Session, args: RmArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let environment = session.environment(&client).await?;
    let mut names = args.services;
    names.extend(sources::names(&args.file)?);
    let deployed = client.deployed(&environment).await?;
    let order = in_order(&names, &deployed);
    if !args.yes && !confirmed(&environment, &order)? {
        eprintln!("nothing was removed");
        return Ok(Exit::Failed);
    }
    for name in order {
        let id = ServiceId { environment: environment.clone(), name };
        let exit = remove(session, &client, &id, Patience::of(&args.wait)).await?;
        if exit != Exit::Done {
            return Ok(exit);
        }
    }
    Ok(Exit::Done)
}

/// What depends on another of them goes before it; each once.
fn in_order(names: &[ServiceName], deployed: &Deployed) -> Vec<ServiceName> {
    let mut left: BTreeSet<ServiceName> = names.iter().cloned().collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_needed = |name: &ServiceName| {
            let others = left.iter().filter(|other| *other != name);
            others
                .filter_map(|other| deployed.services.get(other))
                .any(|other| other.spec.depends_on.contains(name))
        };
        let free = left.iter().find(|name| !is_needed(name)).or(left.first());
        let Some(next) = free.cloned() else { break };
        left.remove(&next);
        order.push(next);
    }
    order
}

async fn remove(
    session: &Session,
    client: &Client,
    id: &ServiceId,
    patience: Option<Patience>,
) -> Result<Exit, CliError> {
    let removed = client.remove(id).await?;
    let Some(patience) = patience else {
        session.print(&removed, |removed| render::removed(id, removed, None));
        return Ok(Exit::Done);
    };
    let mut progress = Progress::new(!session.is_json());
    let waited = follow::wait(patience, until_gone(client, id, &mut progress)).await?;
    progress.end();
    match waited {
        Waited::Done(removal) => {
            session.print(&removed, |removed| render::removed(id, removed, Some(&removal)));
            Ok(Exit::Done)
        }
        Waited::TimedOut => {
            eprintln!("not finished in the time given; it goes on");
            Ok(Exit::NotFinished)
        }
        Waited::Interrupted => {
            eprintln!("it goes on in the background");
            Ok(Exit::Interrupted)
        }
    }
}

fn confirmed(environment: &EnvironmentName, names: &[ServiceName]) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("nobody is there to ask; say --yes"));
    }
    let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
    eprint!("remove {} from every node of {environment}? [y/N] ", names.join(", "));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(CliError::failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn until_gone(
    client: &Client,
    id: &ServiceId,
    progress: &mut Progress,
) -> Result<RemovalShown, CliError> {
    let mut after = None;
    loop {
        let removal = follow::patiently(|| client.removal(id, after)).await?;
        progress.show(render::removal_lines(id, &removal));
        if removal.waiting.is_empty() {
            return Ok(removal);
        }
        after = Some(removal.version);
    }
}
