//! `pith serve`

use super::session::Session;
use super::{CliError, Exit, ServeArgs};
use crate::backup::nightly;
use crate::client::Client;
use crate::data_dir::DataDir;
use crate::examining;
use crate::local::Coordinator;
use crate::notify::Notifier;
use crate::serve::{self, ServeConfig};
use crate::state::notices::NoticeKind;
use crate::watchdog;

pub(super) async fn run(session: &Session, args: ServeArgs) -> Result<Exit, CliError> {
    let config = match &args.config {
        Some(path) => ServeConfig::load(path).map_err(CliError::usage)?,
        None => ServeConfig::default(),
    };
    let choice = config.broker().map_err(CliError::usage)?;
    let (policy, settings) = (config.policy(), config.api().map_err(CliError::usage)?);
    let (targets, heartbeat) = config.notify().map_err(CliError::usage)?;
    serve::start_logging();
    let asked_to_end = serve::asked_to_end();
    let (is_backed_up, backups) = (config.is_backed_up(), config.backups());
    let data = config.data.map_or_else(|| session.data.clone(), DataDir::at).with_backups(backups);
    let mut coordinator = Coordinator::start_with(&data, choice, policy, settings).await?;
    let port = coordinator.address().map_or("none".to_owned(), |a| a.to_string());
    tracing::info!(data = %data.path().display(), %port, "coordinator serves");
    let is_examined = targets.iter().any(|target| target.wants_kind(NoticeKind::DoctorFinding));
    let notices = coordinator.take_notices();
    let told = (coordinator.fleet(), coordinator.ca().fleet());
    let _notifier = Notifier::start(targets, heartbeat, notices, told).map_err(CliError::failed)?;
    let nightly = is_backed_up.then(|| {
        let (fleet, id) = (coordinator.fleet().clone(), coordinator.ca().fleet().clone());
        tokio::spawn(nightly::run(fleet, data.clone(), id))
    });
    let examining = match is_examined {
        true => {
            let client = Client::new(&data).map_err(CliError::failed)?;
            let fleet = coordinator.fleet().clone();
            Some(tokio::spawn(examining::daily(fleet, client, data.clone())))
        }
        false => None,
    };
    let watching = tokio::spawn(watchdog::run(coordinator.fleet().clone()));
    let ended = tokio::select! {
        // Cancel-safe: both only wait; the loser holds nothing.
        () = asked_to_end => None,
        error = coordinator.failed() => Some(error),
    };
    watching.abort();
    for one in [nightly, examining].into_iter().flatten() {
        one.abort();
    }
    match ended {
        None => {
            coordinator.stop().await;
            Ok(Exit::Done)
        }
        Some(error) => Err(error.into()),
    }
}
