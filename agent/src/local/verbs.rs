//! Does what root asked: asks the agent, or Docker, prints, and gives the exit code.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use protocol::command::Logs;
use protocol::doctor::Colour;
use tokio::task::LocalSet;

use super::client::{self, AskError};
use super::logs::Here;
use super::{Answer, Request, Wish, render, roots};
use crate::cli::Verb;
use crate::config::Config;
use crate::doctor::{self, Subject};
use crate::engine::docker::Docker;

/// As everywhere: it failed, it was refused, and nobody answers.
const FAILED: u8 = 1;
const REFUSED: u8 = 5;
const UNREACHABLE: u8 = 6;

/// Runs a verb to its end; its exit code.
pub async fn run(verb: Verb, config: &Config, json: bool) -> u8 {
    match verb {
        Verb::Ps => ps(config, json).await,
        Verb::Logs(of) => logs(config, &of).await,
        Verb::Hold(change) => change_hold(config, Wish::Hold(change), json),
        Verb::Undo(change) => change_hold(config, Wish::Undo(change), json),
        Verb::Release(change) => change_hold(config, Wish::Release(change), json),
        Verb::Root => root(config),
        Verb::Doctor => examine(config, json).await,
    }
}

/// From the files, so that it needs no agent.
fn root(config: &Config) -> u8 {
    match roots::held(&config.state_dir, &config.root_file()) {
        Ok(chain) => {
            print!("{}", pretty(&chain));
            0
        }
        Err(error) => failed(&error.to_string(), FAILED),
    }
}

/// Looks by itself, so that it needs no agent.
async fn examine(config: &Config, json: bool) -> u8 {
    let docker = Docker::at(&config.docker);
    let board = (PathBuf::from("/"), doctor::Installed);
    let at = (crate::clock::unix_ms() / 1_000, 0);
    let found = doctor::examine(Subject::of(config), &docker, at, board).await;
    let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = if has_colour { Colour::On } else { Colour::Off };
    let text = if json { pretty(&found) } else { found.to_text(colour) };
    // `pith-agent doctor | head` has what it wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    u8::from(found.has_problem())
}

async fn ps(config: &Config, json: bool) -> u8 {
    let error = match ask(config, Wish::Ps) {
        Ok(Answer::Board(board)) => {
            let text = match json {
                true => pretty(&*board),
                false => render::board(&board, crate::clock::unix_ms() / 1_000),
            };
            print!("{text}");
            return 0;
        }
        Ok(Answer::Done(text) | Answer::Refused(text)) => return failed(&text, REFUSED),
        Err(error) => error,
    };
    eprintln!("pith-agent: {error}");
    if !matches!(error, AskError::NotRunning { .. }) || json {
        return UNREACHABLE;
    }
    // What runs goes on without an agent: Docker knows it.
    if let Ok(here) = Here::look(config).await {
        eprintln!("what Docker has of this board:");
        print!("{}", render::containers(&here.containers));
    }
    UNREACHABLE
}

async fn logs(config: &Config, of: &Logs) -> u8 {
    let shown = async { Here::look(config).await?.logs(of).await };
    match LocalSet::new().run_until(shown).await {
        Ok(()) => 0,
        // `pith-agent logs web | head` has what it wanted.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => failed(&format!("{error:#}"), FAILED),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn change_hold(config: &Config, wish: Wish, json: bool) -> u8 {
    let answer = match ask(config, wish) {
        Ok(answer) => answer,
        Err(error) => return failed(&error.to_string(), UNREACHABLE),
    };
    match answer {
        Answer::Refused(text) => failed(&text, REFUSED),
        done if json => {
            print!("{}", pretty(&done));
            0
        }
        Answer::Done(text) => {
            println!("{text}");
            0
        }
        Answer::Board(_) => failed("the agent answered something else", FAILED),
    }
}

fn ask(config: &Config, wish: Wish) -> Result<Answer, AskError> {
    let user = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    client::ask(&config.agent_socket(), &Request { wish, user })
}

fn failed(text: &str, code: u8) -> u8 {
    eprintln!("pith-agent: {text}");
    code
}

fn pretty(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("plain data serialises");
    format!("{text}\n")
}
