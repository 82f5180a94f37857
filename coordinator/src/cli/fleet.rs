//! `pith fleet reconcile`: what would change is shown first; the trust root that makes it so is signed where its keys are.
//! `pith fleet recover`: a folder for a coordinator that was lost, from its trust roots.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::envelope::Envelope;
use protocol::succession::Chain;

use super::arguments::{FleetVerb, SignArgs};
use super::keys::change;
use super::session::Session;
use super::{CliError, Exit};
use crate::render;
use crate::roots::line_up;
use crate::state::reconcile::Reconcile;

/// Twenty years of monthly changes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

pub(super) async fn run(session: &Session, verb: FleetVerb) -> Result<Exit, CliError> {
    match verb {
        FleetVerb::Reconcile { yes, sign } => reconcile(session, yes, sign).await,
        FleetVerb::Recover { root, sign } => recover(session, &root, &sign.root_key).await,
    }
}

async fn recover(session: &Session, files: &[PathBuf], keys: &[PathBuf]) -> Result<Exit, CliError> {
    let mut found: Vec<Envelope> = Vec::new();
    for file in files {
        found.extend(read_roots(file)?);
    }
    let row = line_up(&found).map_err(|error| CliError::usage(format_args!("--root: {error}")))?;
    let exit = change::recover(session, &row, keys).await?;
    if exit == Exit::Done && !session.is_json() {
        let data = session.data.path().display();
        eprintln!(
            "next: pith serve --data {data}, at an address that the nodes know; each comes by itself and waits: `pith node ls`, \
             `pith node approve NAME`, or --all where no board was ever stolen\n\
             release keys count as before; whoever deploys puts theirs into {data}/keys, and `pith keys add release FILE` brings another"
        );
    }
    Ok(exit)
}

/// One root, or a chain of them.
fn read_roots(file: &Path) -> Result<Vec<Envelope>, CliError> {
    let failed = |error: &dyn std::fmt::Display| {
        CliError::usage(format_args!("--root {}: {error}", file.display()))
    };
    let length = fs::metadata(file).map_err(|error| failed(&error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(failed(&"it is too large for trust roots"));
    }
    let bytes = fs::read(file).map_err(|error| failed(&error))?;
    if let Ok(Chain { roots }) = serde_json::from_slice(&bytes) {
        return Ok(roots);
    }
    let none = "it holds neither a trust root (root.json) nor several (roots.json, or what `pith-agent root` prints)";
    let envelope = Envelope::from_bytes(&bytes).map_err(|_| failed(&none))?;
    Ok(vec![envelope])
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
