//! `pith scale`

use protocol::id::ServiceId;

use super::follow::{self, Patience, Waited};
use super::session::Session;
use super::{CliError, Exit, ScaleArgs};
use crate::client::Client;
use crate::render::{self, Progress};
use crate::state::requests::Scale;
use crate::state::shown::ServiceShown;

pub(super) async fn run(session: &Session, args: ScaleArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let id = session.service(&client, args.service).await?;
    let count = if args.reset { None } else { args.count };
    let accepted = client.scale(&id, &Scale { count }).await?;
    if accepted.unplaced > 0 {
        eprintln!("warning: {} instances found no node", accepted.unplaced);
    }
    let Some(patience) = Patience::of(&args.wait) else {
        session.print(&accepted, |_| format!("{} is being scaled\n", id.name));
        return Ok(Exit::Done);
    };
    let mut progress = Progress::new(!session.is_json());
    let waited = follow::wait(patience, until_settled(&client, &id, &mut progress)).await?;
    progress.end();
    match waited {
        Waited::Done(service) => {
            session.print(&service, render::scaled);
            Ok(Exit::Done)
        }
        Waited::TimedOut => {
            eprintln!("not finished in the time given; it goes on. Look with: pith ps");
            Ok(Exit::NotFinished)
        }
        Waited::Interrupted => {
            eprintln!("it goes on in the background. Look with: pith ps");
            Ok(Exit::Interrupted)
        }
    }
}

async fn until_settled(
    client: &Client,
    id: &ServiceId,
    progress: &mut Progress,
) -> Result<ServiceShown, CliError> {
    let mut after = None;
    loop {
        let shown = follow::patiently(|| client.services(Some(&id.environment), after)).await?;
        after = Some(shown.version);
        let service = shown.services.into_iter().find(|service| service.name == id.name);
        let Some(service) = service else {
            return Err(CliError::failed(format_args!("{id} was removed meanwhile")));
        };
        progress.show(render::scale_lines(&service));
        if service.settled {
            return Ok(service);
        }
    }
}
