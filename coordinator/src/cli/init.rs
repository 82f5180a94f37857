//! `pith init`

use serde_json::json;

use super::session::Session;
use super::{CliError, Exit};

pub(super) fn run(session: &Session) -> Result<Exit, CliError> {
    let fleet = session.data.init()?;
    let path = session.data.path().display();
    let answer = json!({ "fleet": fleet.id, "data": session.data.path() });
    session.print(&answer, |_| {
        format!(
            "fleet {} in {path}\n\
             keys/root.key signs the trust root only: move it to a safe place offline\n\
             next: pith dev --data {path}   or   pith serve --data {path}\n",
            fleet.id
        )
    });
    Ok(Exit::Done)
}
