//! `pith dev`

use super::session::{Session, default_environment};
use super::{CliError, DevArgs, Exit};
use crate::dev::{self, AtEnd, DevError, Wish};
use crate::serve::{self, ServeConfig};

pub(super) async fn run(session: &Session, args: DevArgs) -> Result<Exit, CliError> {
    let environment = session.named_environment().cloned();
    let environment = environment.unwrap_or_else(default_environment);
    let nodes = dev::settings(args.nodes, &args.node, &environment).map_err(CliError::usage)?;
    let at_end = if args.keep { AtEnd::Keep } else { AtEnd::Remove };
    serve::start_logging();
    // `pith dev` is its own broker; what environments take, and who may use the API, stands in the same file as for `serve`.
    let file = session.data.path().join("coordinator.toml");
    let config = match file.exists() {
        true => ServeConfig::load(&file).map_err(CliError::usage)?,
        false => ServeConfig::default(),
    };
    let (policy, api) = (config.policy(), config.api().map_err(CliError::usage)?);
    let wish = Wish { data: session.data.clone(), nodes, at_end, policy, api };
    match dev::run(wish, serve::asked_to_end()).await {
        Ok(()) => Ok(Exit::Done),
        Err(DevError::Local(error)) => Err(error.into()),
        Err(DevError::Data(error)) => Err(error.into()),
        Err(error) => Err(CliError::failed(dev::explain(&error))),
    }
}
