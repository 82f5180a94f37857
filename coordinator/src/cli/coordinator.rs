//! `pith coordinator move | addresses`: nodes learn where the coordinator will be while it is still where it was.

use super::arguments::{CoordinatorVerb, MoveArgs};
use super::follow::{self, Patience, Waited};
use super::session::Session;
use super::{CliError, Exit};
use crate::client::Client;
use crate::render::{self, Progress};
use crate::state::shown::AddressesShown;
use crate::state::whereabouts::Moving;

pub(super) async fn run(session: &Session, verb: CoordinatorVerb) -> Result<Exit, CliError> {
    let client = session.client().await?;
    match verb {
        CoordinatorVerb::Move(args) => tell_all(session, &client, args).await,
        CoordinatorVerb::Addresses { forget } => {
            let shown = match forget {
                Some(address) => client.tell_addresses(&Moving::Forget(address)).await?,
                None => client.addresses(None).await?,
            };
            session.print(&shown, render::whereabouts::addresses);
            Ok(Exit::Done)
        }
    }
}

async fn tell_all(session: &Session, client: &Client, args: MoveArgs) -> Result<Exit, CliError> {
    let MoveArgs { address, detach, timeout } = args;
    let mut shown = client.tell_addresses(&Moving::To(address)).await?;
    let mut is_interrupted = false;
    if !detach {
        let mut progress = Progress::new(!session.is_json());
        let patience = Patience::at_most(Some(timeout.duration()));
        let waited = follow::wait(patience, until_learned(client, &mut progress)).await?;
        progress.end();
        match waited {
            Waited::Done(learned) => shown = learned,
            Waited::TimedOut => shown = client.addresses(None).await?,
            Waited::Interrupted => is_interrupted = true,
        }
    }
    session.print(&shown, render::whereabouts::addresses);
    if is_interrupted {
        eprintln!("nodes go on learning it: pith coordinator addresses");
        return Ok(Exit::Interrupted);
    }
    if detach {
        return Ok(Exit::Done);
    }
    if shown.missing().next().is_some() {
        eprintln!("{}", render::whereabouts::missing(&shown));
        return Ok(Exit::NotFinished);
    }
    eprintln!("{}", render::whereabouts::NEXT);
    Ok(Exit::Done)
}

/// Until every node that is heard of has learned it.
async fn until_learned(
    client: &Client,
    progress: &mut Progress,
) -> Result<AddressesShown, CliError> {
    let mut after = None;
    loop {
        let shown = follow::patiently(|| client.addresses(after)).await?;
        progress.show(render::whereabouts::lines(&shown));
        if shown.waiting().next().is_none() {
            return Ok(shown);
        }
        after = Some(shown.version);
    }
}
