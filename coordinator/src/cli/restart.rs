//! `pith restart`

use protocol::id::{NodeName, ServiceId};
use protocol::report::Phase;

use super::follow::{self, Patience, Waited};
use super::session::Session;
use super::{CliError, Exit, RestartArgs};
use crate::client::Client;
use crate::state::shown::ServiceOnNode;

pub(super) async fn run(session: &Session, args: RestartArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let id = session.service(&client, args.service).await?;
    let node = args.node;
    client.restart_on(&id, &node).await?;
    let Some(patience) = Patience::of(&args.wait) else {
        let begun = serde_json::json!({ "service": id.name, "node": node });
        session.print(&begun, |_| format!("{} is being restarted on {node}\n", id.name));
        return Ok(Exit::Done);
    };
    match follow::wait(patience, until_over(&client, &id, &node)).await? {
        Waited::Done(on) if on.settled => {
            session.print(&on, |on| {
                format!("{} runs anew on {node}: {} of {} ready\n", id.name, on.ready, on.desired)
            });
            Ok(Exit::Done)
        }
        Waited::Done(on) => {
            let why = on.message.clone().unwrap_or_default();
            session.print(&on, |_| format!("{} on {node} did not come up anew: {why}\n", id.name));
            Ok(match on.phase {
                Some(Phase::RolledBack) => Exit::RolledBack,
                // It does so once root of the board lets it.
                Some(Phase::Held) => Exit::NotFinished,
                _ => Exit::Failed,
            })
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

/// Until it runs anew, or went back; a node that is offline does it once it is back.
async fn until_over(
    client: &Client,
    id: &ServiceId,
    node: &NodeName,
) -> Result<ServiceOnNode, CliError> {
    let (mut after, mut was_told) = (None, false);
    loop {
        let shown = follow::patiently(|| client.services(Some(&id.environment), after)).await?;
        after = Some(shown.version);
        let service = shown.services.into_iter().find(|service| service.name == id.name);
        let on = service.into_iter().flat_map(|service| service.nodes);
        let Some(on) = on.into_iter().find(|on| on.node == *node) else {
            return Err(CliError::failed(format_args!("{id} was taken off {node} meanwhile")));
        };
        if on.settled || (on.holds_newest && is_given_up(on.phase)) {
            return Ok(on);
        }
        if !on.online && !was_told {
            was_told = true;
            eprintln!("{node} is offline; it does so once it is back");
        }
    }
}

/// Nothing more comes of it by itself.
fn is_given_up(phase: Option<Phase>) -> bool {
    match phase {
        Some(Phase::RolledBack | Phase::Failed | Phase::Held) => true,
        Some(
            Phase::Running
            | Phase::Updating
            | Phase::RollingBack
            | Phase::Degraded
            | Phase::Removing,
        )
        | None => false,
    }
}
