//! `pith events`

use super::session::Session;
use super::{CliError, EventsArgs, Exit, follow};
use crate::event_loop::at;
use crate::render;
use crate::state::views::EventFilter;

pub(super) async fn run(session: &Session, args: EventsArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let service = match args.service {
        Some(service) => Some(session.service(&client, service).await?),
        None => None,
    };
    let since_ms = args.since.map_or(0, |since| at().unix_ms.saturating_sub(since.0));
    let limit = args.last.map_or(0, usize::from);
    let mut filter = EventFilter { after: 0, service, node: args.node, since_ms, limit };
    let mut shown = client.events(&filter, None).await?;
    if !args.follow {
        session.print(&shown.events, |events| render::events(events));
        return Ok(Exit::Done);
    }
    // From now on all of them.
    filter.limit = 0;
    loop {
        for event in &shown.events {
            filter.after = event.id;
            if session.is_json() {
                // One document per line: this has no end that could close a list.
                println!("{}", serde_json::json!(event));
            } else {
                print!("{}", render::events(std::slice::from_ref(event)));
            }
        }
        let next = follow::patiently(|| client.events(&filter, Some(shown.version)));
        tokio::select! {
            // Cancel-safe: nothing is taken from anyone by asking.
            next = next => shown = next?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}
