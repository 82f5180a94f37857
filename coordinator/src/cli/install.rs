//! `pith node install`: what is said and asked on the way; `crate::install` decides and does.

mod replacing;
mod waiting;

use std::io::IsTerminal as _;

use protocol::id::{NodeId, NodeName};
use protocol::join::Token;
use serde::Serialize;

use super::arguments::{BoardArgs, InstallArgs};
use super::node::labels;
use super::session::Session;
use super::{CliError, Exit};
use crate::client::Client;
use crate::event_loop::at;
use crate::install::board::{Board, BoardError, Reached};
use crate::install::facts::{Facts, Root};
use crate::install::obstacle::Obstacle;
use crate::install::package::{self, NoPackage, Package};
use crate::install::plan::{self, Act, Known, Plan, Wish};
use crate::install::ssh::{self, Ssh, SshError, Target};
use crate::passphrase;
use crate::state::requests::NewToken;
use crate::state::shown::TokenShown;

pub(super) use replacing::run as replace;

/// A token that is used at once.
const TOKEN_MS: u64 = 30 * 60 * 1000;

/// What was done, for scripts.
#[derive(Debug, Serialize)]
pub(super) struct Installed {
    /// Its name in the fleet.
    pub(super) name: Option<NodeName>,
    /// Who it is; none: nobody has said it.
    pub(super) id: Option<NodeId>,
    /// As `pith node ls` has it.
    pub(super) status: String,
    /// The agent's version.
    pub(super) agent_version: String,
    /// What the board is.
    pub(super) found: Vec<String>,
    /// What was done.
    pub(super) done: Vec<String>,
    /// What was so before.
    pub(super) already: Vec<String>,
    /// What may go wrong later.
    pub(super) warnings: Vec<String>,
    /// Asked for and not done.
    pub(super) undone: Vec<String>,
}

/// A board that one is logged in to, and what it is.
pub(super) struct Visit<'a> {
    pub(super) session: &'a Session,
    pub(super) client: &'a Client,
    pub(super) board: Board,
    pub(super) facts: Facts,
    /// Needed only where it is installed.
    pub(super) package: Result<Package, NoPackage>,
}

pub(super) async fn run(
    session: &Session,
    client: &Client,
    args: InstallArgs,
) -> Result<Exit, CliError> {
    let labels = labels(&args.labels)?;
    let known = known(client).await?;
    let visit = Visit::begin(session, client, args.target, &args.board).await?;
    let wish = Wish {
        name: args.name,
        allow: args.board.allow.clone(),
        tune_docker: args.board.tune_docker,
        upgrade: args.upgrade,
    };
    let mut plan = plan::plan(&visit.facts, &wish, &known, visit.package.as_ref().ok())?;
    let is_named =
        wish.name.is_some() || !labels.is_empty() || session.named_environment().is_some();
    if visit.facts.membership.is_some() && is_named {
        let text =
            "it has joined already: name, labels and environment stay as its token fixed them";
        plan.warnings.push(text.to_owned());
    }
    let token = NewToken {
        ttl_ms: TOKEN_MS,
        labels,
        environment: session.named_environment().cloned(),
        approve: true,
        addresses: args.board.address.clone(),
    };
    let make_token = async || Ok(client.token(&token).await?);
    visit.carry_out(plan, &args.board, make_token).await
}

/// What the coordinator knows that a plan needs.
async fn known(client: &Client) -> Result<Known, CliError> {
    let fleet = client.fleet().await?.fleet;
    let shown = client.nodes(None).await?;
    let is_out = |status: &str| status == "revoked";
    let members = shown.lobby.iter().filter(|member| !is_out(&member.status));
    let heard =
        shown.nodes.iter().filter(|node| !is_out(&node.status)).map(|node| node.name.clone());
    let names = heard.chain(members.filter_map(|member| member.name.parse().ok())).collect();
    let revoked =
        shown.nodes.iter().filter(|node| is_out(&node.status)).map(|node| node.id.clone());
    let unheard =
        shown.lobby.iter().filter(|member| is_out(&member.status)).map(|one| one.id.clone());
    Ok(Known {
        fleet,
        names,
        revoked: revoked.chain(unheard).collect(),
        now_s: at().unix_ms / 1000,
    })
}

impl<'a> Visit<'a> {
    /// Logs in, looks, and finds the package.
    pub(super) async fn begin(
        session: &'a Session,
        client: &'a Client,
        target: Target,
        args: &BoardArgs,
    ) -> Result<Self, CliError> {
        // What can be wrong here is said before anybody logs in.
        let named = args.package.as_deref().map(package::named).transpose()?;
        let words = ssh::words(&args.ssh).map_err(CliError::usage)?;
        say(session, &format!("looking at {target}"));
        let is_terminal = std::io::stdin().is_terminal();
        let mut board = Board::new(Ssh::open(words, target.clone(), is_terminal).await?);
        let mut facts = board.look().await?;
        let architecture = plan::architecture(&facts)?.to_owned();
        if facts.root == Root::SudoPassword {
            board.elevate(password(&facts.user, &target, is_terminal)?).await?;
            facts = board.look().await?;
        }
        for line in plan::found(&facts) {
            say(session, &format!("  {line}"));
        }
        let package = match named {
            Some(package) => Ok(package),
            None => {
                let (program, here) = (std::env::current_exe().ok(), std::env::current_dir().ok());
                package::find(&architecture, &package::folders(program.as_deref(), here.as_deref()))
            }
        };
        Ok(Self { session, client, board, facts, package })
    }

    /// Does what was planned, and waits until the coordinator sees the node ready.
    pub(super) async fn carry_out(
        self,
        plan: Plan,
        args: &BoardArgs,
        make_token: impl AsyncFn() -> Result<TokenShown, CliError>,
    ) -> Result<Exit, CliError> {
        if plan.acts.iter().any(|(act, _)| matches!(act, Act::Install { .. })) {
            let _ = self.package()?;
        }
        for warning in &plan.warnings {
            eprintln!("warning: {warning}");
        }
        for line in &plan.already {
            say(self.session, &format!("already so: {line}"));
        }
        let (mut node, mut done, mut token) = (None, Vec::new(), None);
        if let Some(membership) = &self.facts.membership {
            node = Some(membership.node.clone());
        }
        if plan.acts.iter().any(|(act, _)| matches!(act, Act::Join(_))) {
            token = Some(make_token().await?);
        }
        for (act, why) in &plan.acts {
            let what = self.heading(act)?;
            say(self.session, &format!("{what}: {why}"));
            if let Some(id) = self.act(act, &mut token).await? {
                node = Some(id);
            }
            done.push(what);
        }
        let begun = waiting::Begun {
            installed: done,
            is_upgrade: plan.acts.iter().all(|(act, _)| matches!(act, Act::Install { .. })),
        };
        self.finish(plan, begun, node, args).await
    }

    async fn act(
        &self,
        act: &Act,
        token: &mut Option<TokenShown>,
    ) -> Result<Option<NodeId>, CliError> {
        match act {
            Act::Reach => {
                let Some(token) = token else { return Ok(None) };
                token.token = self.reach(token).await?;
            }
            Act::Install { with_docker } => {
                let architecture = plan::architecture(&self.facts)?;
                self.board.install(&self.package()?.path, architecture, *with_docker).await?;
            }
            Act::Policy(text) => self.board.write_policy(text).await?,
            Act::TuneDocker(text) => self.board.tune_docker(text).await?,
            Act::Join(name) => {
                let Some(token) = token else { return Ok(None) };
                let node = self.board.join(name, &token.token).await?;
                // It had joined in the meantime.
                let looked =
                    async || Ok::<_, BoardError>(self.board.look_again().await?.membership);
                return Ok(match node {
                    Some(node) => Some(node),
                    None => looked().await?.map(|membership| membership.node),
                });
            }
            Act::Enable => self.board.enable().await?,
        }
        Ok(None)
    }

    fn package(&self) -> Result<&Package, CliError> {
        self.package.as_ref().map_err(|error| error.clone().into())
    }

    fn heading(&self, act: &Act) -> Result<String, CliError> {
        Ok(match act {
            Act::Reach => "asking the board for the coordinator".to_owned(),
            Act::Install { .. } => format!("installing {}", self.package()?.path.display()),
            Act::Policy(_) => "writing /etc/pith/policy.toml".to_owned(),
            Act::TuneDocker(_) => "writing /etc/docker/daemon.json".to_owned(),
            Act::Join(name) => format!("joining as {name}"),
            Act::Enable => "starting pith-proxy and pith-agent".to_owned(),
        })
    }

    /// The token with the addresses that the board reaches first.
    async fn reach(&self, token: &TokenShown) -> Result<String, CliError> {
        let reached = self.board.reach(&token.addresses).await?;
        for Reached { address, why_not } in &reached {
            let outcome = why_not.as_deref().unwrap_or("reached");
            say(self.session, &format!("  coordinator at {address}: {outcome}"));
        }
        // Names that only the agent resolves are proved by the joining itself.
        let is_open = |one: &&Reached| one.why_not.is_none() || is_multicast(&one.address);
        let (up, down): (Vec<&Reached>, Vec<&Reached>) = reached.iter().partition(is_open);
        if up.is_empty() {
            return Err(unreached(&down));
        }
        let mut read: Token = token.token.parse().map_err(CliError::failed)?;
        read.addresses = up.iter().chain(&down).map(|one| one.address.clone()).collect();
        Ok(read.encode())
    }
}

fn is_multicast(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    mqtt::needs_multicast_dns(host)
}

fn unreached(down: &[&Reached]) -> CliError {
    let each =
        |one: &&Reached| format!("{}: {}", one.address, one.why_not.as_deref().unwrap_or_default());
    let lines: Vec<String> = down.iter().map(each).collect();
    CliError::unreachable(format_args!(
        "the board does not reach the coordinator, and nothing was changed on it:\n  {}\nsay where it is reached from there: --address HOST:PORT \
             (as in `pith node token --address`), or open that port",
        lines.join("\n  ")
    ))
}

/// Beside the one document on stdout, where there is one.
pub(super) fn say(session: &Session, line: &str) {
    if session.is_json() {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
}

fn password(user: &str, target: &Target, is_terminal: bool) -> Result<String, CliError> {
    let mend = format!(
        "let {user} use sudo without one on the board (`{user} ALL=(ALL) NOPASSWD: ALL` by `visudo -f /etc/sudoers.d/pith`), or log in as root"
    );
    if !is_terminal {
        return Err(CliError::refused(format_args!(
            "sudo on the board asks {user} for a password, and there is no terminal here to type it at: {mend}"
        )));
    }
    // Not by `ssh -t`: over a terminal neither the package nor the token could travel beside it.
    passphrase::typed("sudo on the board", &format!("password of {user} for sudo on {target}: "))
        .map_err(CliError::failed)
}

impl From<SshError> for CliError {
    fn from(error: SshError) -> Self {
        match error {
            SshError::KeyRefused { .. } | SshError::HostKey { .. } => Self::refused(error),
            SshError::NoProgram { .. }
            | SshError::Unreachable { .. }
            | SshError::Broken { .. }
            | SshError::TimedOut { .. }
            | SshError::Here { .. } => Self::failed(error),
        }
    }
}

impl From<BoardError> for CliError {
    fn from(error: BoardError) -> Self {
        match error {
            BoardError::Ssh(error) => error.into(),
            BoardError::Package { .. } => Self::usage(error),
            BoardError::Sudo(_) | BoardError::NotJoined { code: 5, .. } => Self::refused(error),
            BoardError::NotJoined { code: 6, .. } => Self::unreachable(error),
            BoardError::NotRead(_) | BoardError::Failed { .. } | BoardError::NotJoined { .. } => {
                Self::failed(error)
            }
        }
    }
}

impl From<NoPackage> for CliError {
    fn from(error: NoPackage) -> Self {
        Self::usage(error)
    }
}

impl From<Obstacle> for CliError {
    fn from(error: Obstacle) -> Self {
        match error {
            Obstacle::OtherFleet { .. } | Obstacle::Revoked(_) => Self::refused(error),
            Obstacle::WrongProcessor { .. } | Obstacle::WrongVersion { .. } | Obstacle::Name(_) => {
                Self::usage(error)
            }
            Obstacle::NoSudo { .. }
            | Obstacle::Processor { .. }
            | Obstacle::NotDebian(_)
            | Obstacle::NoSystemd
            | Obstacle::Space { .. }
            | Obstacle::Newer(_)
            | Obstacle::NothingToUpgrade
            | Obstacle::NoDocker
            | Obstacle::DockerFromElsewhere(_)
            | Obstacle::Daemon(_) => Self::failed(error),
        }
    }
}
