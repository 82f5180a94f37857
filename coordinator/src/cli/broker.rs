//! `pith broker mosquitto`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::session::Session;
use super::{BrokerVerb, CliError, Exit};
use crate::ca::Ca;
use crate::client::ClientError;
use crate::event_loop::at;
use crate::mosquitto;
use crate::state::members;
use crate::store::Store;

pub(super) async fn run(session: &Session, verb: BrokerVerb) -> Result<Exit, CliError> {
    let BrokerVerb::Mosquitto { dir, listen } = verb;
    let data = session.folder("broker mosquitto")?;
    let fleet = data.open()?;
    let ca = Ca::open(data, &fleet.id).map_err(CliError::failed)?;
    let revoked = revoked(session).await?;
    mosquitto::write(&dir, listen, &ca, &revoked, at().unix_ms / 1000).map_err(CliError::failed)?;
    let folder = std::path::absolute(&dir).unwrap_or(dir);
    let answer = json!({ "dir": folder, "listen": listen, "revoked": revoked.len() });
    session.print(&answer, |_| text(&folder, listen.port(), revoked.len()));
    Ok(Exit::Done)
}

/// From the coordinator, or where none runs from its database.
async fn revoked(session: &Session) -> Result<Vec<String>, CliError> {
    match session.client().await?.revoked_certificates().await {
        Ok(revoked) => Ok(revoked.serials),
        Err(ClientError::Unreachable { .. }) => {
            let (_store, kept) = Store::open(&session.data.database()).map_err(CliError::failed)?;
            Ok(members::revoked_serials(&kept.members))
        }
        Err(error) => Err(error.into()),
    }
}

fn text(folder: &Path, port: u16, revoked: usize) -> String {
    let conf: PathBuf = folder.join("mosquitto.conf");
    format!(
        "{conf} is written, with {revoked} revoked certificates\n\
         Mosquitto reads the files as its own user: chown -R mosquitto: {folder}\n\
         start it, or start it again after each `pith node revoke`: mosquitto -c {conf}\n\
         and tell the coordinator, by an address that nodes reach too, in coordinator.toml:\n\
         [broker]\n\
         external = \"HOST:{port}\"\n\
         tls = true\n\
         listen = \"[::]:8884\"   # where nodes join and renew\n",
        conf = conf.display(),
        folder = folder.display(),
    )
}
