//! `pith fleet reconcile`: what would change is shown first; the trust root that makes it so is signed where its keys are.

use super::arguments::{FleetVerb, SignArgs};
use super::keys::change;
use super::session::Session;
use super::{CliError, Exit};
use crate::render;
use crate::state::reconcile::Reconcile;

pub(super) async fn run(session: &Session, verb: FleetVerb) -> Result<Exit, CliError> {
    match verb {
        FleetVerb::Reconcile { yes, sign } => reconcile(session, yes, sign).await,
    }
}

async fn reconcile(session: &Session, yes: bool, sign: SignArgs) -> Result<Exit, CliError> {
    if yes {
        // The next root is signed and kept there.
        let _ = session.folder("fleet reconcile --yes")?;
    }
    let client = session.client().await?;
    let shown = client.reconciliation().await?;
    let is_done = shown.nodes.is_empty();
    // One document: what follows prints its own.
    if !(yes && session.is_json() && shown.has_conflict()) {
        session.print(&shown, render::reconcile::shown);
    }
    if let Some(why) = &shown.hopeless {
        return Err(CliError::refused(format_args!(
            "{why}. A root that is signed here could not follow the one it knows: bring root.json and roots.json of the newest \
             folder or backup into {}, start the coordinator again, then reconcile",
            session.data.path().display()
        )));
    }
    if is_done {
        return Ok(Exit::Done);
    }
    if !yes {
        eprintln!("nothing was signed; to do it: pith fleet reconcile --yes");
        return Ok(Exit::Refused);
    }
    let _ = client.reconcile(&Reconcile { removals: shown.removals() }).await?;
    if !shown.has_conflict() {
        return Ok(Exit::Done);
    }
    change::raise_epoch(session, sign.root_key).await
}
