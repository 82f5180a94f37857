//! `pith-agent`: reads its arguments and runs the agent or the proxy.

use std::io::IsTerminal as _;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::str::FromStr as _;

use agent::cli::{self, Command};
use agent::config::Config;
use agent::join::{self, Existing, Pace, Wish};
use agent::launch::{self, Unit};
use agent::local::verbs;
use agent::update::self_test;
use agent::{run, tls, uninstall, version};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// As everywhere: the arguments or the configuration are off.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("pith-agent: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match command {
        Command::Version => {
            println!("pith-agent {}", version::text());
            ExitCode::SUCCESS
        }
        Command::Help => {
            print!("{}", cli::HELP);
            ExitCode::SUCCESS
        }
        Command::Run { config } => with_config(&config, |read| {
            serve(async { run::agent(read, &config, terminated()?).await })
        }),
        Command::Local { config, verb, json } => {
            answered(&config, async |config| verbs::run(verb, &config, json).await)
        }
        Command::Uninstall { config, wish } => {
            answered(&config, async |config| uninstall::run(config, &wish).await)
        }
        Command::Join { config, token, name, existing } => join(&config, &token, name, existing),
        Command::Proxy { config, take_over } => with_config(&config, |read| {
            serve(async { run::proxy(read, &config, take_over, terminated()?).await })
        }),
        Command::RenewProxy { config } => with_config(&config, |config| {
            serve(async { Ok(proxy::Client::new(config.proxy_socket()).renew().await?) })
        }),
        Command::Launch { config, unit, takes_over, is_apart } => {
            launch(unit, &config, takes_over, is_apart)
        }
        Command::SelfTest { config } => self_test(&config),
    }
}

/// Becomes what the board runs, or starts it in a process that is nobody's child once this one has ended.
fn launch(unit: Unit, config: &Path, takes_over: bool, is_apart: bool) -> ExitCode {
    let rest = if takes_over { vec!["--take-over".into()] } else { Vec::new() };
    let error = if is_apart {
        match launch::apart(unit, config, &rest) {
            Ok(pid) => {
                println!("{pid}");
                return ExitCode::SUCCESS;
            }
            Err(error) => error,
        }
    } else {
        launch::launch(unit, config, &rest)
    };
    eprintln!("pith-agent: nothing can be started: {error}");
    ExitCode::FAILURE
}

fn self_test(config: &Path) -> ExitCode {
    let said = self_test::run(config).and_then(|said| Ok(serde_json::to_string(&said)?));
    match said {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pith-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Lines for a person, and an exit code that says what kind of no it was.
fn join(path: &Path, token: &str, name: Option<String>, existing: Existing) -> ExitCode {
    let failed = |error: &dyn std::fmt::Display, code: u8| {
        eprintln!("pith-agent: {error}");
        ExitCode::from(code)
    };
    let wish = Config::load(path).map_err(|e| e.to_string()).and_then(|config| {
        let name = name.unwrap_or_else(|| config.node_name().to_string());
        let name = name.parse().map_err(|error| format!("--name: {error}"))?;
        let environment = config.environment.is_some().then(|| config.environment());
        let labels = config.labels.clone();
        Ok((config, Wish { name, environment, labels, existing }))
    });
    let (config, wish) = match wish {
        Ok(wish) => wish,
        Err(problem) => return failed(&problem, USAGE),
    };
    let mut line = String::new();
    let token = match token {
        "-" => match std::io::stdin().read_line(&mut line) {
            Ok(_) => line.as_str(),
            Err(error) => return failed(&error, USAGE),
        },
        token => token,
    };
    let joining = async {
        let floor = tls::first_floor();
        let say = |text: &str| println!("{text}");
        join::join(&config.state_dir, token, &wish, Pace::default(), &floor, say).await
    };
    match finish(joining) {
        Ok(Ok(_)) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(&error, error.exit_code()),
        Err(error) => failed(&error, 1),
    }
}

/// What root asks, until it has its answer and exit code.
fn answered(path: &Path, answer: impl AsyncFnOnce(Config) -> u8) -> ExitCode {
    let config = match tls::config(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pith-agent: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match finish(answer(config)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("pith-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn with_config(path: &Path, serve: impl FnOnce(Config) -> anyhow::Result<()>) -> ExitCode {
    let config = match tls::config(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pith-agent: {error}");
            return ExitCode::from(USAGE);
        }
    };
    log();
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pith-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    finish(work)?
}

/// What comes of some work.
fn finish<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let mut answer = None;
    drive(Box::pin(async { answer = Some(work.await) }))?;
    Ok(answer.expect("it was driven to its end"))
}

/// On one thread: a board has better uses for the others. Boxed, so that the program has one runtime's loop and not one per verb.
fn drive(work: Pin<Box<dyn Future<Output = ()> + '_>>) -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work);
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        // Both arms are cancel-safe: a signal that was not taken stays pending.
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

fn log() {
    let wanted = std::env::var("PITH_LOG").unwrap_or_default();
    let targets = Targets::from_str(&wanted)
        .ok()
        .filter(|_| !wanted.is_empty())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    tracing_subscriber::registry().with(targets).with(to_stderr).init();
}
