//! `pith top`: the fleet on one screen. The model takes answers and keys and says what is to be seen, the view draws it, the shell has
//! the terminal and the clock.

#[cfg(test)]
mod fixture;
pub(in crate::cli) mod gather;
mod layout;
mod model;
mod shell;
mod view;

use std::io::IsTerminal as _;

use super::arguments::TopArgs;
use super::session::Session;
use super::{CliError, Exit};
use crate::render::top::tracks::Tracks;
use gather::now_here_ms;
use model::Model;

/// A frame for no terminal is as wide, unless COLUMNS says otherwise.
const WIDTH: u16 = 120;

pub(super) async fn run(session: &Session, args: TopArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    let environment = session.named_environment();
    let is_live = std::io::stdout().is_terminal() && !args.once && !session.is_json();
    if !is_live {
        let _ = gather::nodes_told(&client, environment, None, &mut Tracks::default()).await?;
    }
    let answer = gather::ask(&client, environment).await?;
    if session.is_json() {
        session.print(&answer, |_| String::new());
        return Ok(Exit::Done);
    }
    let mut model = Model::new(args.sort.into());
    model.take(answer, now_here_ms());
    if is_live {
        return shell::run(&client, environment, model).await;
    }
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    print!("{}", view::text(&model, columns.unwrap_or(WIDTH), now_here_ms()));
    Ok(Exit::Done)
}
