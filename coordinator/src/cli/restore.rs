//! `pith restore FILE --root-key KEY`

use std::fs;

use super::session::Session;
use super::{CliError, Exit, RestoreArgs};
use crate::backup::restore::{self, RestoreError, Restored};
use crate::key_file::KeyFile;
use crate::passphrase::Passphrases;
use crate::render::clock;
use crate::sealing::{self, OpenError};

pub(super) fn run(session: &Session, args: &RestoreArgs) -> Result<Exit, CliError> {
    let file = args.file.display();
    let failed = |error: &dyn std::error::Error| CliError::failed(format_args!("{file}: {error}"));
    restore::check_target(&session.data).map_err(CliError::usage)?;
    let bytes = fs::read(&args.file).map_err(|error| failed(&error))?;
    let sealed = sealing::read(&bytes).map_err(|error| failed(&error))?;
    let key = KeyFile::read(&args.root_key)?;
    let (public, sealed_to) = (key.public().id(), sealed.sealed_to());
    if !sealed_to.contains(&public) {
        // Before anybody is asked for the passphrase of a key that does not open it.
        let fleet = sealed.about().fleet.clone();
        let wrong = OpenError::WrongKey { key: public, fleet, sealed_to };
        return Err(CliError::refused(format_args!("{file}: {wrong}")));
    }
    let key = key.open(&mut Passphrases::default())?;
    let restored = restore::restore(&sealed, &key, session.named_fleet()?.as_ref(), &session.data);
    let restored =
        restored.map_err(|error| match matches!(error, RestoreError::ForeignFleet { .. }) {
            true => CliError::usage(format_args!("{file}: {error}")),
            false => failed(&error),
        })?;
    session.print(&restored, text);
    Ok(Exit::Done)
}

fn text(restored: &Restored) -> String {
    let Restored { data, about, nodes, services } = restored;
    let data = data.display();
    format!(
        "fleet {} in {data}, as of {} under trust root {}: {nodes} nodes, {services} services\n\
         a node that has seen more since then refuses it and runs on: `pith fleet reconcile` shows and mends it\n\
         release keys are not in a backup; whoever deploys puts theirs into {data}/keys\n\
         next: pith serve --data {data}, at an address that the nodes know\n",
        about.fleet,
        clock(about.made_ms),
        about.root_version,
    )
}
