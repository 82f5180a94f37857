//! `pith backup [FILE]`

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::session::Session;
use super::{BackupArgs, CliError, Exit};
use crate::backup::{self, Backup, BackupShown, Database};
use crate::ca::Ca;
use crate::client::ClientError;
use crate::event_loop::at;
use crate::sealing;
use crate::store::Store;

pub(super) async fn run(session: &Session, args: BackupArgs) -> Result<Exit, CliError> {
    let fleet = session.folder("backup")?.open()?;
    let client = session.client().await?;
    let Some(file) = args.file else {
        let shown = client.keep_backup().await.map_err(|error| match error {
            ClientError::Unreachable { .. } => CliError::usage(
                "no coordinator runs that knows its folder of backups; name a file: pith backup FILE",
            ),
            error @ (ClientError::Denied { .. }
            | ClientError::Away { .. }
            | ClientError::Distrust { .. }
            | ClientError::Broken(_)
            | ClientError::Refused(_)) => error.into(),
        })?;
        session.print(&shown, text);
        return Ok(Exit::Done);
    };
    if file.exists() {
        let file = file.display();
        return Err(CliError::usage(format_args!(
            "{file} is there already; a backup is never overwritten"
        )));
    }
    let made = match client.backup().await {
        Ok(bytes) => {
            let sealed = sealing::read(&bytes).map_err(CliError::failed)?;
            let (about, opens_with) = (sealed.about().clone(), sealed.sealed_to());
            Backup { about, opens_with, bytes }
        }
        Err(ClientError::Unreachable { .. }) => {
            // A folder of an older version has none yet.
            let _ = Ca::open(&session.data, &fleet.id).map_err(CliError::failed)?;
            let (store, _) = Store::open(&session.data.database()).map_err(CliError::failed)?;
            let made = backup::make(&session.data, Database::Stopped(&store), at().unix_ms).await;
            made.map_err(CliError::failed)?
        }
        Err(error) => return Err(error.into()),
    };
    write(&file, &made.bytes)?;
    session.print(&made.shown(std::path::absolute(&file).unwrap_or(file)), text);
    Ok(Exit::Done)
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let failed = |error| CliError::failed(format_args!("{}: {error}", file.display()));
    let mut options = fs::File::options();
    let new = options.write(true).create_new(true).mode(0o600).open(file);
    let mut new = new.map_err(failed)?;
    let written = new.write_all(bytes).and_then(|()| new.sync_all());
    if written.is_err() {
        // Half a backup is none.
        let _ = fs::remove_file(file);
    }
    written.map_err(failed)
}

fn text(shown: &BackupShown) -> String {
    let keys: Vec<&str> = shown.opens_with.iter().map(protocol::id::KeyId::as_str).collect();
    format!(
        "backup of fleet {} in {}, {} bytes\n\
         any one of these root keys opens it: {}\n\
         it holds no root, release or agent-release key: keep those elsewhere too\n",
        shown.about.fleet,
        shown.file.display(),
        shown.bytes,
        keys.join(", ")
    )
}
