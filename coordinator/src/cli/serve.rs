//! `pith serve`

use super::session::Session;
use super::{CliError, Exit, ServeArgs};
use crate::local::Coordinator;
use crate::serve::{self, Reach, ServeConfig};

pub(super) async fn run(session: &Session, args: ServeArgs) -> Result<Exit, CliError> {
    let reach = if args.insecure_lab { Reach::InsecureLab } else { Reach::Loopback };
    let config = match &args.config {
        Some(path) => ServeConfig::load(path).map_err(CliError::usage)?,
        None => ServeConfig::default(),
    };
    let choice = config.broker(reach).map_err(CliError::usage)?;
    let policy = config.policy();
    serve::start_logging();
    let asked_to_end = serve::asked_to_end();
    let data = config.data.map_or_else(|| session.data.clone(), crate::data_dir::DataDir::at);
    let mut coordinator = Coordinator::start(&data, choice, policy).await?;
    let broker = coordinator.broker_address().map_or("external".to_owned(), |a| a.to_string());
    tracing::info!(data = %data.path().display(), %broker, "coordinator serves");
    let ended = tokio::select! {
        // Cancel-safe: both only wait; the loser holds nothing.
        () = asked_to_end => None,
        error = coordinator.failed() => Some(error),
    };
    match ended {
        None => {
            coordinator.stop().await;
            Ok(Exit::Done)
        }
        Some(error) => Err(error.into()),
    }
}
