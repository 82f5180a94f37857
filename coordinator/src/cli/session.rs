//! What every verb needs: where the coordinator is, the environment, how to print.

use std::path::PathBuf;

use protocol::id::{EnvironmentName, FleetId, NodeName, ServiceId, ServiceName};
use protocol::succession::{self, Chain};
use serde::Serialize;

use super::{CliError, Output, login};
use crate::client::Client;
use crate::data_dir::{DataDir, Fleet};
use crate::event_loop::at;
use crate::login::{Profile, Profiles};
use crate::render::figures::{harmless, harmless_json};

const DEFAULT_ENVIRONMENT: &str = "default";

/// The common arguments.
#[derive(Debug)]
pub(super) struct Session {
    /// The fleet's folder, named or by default.
    pub(super) data: DataDir,
    pub(super) output: Output,
    is_data_named: bool,
    fleet: Option<String>,
    socket: Option<PathBuf>,
    environment: Option<EnvironmentName>,
}

/// Where the coordinator is that a verb speaks to.
#[derive(Debug)]
pub(super) enum Place {
    /// Where the fleet's folder is.
    Folder,
    /// Behind a socket that the coordinator made for others.
    Socket(PathBuf),
    /// On another machine.
    Remote(Profiles, FleetId),
}

/// What names a place.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) data: Option<PathBuf>,
    pub(super) fleet: Option<String>,
    pub(super) socket: Option<PathBuf>,
}

impl Session {
    pub(super) fn new(
        named: Named,
        environment: Option<EnvironmentName>,
        output: Output,
    ) -> Result<Self, CliError> {
        let Named { data, fleet, socket } = named;
        let is_data_named = data.is_some();
        let path = data.or_else(default_data).ok_or_else(|| {
            CliError::usage(
                "no data folder: HOME is not set; name one with --data DIR or PITH_DATA",
            )
        })?;
        let data = DataDir::at(path);
        Ok(Self { data, output, is_data_named, fleet, socket, environment })
    }

    /// What is named; else the folder, where it holds a fleet; else the one fleet that this person has logged in to.
    pub(super) fn place(&self) -> Result<Place, CliError> {
        if [self.is_data_named, self.fleet.is_some(), self.socket.is_some()]
            .iter()
            .filter(|one| **one)
            .count()
            > 1
        {
            return Err(CliError::usage(
                "several coordinators are named: --data (PITH_DATA), --fleet (PITH_FLEET) and --socket (PITH_SOCKET) exclude \
                 each other",
            ));
        }
        if let Some(socket) = &self.socket {
            return Ok(Place::Socket(socket.clone()));
        }
        let is_here = self.data.holds_fleet() || self.data.socket().exists();
        if self.fleet.is_none() && (self.is_data_named || is_here) {
            return Ok(Place::Folder);
        }
        let profiles = Profiles::of_this_user()?;
        let known = profiles.fleets();
        match chosen(&known, self.fleet.as_deref())? {
            Some(fleet) => Ok(Place::Remote(profiles, fleet.clone())),
            None => Ok(Place::Folder),
        }
    }

    /// The fleet that is named by its whole id, if one is.
    pub(super) fn named_fleet(&self) -> Result<Option<FleetId>, CliError> {
        self.fleet.as_ref().map(|named| named.parse().map_err(CliError::usage)).transpose()
    }

    pub(super) async fn client(&self) -> Result<Client, CliError> {
        match self.place()? {
            Place::Folder => Ok(Client::new(&self.data)?),
            Place::Socket(socket) => Ok(Client::at_socket(&socket)?),
            Place::Remote(profiles, fleet) => {
                let now_s = at().unix_ms / 1000;
                let own = login::renewed(&profiles, &fleet, now_s).await?;
                check_time(&own.profile, now_s)?;
                Ok(Client::operator(&own)?)
            }
        }
    }

    /// Where this person's keys and registries are: the fleet's folder, else that of the login.
    pub(super) fn own_folder(&self) -> Result<DataDir, CliError> {
        Ok(match self.place()? {
            Place::Folder | Place::Socket(_) => self.data.clone(),
            Place::Remote(profiles, fleet) => DataDir::at(profiles.of(&fleet)),
        })
    }

    /// The fleet that releases are signed for: from its folder, else as the coordinator says. Whatever it says, a signature is
    /// made for what the person names, with a key that the person has.
    pub(super) async fn fleet(&self, client: &Client) -> Result<Fleet, CliError> {
        let expected = match self.place()? {
            Place::Folder => return Ok(self.data.open()?),
            Place::Socket(_) => None,
            Place::Remote(_, fleet) => Some(fleet),
        };
        let envelope = client.root_document().await?;
        let root = succession::first(&envelope).map_err(CliError::refused)?.into_inner();
        if let Some(expected) = expected.filter(|expected| *expected != root.fleet) {
            return Err(CliError::refused(format_args!(
                "the coordinator shows the trust root of fleet {}, and the login is of {expected}",
                root.fleet
            )));
        }
        Ok(Fleet { id: root.fleet.clone(), root, chain: Chain::default() })
    }

    /// The fleet's own folder, for what only works there.
    pub(super) fn folder(&self, verb: &str) -> Result<&DataDir, CliError> {
        match self.place()? {
            Place::Folder => Ok(&self.data),
            Place::Socket(_) | Place::Remote(..) => Err(CliError::usage(format_args!(
                "`pith {verb}` works on the fleet's own folder: run it on the coordinator's machine, with --data DIR"
            ))),
        }
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

    /// A service by its name, or one of its instances by its own, with its node.
    pub(super) async fn service_or_instance(
        &self,
        client: &Client,
        named: &str,
    ) -> Result<(ServiceId, Option<(String, NodeName)>), CliError> {
        let environment = self.environment(client).await?;
        let services = client.services(Some(&environment), None).await?.services;
        if services.iter().all(|service| service.name.as_str() != named) {
            for (service, on) in services.iter().flat_map(|s| s.nodes.iter().map(move |on| (s, on)))
            {
                if on.instances.iter().any(|instance| instance.name == named) {
                    let id = ServiceId { environment, name: service.name.clone() };
                    return Ok((id, Some((named.to_owned(), on.node.clone()))));
                }
            }
        }
        let name: ServiceName = named.parse().map_err(CliError::usage)?;
        Ok((ServiceId { environment, name }, None))
    }

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Prints an answer: as JSON, or as `text` writes it.
    pub(super) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.output {
            Output::Json => println!("{}", pretty(value)),
            Output::Text => print!("{}", harmless(&text(value))),
        }
    }

    /// The same for a text that has colours, and takes care itself of what it quotes.
    pub(super) fn print_coloured<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.output {
            Output::Json => println!("{}", pretty(value)),
            Output::Text => print!("{}", text(value)),
        }
    }
}

/// A certificate that is over says nothing when TLS refuses it.
fn check_time(profile: &Profile, now_s: u64) -> Result<(), CliError> {
    const SOON_S: u64 = 14 * 24 * 60 * 60;
    let left = profile.expires_at.saturating_sub(now_s);
    let name = &profile.name;
    if left == 0 {
        return Err(CliError::refused(format_args!(
            "the certificate of {name} is over; ask for an invitation (`pith operator invite {name} --role {}`) and \
             `pith login TOKEN`",
            profile.role
        )));
    }
    if left < SOON_S {
        let days = left / (24 * 60 * 60);
        eprintln!(
            "warning: the certificate of {name} ends in {days} days and could not be renewed; once it is over, only a new \
             invitation helps: `pith operator invite {name}`"
        );
    }
    Ok(())
}

/// The fleet that is meant, by its id or the beginning of it; without a name the only one there is, or none at all.
fn chosen<'a>(known: &'a [FleetId], named: Option<&str>) -> Result<Option<&'a FleetId>, CliError> {
    let is_meant = |fleet: &&FleetId| match named {
        Some(named) => !named.is_empty() && fleet.as_str().starts_with(named),
        None => true,
    };
    let meant: Vec<&FleetId> = known.iter().filter(is_meant).collect();
    match (meant.as_slice(), named) {
        ([one], _) => Ok(Some(*one)),
        ([], None) => Ok(None),
        ([], Some(named)) => Err(CliError::usage(format_args!(
            "no login of a fleet {named}: `pith login TOKEN` makes one; there are: {}",
            list(known)
        ))),
        (several, _) => Err(CliError::usage(format_args!(
            "several fleets are meant ({}); choose one with --fleet or PITH_FLEET, by its id or the beginning of it",
            list(several.iter().copied())
        ))),
    }
}

fn list<'a>(fleets: impl IntoIterator<Item = &'a FleetId>) -> String {
    let fleets: Vec<&str> = fleets.into_iter().map(FleetId::as_str).collect();
    if fleets.is_empty() { "none".to_owned() } else { fleets.join(", ") }
}

pub(super) fn default_environment() -> EnvironmentName {
    DEFAULT_ENVIRONMENT.parse().expect("a valid name")
}

fn pretty(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    harmless_json(&text.expect("answers are plain data with string keys"))
}

/// `$XDG_DATA_HOME/pith`, else `~/.local/share/pith`.
fn default_data() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty());
    Some(base.map(PathBuf::from).or_else(home)?.join("pith"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_meant_by_the_beginning_of_its_id_or_by_being_the_only_one() {
        let known = [[0x1a; 16], [0x1b; 16], [0x2c; 16]].map(FleetId::from_random);
        let refused = |named| chosen(&known, named).unwrap_err().to_string();
        assert_eq!(chosen(&known, Some("1b")).unwrap(), Some(&known[1]));
        assert!(refused(Some("1")).contains("several fleets are meant"));
        assert!(refused(None).contains("--fleet or PITH_FLEET"));
        assert!(refused(Some("3")).contains("no login of a fleet 3"));
        assert!(refused(Some("")).contains(known[2].as_str()));
        assert_eq!(chosen(&known[2..], None).unwrap(), Some(&known[2]));
        assert_eq!(chosen(&[], None).unwrap(), None);
    }
}
