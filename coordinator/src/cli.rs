//! The command line: what can be written, and which verb answers. Each verb is a file below; none reads arguments itself.

mod agent;
mod archives;
mod arguments;
mod audit;
mod backup;
mod broker;
mod coordinator;
mod debug;
mod deploy;
mod dev;
mod events;
mod exec;
mod exit;
mod fleet;
mod follow;
mod init;
mod install;
mod keys;
mod login;
mod logs;
mod node;
mod notify;
mod operator;
mod page;
mod plan;
mod port_forward;
mod promote;
mod ps;
mod push;
mod release;
mod restart;
mod restore;
mod rm;
mod rollout;
mod run_child;
mod scale;
mod secret;
mod serve;
mod session;
mod signals;
mod signing;
mod sources;
mod together;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::id::{EnvironmentName, ServiceName};
use protocol::units::Millis;

use arguments::{
    AgentVerb, AuditArgs, BackupArgs, BrokerVerb, CoordinatorVerb, DebugVerb, DevArgs, EventsArgs,
    ExecArgs, FleetVerb, InitArgs, KeysVerb, LoginArgs, LogsArgs, NodeVerb, NotifyVerb,
    OperatorVerb, PortForwardArgs, PushArgs, ReleaseVerb, RestartArgs, RestoreArgs, RmArgs,
    ScaleArgs, SecretVerb, ServeArgs, SignArgs, TokenArgs, TopArgs,
};
pub use exit::{CliError, Exit};
use session::{Named, Session};

/// Runs containers on a fleet of small boards.
#[derive(Debug, Parser)]
#[command(name = "pith", version, about, max_term_width = 100)]
struct Arguments {
    /// The fleet's folder.
    #[arg(long, global = true, env = "PITH_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// A fleet that `pith login` was for, by its id or the beginning of it.
    #[arg(long, global = true, env = "PITH_FLEET", value_name = "ID")]
    fleet: Option<String>,
    /// A coordinator's socket for members of its [api] group.
    #[arg(long, global = true, env = "PITH_SOCKET", value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The environment; without it, the only one there is.
    #[arg(long, global = true, env = "PITH_ENV", value_name = "NAME")]
    env: Option<EnvironmentName>,
    /// How answers are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For scripts: one document on stdout.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a fleet: its keys and trust root.
    Init(InitArgs),
    /// Run the coordinator.
    Serve(ServeArgs),
    /// Run a whole fleet on this machine's Docker, in the foreground.
    Dev(DevArgs),
    /// Roll out a service file, a folder of them, or another image of a deployed service.
    Deploy(DeployArgs),
    /// Show what a deploy would change: exit 0 nothing, 10 something.
    Plan(TargetArgs),
    /// Give the coordinator an image, for nodes without a registry: prints what to put into the service file.
    Push(PushArgs),
    /// Roll the very release that stands in one environment out in another.
    Promote(PromoteArgs),
    /// Look at rollouts, steer them, go back.
    Rollout {
        #[command(subcommand)]
        verb: RolloutVerb,
    },
    /// Retire releases that must not run any more.
    Release {
        #[command(subcommand)]
        verb: ReleaseVerb,
    },
    /// List services and their instances; of one service, what ran on each node before, and why it ended.
    Ps {
        /// One service, with its last revisions under each node.
        service: Option<ServiceName>,
    },
    /// Watch the fleet: nodes, services, and what each rollout in flight waits for.
    ///
    /// Full screen on a terminal; `?` there lists the keys. Elsewhere, and with --once, one frame as plain text; with -o json one
    /// document.
    Top(TopArgs),
    /// Show what the instances of a service have written, from all nodes that run it.
    ///
    /// Lines come in the order in which nodes tell them, each with the name of its instance. What runs is shown; where
    /// nothing runs, what ended last. Nodes that do not answer are named on stderr.
    Logs(LogsArgs),
    /// Run a command inside an instance, where the node's policy allows it (`exec = true` in its policy.toml).
    ///
    /// Exits with the command's code, 5 where the policy does not allow it. No shell reads the words. Without -i it has no input; with -i
    /// what comes on standard input is its own (`pith exec -i db -- psql < dump.sql`); with -it it runs on this terminal, which then
    /// obeys it, and Ctrl-C is its own. Without -t, Ctrl-C stops listening; a command that reads no input goes on to its end.
    Exec(ExecArgs),
    /// Reach ports of an instance from this machine, published or not, where the node's policy allows it (`exec = true`).
    ///
    /// Listens here until Ctrl-C, and opens a connection inside the instance for each that comes: through the coordinator, without a way
    /// of its own to the board. After a rollout the next connection is to the new instance. TCP, eight connections at once to a node and
    /// some 1.6 MB a second each: for looking at something, not for serving it.
    PortForward(PortForwardArgs),
    /// Look at nodes, let them in and out.
    Node {
        #[command(subcommand)]
        verb: NodeVerb,
    },
    /// Mend a fleet whose coordinator was set back.
    Fleet {
        #[command(subcommand)]
        verb: FleetVerb,
    },
    /// Versions of the agent: sign them, bring boards to one.
    Agent {
        #[command(subcommand)]
        verb: AgentVerb,
    },
    /// Move the coordinator: tell nodes where it is reached.
    Coordinator {
        #[command(subcommand)]
        verb: CoordinatorVerb,
    },
    /// Who may sign what: look, make keys, change the trust root.
    Keys {
        #[command(subcommand)]
        verb: KeysVerb,
    },
    /// Who may use this coordinator from afar.
    Operator {
        #[command(subcommand)]
        verb: OperatorVerb,
    },
    /// Use a coordinator on another machine, with an invitation from there.
    Login(LoginArgs),
    /// Give the certificate of a login back, and forget it here.
    Logout,
    /// Show who has asked for what, and what became of it.
    Audit(AuditArgs),
    /// Passwords and keys for services: sealed here, opened on the nodes alone.
    Secret {
        #[command(subcommand)]
        verb: SecretVerb,
    },
    /// Who is told what happens ([[notify]] in coordinator.toml).
    Notify {
        #[command(subcommand)]
        verb: NotifyVerb,
    },
    /// What a bug report needs.
    Debug {
        #[command(subcommand)]
        verb: DebugVerb,
    },
    /// Write the configuration of a broker that is not the coordinator's own.
    Broker {
        #[command(subcommand)]
        verb: BrokerVerb,
    },
    /// Save what a coordinator needs to come back, in one file that each root key of the fleet opens alone.
    ///
    /// State, CA, director's key and registries; no root, release or agent-release key. `pith serve` makes one every
    /// night at 02:00 UTC, unless coordinator.toml says otherwise.
    Backup(BackupArgs),
    /// Bring a coordinator back from a backup, into an empty folder (--data).
    Restore(RestoreArgs),
    /// Start the instances of a service on one node anew, one after another as its rollout policy says.
    ///
    /// On all nodes: `pith rollout restart`.
    Restart(RestartArgs),
    /// Set how many instances of a service run, until --reset.
    Scale(ScaleArgs),
    /// Remove services from every node, what depends on others first; named volumes stay.
    Rm(RmArgs),
    /// Show what happened.
    Events(EventsArgs),
    /// Look at the fleet in a browser, and steer rollouts there.
    ///
    /// Serves the page on 127.0.0.1 of this machine until Ctrl-C, prints its address and opens it where there is a display. It asks the
    /// coordinator as `pith` does, with your socket or login and no more than your role; the address is for you alone.
    Page(arguments::PageArgs),
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one per verb, into a folder.
    Man {
        /// Made where it is missing.
        folder: PathBuf,
    },
    /// Runs a program that dies with its parent.
    #[command(hide = true)]
    RunChild {
        /// Who must still be the parent.
        #[arg(long)]
        parent: i32,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// A service's name; a file is a common slip.
fn deployed(text: &str) -> Result<ServiceName, String> {
    if text.ends_with(".toml") || text.contains('/') {
        return Err(format!("a service's name was expected; for a service file: -f {text}"));
    }
    text.parse().map_err(|error: protocol::id::InvalidId| error.to_string())
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// A deployed service, to take its stored file.
    #[arg(value_name = "SERVICE", conflicts_with = "file", required_unless_present = "file", value_parser = deployed)]
    service: Option<ServiceName>,
    /// A service file or a folder of them; may stand several times.
    #[arg(short, long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// The image, instead of the file's.
    #[arg(long, value_name = "REF")]
    image: Option<String>,
}

#[derive(Debug, Args)]
struct DeployArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only where this is the service's newest revision: nobody was faster.
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
struct PromoteArgs {
    /// Which service.
    service: ServiceName,
    /// Where it stands.
    #[arg(long, value_name = "ENV")]
    from: EnvironmentName,
    /// Where it is to run.
    #[arg(long, value_name = "ENV")]
    to: EnvironmentName,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Whether and how long a verb waits.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitArgs {
    /// Do not wait for the end.
    #[arg(long)]
    detach: bool,
    /// Wait for the end; the default.
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Wait at most this long, such as 90s or 5m; it goes on after that.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Millis>,
}

#[derive(Debug, Subcommand)]
enum RolloutVerb {
    /// Show where a rollout stands.
    Status {
        /// Of which service.
        service: ServiceName,
        /// Of this revision; without it, the newest.
        #[arg(long)]
        revision: Option<u64>,
        /// Follow it to its end.
        #[arg(short, long)]
        watch: bool,
        /// Follow it at most this long.
        #[arg(long, value_name = "TIME", requires = "watch")]
        timeout: Option<Millis>,
    },
    /// List revisions, or show one in full.
    History {
        /// Of which service.
        service: ServiceName,
        /// This one, with everything it says.
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Show what two revisions say differently.
    Diff {
        /// Of which service.
        service: ServiceName,
        /// From this revision; without it, the one before the newest.
        from: Option<u64>,
        /// To this one; without it, the newest.
        to: Option<u64>,
    },
    /// Hold a rollout: what is up stays up, nothing more is replaced.
    Pause {
        /// Of which service.
        service: ServiceName,
    },
    /// Let what was held go on.
    Resume {
        /// Of which service.
        service: ServiceName,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Switch to the green set, or let a canary or the next batch of nodes go on.
    Promote {
        /// Of which service.
        service: ServiceName,
        /// Past all steps of a canary.
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// End a rollout: every node goes back to the release before.
    Abort {
        /// Of which service.
        service: ServiceName,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Start every instance anew, as the rollout policy says.
    Restart {
        /// Of which service.
        service: ServiceName,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        cause: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Go back to an earlier release: the one before, never one that failed.
    Undo {
        /// Of which service.
        service: ServiceName,
        /// To the release of this revision.
        #[arg(long, value_name = "N")]
        to_revision: Option<u64>,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        cause: Option<String>,
        /// Only where this is the service's newest revision: nobody was faster.
        #[arg(long, value_name = "N")]
        if_revision: Option<u64>,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// Parses the arguments, runs the verb and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // Help and version are answers, not mistakes.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return exit.into();
        }
    };
    match exit::run(async move { dispatch(arguments).await }) {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit.into()
        }
    }
}

async fn dispatch(arguments: Arguments) -> Result<Exit, CliError> {
    let Arguments { data, fleet, socket, env, output, verb } = arguments;
    let session = Session::new(Named { data, fleet, socket }, env, output)?;
    match verb {
        Verb::Init(args) => init::run(&session, args),
        Verb::Serve(args) => serve::run(&session, args).await,
        Verb::Dev(args) => dev::run(&session, args).await,
        Verb::Deploy(args) => deploy::run(&session, args).await,
        Verb::Plan(target) => plan::run(&session, target).await,
        Verb::Promote(args) => promote::run(&session, args).await,
        Verb::Rollout { verb } => rollout::run(&session, verb).await,
        Verb::Release { verb } => release::run(&session, verb).await,
        Verb::Keys { verb } => keys::run(&session, verb).await,
        Verb::Agent { verb } => agent::run(&session, verb).await,
        Verb::Coordinator { verb } => coordinator::run(&session, verb).await,
        Verb::Fleet { verb } => fleet::run(&session, verb).await,
        Verb::Ps { service } => ps::run(&session, service).await,
        Verb::Top(args) => top::run(&session, args).await,
        Verb::Logs(args) => logs::run(&session, args).await,
        Verb::Exec(args) => exec::run(&session, args).await,
        Verb::PortForward(args) => port_forward::run(&session, args).await,
        Verb::Node { verb } => node::run(&session, verb).await,
        Verb::Operator { verb } => operator::run(&session, verb).await,
        Verb::Login(args) => login::run(&session, args).await,
        Verb::Logout => login::out(&session).await,
        Verb::Audit(args) => audit::run(&session, args).await,
        Verb::Secret { verb } => secret::run(&session, verb).await,
        Verb::Notify { verb } => notify::run(&session, verb).await,
        Verb::Debug { verb } => debug::run(&session, verb).await,
        Verb::Broker { verb } => broker::run(&session, verb).await,
        Verb::Backup(args) => backup::run(&session, args).await,
        Verb::Restore(args) => restore::run(&session, &args),
        Verb::Push(args) => push::run(&session, args).await,
        Verb::Restart(args) => restart::run(&session, args).await,
        Verb::Scale(args) => scale::run(&session, args).await,
        Verb::Rm(args) => rm::run(&session, args).await,
        Verb::Events(args) => events::run(&session, args).await,
        Verb::Page(args) => page::run(&session, args).await,
        Verb::Completions { shell } => Ok(arguments::printed::completions(shell)),
        Verb::Man { folder } => arguments::printed::manual(&folder),
        Verb::RunChild { parent, command } => Err(run_child::run(parent, &command)),
    }
}

#[cfg(test)]
type Mistake = clap::Error;
#[cfg(test)]
mod tests;
