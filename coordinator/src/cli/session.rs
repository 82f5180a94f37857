//! What every verb needs: the folder, the environment, how to print.

use std::path::PathBuf;

use protocol::id::{EnvironmentName, ServiceId, ServiceName};
use serde::Serialize;

use super::{CliError, Output};
use crate::client::Client;
use crate::data_dir::DataDir;

const DEFAULT_ENVIRONMENT: &str = "default";

/// The common arguments.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) data: DataDir,
    pub(super) output: Output,
    environment: Option<EnvironmentName>,
}

impl Session {
    pub(super) fn new(
        data: Option<PathBuf>,
        environment: Option<EnvironmentName>,
        output: Output,
    ) -> Result<Self, CliError> {
        let path = data.or_else(default_data).ok_or_else(|| {
            CliError::usage(
                "no data folder: HOME is not set; name one with --data DIR or PITH_DATA",
            )
        })?;
        Ok(Self { data: DataDir::at(path), output, environment })
    }

    pub(super) fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.data)?)
    }

    /// The environment named, if one was.
    pub(super) fn named_environment(&self) -> Option<&EnvironmentName> {
        self.environment.as_ref()
    }

    /// The environment named, else the only one there is.
    pub(super) async fn environment(&self, client: &Client) -> Result<EnvironmentName, CliError> {
        if let Some(environment) = &self.environment {
            return Ok(environment.clone());
        }
        let known = client.fleet().await?.environments;
        let mut names = known.iter();
        match (names.next(), names.next()) {
            (None, _) => Ok(default_environment()),
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => {
                let names: Vec<&str> = known.iter().map(EnvironmentName::as_str).collect();
                let names = names.join(", ");
                Err(CliError::usage(format_args!(
                    "there are several environments ({names}); choose one with --env or PITH_ENV"
                )))
            }
        }
    }

    pub(super) async fn service(
        &self,
        client: &Client,
        name: ServiceName,
    ) -> Result<ServiceId, CliError> {
        Ok(ServiceId { environment: self.environment(client).await?, name })
    }

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Prints an answer: as JSON, or as `text` writes it.
    pub(super) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.output {
            Output::Json => println!("{}", pretty(value)),
            Output::Text => print!("{}", text(value)),
        }
    }
}

pub(super) fn default_environment() -> EnvironmentName {
    DEFAULT_ENVIRONMENT.parse().expect("a valid name")
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("answers are plain data with string keys")
}

/// `$XDG_DATA_HOME/pith`, else `~/.local/share/pith`.
fn default_data() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty());
    Some(base.map(PathBuf::from).or_else(home)?.join("pith"))
}
