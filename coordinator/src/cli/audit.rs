//! `pith audit`: from the coordinator, or, where none runs, from the file in the fleet's folder.

use super::session::{Place, Session};
use super::{AuditArgs, CliError, Exit};
use crate::audit::{self, Verified};
use crate::client::ClientError;
use crate::event_loop::at;
use crate::render;
use crate::state::shown::AuditShown;

/// As many as the coordinator shows.
const MAX_ENTRIES: usize = 10_000;

pub(super) async fn run(session: &Session, args: AuditArgs) -> Result<Exit, CliError> {
    let client = session.client().await?;
    if args.verify {
        let verified = match client.verify_audit().await {
            Err(ClientError::Unreachable { .. }) if is_here(session)? => from_folder(session)?,
            other => other?,
        };
        session.print(&verified, render::people::verified);
        return Ok(if verified.broken.is_none() { Exit::Done } else { Exit::Failed });
    }
    let since_ms = args.since.map_or(0, |since| at().unix_ms.saturating_sub(since.0));
    let shown = match client.audit(since_ms).await {
        Err(ClientError::Unreachable { .. }) if is_here(session)? => {
            let path = session.data.path().join(audit::FILE);
            let entries = audit::read_newest(&path, since_ms, MAX_ENTRIES);
            AuditShown { entries: entries.map_err(CliError::failed)? }
        }
        other => other?,
    };
    session.print(&shown, render::people::audit);
    Ok(Exit::Done)
}

fn from_folder(session: &Session) -> Result<Verified, CliError> {
    let fleet = session.folder("audit")?.open()?;
    audit::verify(&session.data.path().join(audit::FILE), &fleet.id, None).map_err(CliError::failed)
}

fn is_here(session: &Session) -> Result<bool, CliError> {
    Ok(matches!(session.place()?, Place::Folder) && session.data.holds_fleet())
}
