//! `pith init`

use serde_json::json;

use super::session::Session;
use super::{CliError, Exit, InitArgs};
use crate::ca::Ca;
use crate::data_dir::{Init, Made};
use crate::key_file::KeyFile;
use crate::passphrase::Passphrases;

pub(super) fn run(session: &Session, args: InitArgs) -> Result<Exit, CliError> {
    let mut passphrases = Passphrases::default();
    let mut init = Init { threshold: args.root_threshold, ..Init::default() };
    for path in &args.root_key {
        let key = KeyFile::read(path)?;
        init.root_keys.push(key.public());
        let has_enough = u32::try_from(init.signers.len()).is_ok_and(|n| n >= init.threshold);
        if key.signs() && !has_enough {
            init.signers.push(key.open(&mut passphrases)?);
        }
    }
    if args.passphrase {
        init.passphrase = Some(passphrases.fresh("the keys of this fleet")?);
    }
    let is_made_here = args.root_key.is_empty();
    let path = session.data.path().display();
    match session.data.init_with(init)? {
        Made::Fleet(fleet) => {
            // Beside the keys from the first moment on, so that a backup of now holds it.
            let _ = Ca::open(&session.data, &fleet.id).map_err(CliError::failed)?;
            let answer =
                json!({ "fleet": fleet.id, "data": session.data.path(), "finished": true });
            session.print(&answer, |_| {
                let warning = if is_made_here { warning(args.passphrase) } else { "" };
                let id = &fleet.id;
                format!(
                    "fleet {id} in {path}\n{warning}\
                     next: pith dev --data {path}   or   pith serve --data {path}\n"
                )
            });
        }
        Made::Unfinished(fleet, file) => {
            let answer = json!({
                "fleet": fleet, "data": session.data.path(), "finished": false, "file": file,
            });
            session.print(&answer, |_| {
                let file = file.display();
                format!(
                    "fleet {fleet} in {path} is not finished: its trust root lacks signatures\n\
                     each root key's holder: pith keys sign {file} --root-key FILE\n"
                )
            });
        }
    }
    Ok(Exit::Done)
}

const fn warning(encrypted: bool) -> &'static str {
    if encrypted {
        "warning: one root key rules everything, and it is here, encrypted: move keys/root.key to a safe place offline, and a copy of root.json with it\n"
    } else {
        "warning: one root key rules everything, and it is here, readable: move keys/root.key to a safe place offline, and a copy of root.json with it\n\
         \x20        (several people and keys: pith init --root-threshold 2 --root-key …; encrypted: --passphrase)\n"
    }
}
