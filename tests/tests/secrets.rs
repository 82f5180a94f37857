//! Secrets on real Docker: sealed by the command line, opened on the board alone (A15), there again without a network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tests::boards::Boards;
use tests::docker::{self, docker};
use tests::fleet::Outcome;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::until_true;

const SOON: Duration = Duration::from_secs(60);
/// Nobody writes it by chance.
const FIRST: &str = "correct-horse-first-7f3a91";
const SECOND: &str = "battery-staple-second-c20d5e";
const OF_STAGING: &str = "another-one-of-staging-99b1";

/// `pith secret …` with the value on stdin.
fn secret(boards: &Boards, args: &[&str], value: &str) -> Outcome {
    let mut command = boards.command(&[&["secret"], args].concat());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    Outcome::of(&child.wait_with_output().unwrap())
}

fn deploy(boards: &Boards, text: &str) -> Outcome {
    let file = boards.path("service.toml");
    fs::write(&file, text).unwrap();
    boards.pith(&["deploy", "-f", &file.display().to_string()])
}

/// `sha256 mode uid` of the secret, as the application on board `k` finds it.
fn read(boards: &Boards, k: u8, port: u16) -> String {
    get(boards.at(k, port), "/file?path=/run/secrets/db").map(|(_, body)| body).unwrap_or_default()
}

fn expected(value: &str, uid: u32) -> String {
    format!("{} 400 {uid}\n", protocol::id::sha256_hex(value.as_bytes()))
}

/// Every file below a folder that holds a value, as it is, in base64 or in hexadecimal.
fn holders(folder: &Path, value: &str) -> Vec<String> {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(value);
    let forms = [value.to_owned(), base64, protocol::id::hex(value.as_bytes())];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes);
                if forms.iter().any(|form| text.contains(form)) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}

fn containers(boards: &Boards) -> Vec<String> {
    docker::containers(&boards.label).into_iter().map(|container| container.id).collect()
}

fn reason_on(boards: &Boards, board: &str) -> Value {
    let shown = boards.json(&["ps"]);
    let nodes = shown["services"][0]["nodes"].as_array().cloned().unwrap_or_default();
    let on = nodes.into_iter().find(|node| node["node"] == *board);
    on.map_or(Value::Null, |node| node["reason"].clone())
}

fn service(port: u16) -> Service {
    Service::new("web", port).scheduling("per_node = 1\nuser = \"1000:1000\"")
}

#[test]
fn a_secret_is_in_clear_in_its_container_alone_and_follows_its_service_everywhere() {
    if !skip::has("docker") {
        return;
    }
    let mut boards = Boards::start();
    boards.add(1);
    let port = free_port();
    let plain = service(port).extra("[[secrets]]\nname = \"db\"");

    // Without a value nothing begins, and the mend is named.
    let refused = deploy(&boards, &plain.toml()).expect_code(2);
    assert!(refused.stderr.contains("pith secret set db"), "{refused:?}");
    let large = secret(&boards, &["set", "db"], &"x".repeat(16 * 1024 + 1)).expect_code(2);
    assert!(large.stderr.contains("16384"), "{large:?}");

    let set = secret(&boards, &["set", "db"], FIRST).expect_code(0);
    assert!(!format!("{set:?}").contains(FIRST));
    let _ = deploy(&boards, &plain.toml()).expect_code(0);
    assert_eq!(read(&boards, 1, port), expected(FIRST, 1000));

    // In clear nowhere else.
    let inspected = docker(&["inspect", &containers(&boards)[0]]);
    assert!(!inspected.contains(FIRST) && inspected.contains("/run/secrets/db"), "{inspected}");
    assert_eq!(holders(&boards.path(""), FIRST), Vec::<String>::new());
    let in_memory = holders(&boards.secrets_dir(1), FIRST);
    assert_eq!(in_memory.len(), 1, "the search finds what is there: {in_memory:?}");
    let shown = boards.pith(&["secret", "ls", "-o", "json"]).expect_code(0);
    assert!(shown.stdout.contains("\"web\"") && !shown.stdout.contains(FIRST), "{shown:?}");

    // A reboot without coordinator and broker: memory is empty, the container stands still.
    boards.kill_coordinator();
    boards.kill_board(1);
    let before = containers(&boards);
    let _ = docker(&["kill", &before[0]]);
    fs::remove_dir_all(boards.secrets_dir(1)).unwrap();
    boards.start_board(1);
    until_true("it reads its secret again", SOON, || {
        read(&boards, 1, port) == expected(FIRST, 1000)
    });
    assert_eq!(containers(&boards), before, "the very same container");
    boards.start_coordinator();

    // Another value rolls the service.
    let file = boards.path("value");
    fs::write(&file, SECOND).unwrap();
    let path = file.display().to_string();
    let rotated = boards.pith(&["secret", "rotate", "db", "--from-file", &path]).expect_code(0);
    fs::remove_file(&file).unwrap();
    assert!(rotated.stdout.contains("version 2"), "{rotated:?}");
    assert_eq!(read(&boards, 1, port), expected(SECOND, 1000));
    let history = boards.json(&["rollout", "history", "web"]);
    assert_eq!(history["current"], 2);
    let difference = boards.pith(&["rollout", "diff", "web"]).expect_code(0);
    assert!(difference.stdout.contains("secrets.db.version"), "{difference:?}");
    // The stopped container is kept for the way back, with its file.
    assert_eq!(holders(&boards.secrets_dir(1), FIRST).len(), 1);

    // A secret of another environment is another secret.
    let staging = secret(&boards, &["set", "db", "--env", "staging"], OF_STAGING).expect_code(0);
    assert!(staging.stdout.contains("version 1"), "{staging:?}");
    assert_eq!(read(&boards, 1, port), expected(SECOND, 1000));

    // A board that comes later has no copy, says so, and gets one.
    boards.add(2);
    until_true("it waits", SOON, || reason_on(&boards, "board-2") == "waiting_for_secret");
    let waits = boards.pith(&["ps"]).expect_code(0);
    assert!(waits.stdout.contains("pith secret sync"), "{waits:?}");
    let synced = boards.json(&["secret", "sync", "--env", "default"]);
    assert_eq!(synced["nodes"], serde_json::json!(["board-2"]));
    until_true("it runs", SOON, || read(&boards, 2, port) == expected(SECOND, 1000));
    let again = boards.json(&["secret", "sync", "--env", "default"]);
    assert_eq!(again["copies"], 0);

    // What is used stays; what a lost board may have read is named.
    let used = boards.pith(&["secret", "rm", "db", "--env", "default"]).expect_code(1);
    assert!(used.stderr.contains("used by web"), "{used:?}");
    let revoked = boards.pith(&["node", "revoke", "board-2"]).expect_code(0);
    assert!(revoked.stdout.contains("pith secret rotate db --env default"), "{revoked:?}");
    for value in [FIRST, SECOND, OF_STAGING] {
        assert_eq!(holders(&boards.path(""), value), Vec::<String>::new());
    }
}

#[test]
fn a_variable_is_a_secret_where_the_file_says_so_and_the_plan_warns() {
    if !skip::has("docker") {
        return;
    }
    let mut boards = Boards::start();
    boards.add(1);
    let port = free_port();
    let _ = secret(&boards, &["set", "db"], FIRST).expect_code(0);
    let text = service(port).toml().replace("env = {  }", "env = { DB = { secret = \"db\" } }");
    let file = boards.path("web.toml");
    fs::write(&file, &text).unwrap();
    let plan = boards.pith(&["plan", "-f", &file.display().to_string()]).expect_code(10);
    assert!(plan.stdout.contains("may inspect the container"), "{plan:?}");
    let _ = deploy(&boards, &text).expect_code(0);
    let (_, variables) = get(boards.at(1, port), "/env").unwrap();
    assert!(variables.contains(&format!("DB={FIRST}")), "{variables}");
    assert_eq!(holders(&boards.path(""), FIRST), Vec::<String>::new());
}
