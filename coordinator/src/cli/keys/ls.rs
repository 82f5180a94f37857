//! `pith keys ls`: the newest trust root in the folder, and what the coordinator says of it where one runs.

use protocol::id::KeyId;
use protocol::keys::{PublicKey, RoleName};
use serde::Serialize;

use crate::cli::session::Session;
use crate::cli::{CliError, Exit};
use crate::client::ClientError;
use crate::key_file::{Holds, KeyFile};
use crate::render;
use crate::state::shown::RootShown;

#[derive(Debug, Serialize)]
struct Keys {
    fleet: protocol::id::FleetId,
    version: u64,
    epoch: u64,
    roles: Vec<RoleShown>,
    /// Files in the folder that no role names.
    unused: Vec<String>,
    /// None where no coordinator runs.
    coordinator: Option<RootShown>,
}

#[derive(Debug, Serialize)]
struct RoleShown {
    role: RoleName,
    threshold: u32,
    keys: Vec<KeyShown>,
}

#[derive(Debug, Serialize)]
struct KeyShown {
    id: KeyId,
    public_key: PublicKey,
    /// None where it is not here.
    file: Option<String>,
    holds: Option<Holds>,
}

pub(super) async fn run(session: &Session) -> Result<Exit, CliError> {
    let fleet = session.data.open()?;
    let files = session.data.keys()?;
    let coordinator = match session.client().await?.root().await {
        Ok(shown) => Some(shown),
        Err(ClientError::Unreachable { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let shown = |public: &PublicKey| {
        let file = session.data.file_of(&files, public);
        KeyShown {
            id: public.id(),
            public_key: public.clone(),
            file: file.map(|file| file.name.clone()),
            holds: file.map(KeyFile::holds),
        }
    };
    let roles = fleet.root.roles.iter().map(|(role, of_it)| RoleShown {
        role: *role,
        threshold: of_it.threshold,
        keys: of_it.keys.iter().map(shown).collect(),
    });
    let is_named =
        |public: &PublicKey| fleet.root.roles.values().any(|role| role.keys.contains(public));
    let unused = files.iter().filter(|file| !is_named(&file.public()));
    let keys = Keys {
        fleet: fleet.id.clone(),
        version: fleet.root.version,
        epoch: fleet.root.epoch,
        roles: roles.collect(),
        unused: unused.map(|file| file.name.clone()).collect(),
        coordinator,
    };
    session.print(&keys, text);
    Ok(Exit::Done)
}

fn text(keys: &Keys) -> String {
    let mut rows = vec![["ROLE", "THRESHOLD", "KEY", "FILE"].map(str::to_owned)];
    for RoleShown { role, threshold, keys } in &keys.roles {
        for key in keys {
            let here = match (&key.file, key.holds) {
                (Some(file), Some(Holds::Encrypted)) => format!("{file} (encrypted)"),
                (Some(file), _) => file.clone(),
                (None, _) => "not here".to_owned(),
            };
            let threshold = format!("{threshold} of {}", keys.len());
            rows.push([role.to_string(), threshold, key.id.to_string(), here]);
        }
    }
    let mut text = format!("trust root {}, epoch {}\n", keys.version, keys.epoch);
    text += &render::table(&rows);
    for file in &keys.unused {
        text += &format!("{file}: in no role any more\n");
    }
    let Some(coordinator) = &keys.coordinator else { return text };
    for behind in &coordinator.behind {
        text += &format!("{} knows trust root {} so far\n", behind.node, behind.version);
    }
    for of_it in &coordinator.distrusted {
        text += &format!("warning: {of_it}\n");
    }
    text
}
