//! `pith rm`

use std::io::{IsTerminal as _, Write as _};

use protocol::id::ServiceId;

use super::follow::{self, Patience, Waited};
use super::session::Session;
use super::{CliError, Exit, RmArgs};
use crate::client::Client;
use crate::render::{self, Progress};
use crate::state::shown::RemovalShown;

pub(super) async fn run(session: &Session, args: RmArgs) -> Result<Exit, CliError> {
    let client = session.client()?;
    let id = session.service(&client, args.service).await?;
    if !args.yes && !confirmed(&id)? {
        eprintln!("nothing was removed");
        return Ok(Exit::Failed);
    }
    let removed = client.remove(&id).await?;
    let Some(patience) = Patience::of(&args.wait) else {
        session.print(&removed, |removed| render::removed(&id, removed, &[]));
        return Ok(Exit::Done);
    };
    let mut progress = Progress::new(!session.is_json());
    let waited = follow::wait(patience, until_gone(&client, &id, &mut progress)).await?;
    progress.end();
    match waited {
        Waited::Done(removal) => {
            session.print(&removed, |removed| render::removed(&id, removed, &removal.offline));
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

fn confirmed(id: &ServiceId) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("nobody is there to ask; say --yes"));
    }
    eprint!("remove {id} from every node? [y/N] ");
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
