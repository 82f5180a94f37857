//! `pith events`

use super::session::Session;
use super::{CliError, EventsArgs, Exit, follow};
use crate::render;

pub(super) async fn run(session: &Session, args: EventsArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let of = match args.service {
        Some(service) => Some(session.service(&client, service).await?),
        None => None,
    };
    let mut shown = client.events(of.as_ref(), 0, None).await?;
    if !args.follow {
        session.print(&shown.events, |events| render::events(events));
        return Ok(Exit::Done);
    }
    let mut newest = 0;
    loop {
        for event in &shown.events {
            newest = event.id;
            if session.is_json() {
                // One document per line: this has no end that could close a list.
                println!("{}", serde_json::json!(event));
            } else {
                print!("{}", render::events(std::slice::from_ref(event)));
            }
        }
        let next = follow::patiently(|| client.events(of.as_ref(), newest, Some(shown.version)));
        tokio::select! {
            // Cancel-safe: nothing is taken from anyone by asking.
            next = next => shown = next?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}
