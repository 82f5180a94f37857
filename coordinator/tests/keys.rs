//! `pith init` and `pith keys` as people and scripts use them: processes, files and exit codes; no coordinator runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Somebody's own machine: a folder to work in, and perhaps a fleet in `data`.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, line: &str, env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pith"));
        command.args(line.split_whitespace()).current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in
            ["PITH_PASSPHRASE", "PITH_RELEASE_KEY", "PITH_RELEASE_KEY_COMMAND", "PITH_ENV"]
        {
            command.env_remove(variable);
        }
        command.env("PITH_DATA", self.path("data")).env("NO_COLOR", "1").envs(env.iter().copied());
        command.output().unwrap()
    }

    #[track_caller]
    fn check(&self, line: &str, code: i32) -> String {
        self.check_with(line, &[], code)
    }

    #[track_caller]
    fn check_with(&self, line: &str, env: &[(&str, &str)], code: i32) -> String {
        let output = self.run(line, env);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8_lossy(&output.stdout) + stderr;
        assert_eq!(output.status.code(), Some(code), "pith {line}\n{said}");
        said.into_owned()
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} -o json"), &[]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {output:?}"))
    }

    /// The ids of a role's keys.
    fn ids(&self, role: &str) -> Vec<String> {
        let shown = self.json("keys ls");
        let roles = shown["roles"].as_array().unwrap();
        let of_it = roles.iter().find(|of_it| of_it["role"] == role).unwrap();
        let keys = of_it["keys"].as_array().unwrap();
        keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }

    fn version(&self) -> u64 {
        self.json("keys ls")["version"].as_u64().unwrap()
    }
}

/// Three people's keys, and a fleet of which two must sign.
fn two_of_three() -> Desk {
    let desk = Desk::new();
    for name in ["alice", "bob", "carol"] {
        desk.check(&format!("keys new {name}.key"), 0);
    }
    let keys = "--root-key alice.key --root-key bob.key --root-key carol.key.pub";
    desk.check(&format!("init --root-threshold 2 {keys}"), 0);
    desk
}

#[test]
fn a_fleet_in_one_command_warns_that_one_key_rules_it() {
    let desk = Desk::new();
    let said = desk.check("init", 0);
    assert!(said.contains("one root key rules everything"), "{said}");
    let shown = desk.check("keys ls", 0);
    for role in ["root", "release", "director", "agent-release"] {
        assert!(shown.lines().any(|line| line.starts_with(role)), "{shown}");
    }
    assert_eq!(desk.json("keys ls")["roles"][0]["keys"][0]["holds"], "plain");
    assert!(desk.check("init", 2).contains("holds a fleet already"));
}

#[test]
fn two_of_three_is_three_commands_and_a_rotation_needs_two_of_them() {
    let desk = two_of_three();
    assert_eq!(desk.ids("root").len(), 3);
    let before = desk.ids("director");

    let said = desk.check("keys rotate director --root-key alice.key", 4);
    assert!(said.contains("needs 1 more signature"), "{said}");
    assert!(said.contains("pith keys sign") && said.contains("root-2.json"), "{said}");
    assert_eq!((desk.version(), desk.ids("director")), (1, before.clone()), "nothing is in effect");
    assert!(desk.check("keys rotate director --root-key alice.key", 2).contains("waits for"));

    let waiting = desk.path("data/root-2.json");
    let twice = desk.check(&format!("keys sign {} --root-key alice.key", waiting.display()), 4);
    assert!(twice.contains("needs 1 more"), "the same key twice is one: {twice}");
    let wrong = Desk::new();
    wrong.check("keys new mallory.key", 0);
    let mallory = wrong.path("mallory.key");
    let line = format!("keys sign {} --root-key {}", waiting.display(), mallory.display());
    assert!(desk.check(&line, 2).contains("is no root key"));

    // Carol signs on a machine of her own, which has never seen the fleet.
    let hers = Desk::new();
    for name in ["carol.key", "data/root-2.json"] {
        let to = hers.path(Path::new(name).file_name().unwrap().to_str().unwrap());
        fs::copy(desk.path(name), to).unwrap();
    }
    let said = hers.check("keys sign root-2.json --root-key carol.key", 0);
    assert!(said.contains("director: 1 of 1"), "she sees what she signs: {said}");
    fs::copy(hers.path("root-2.json"), desk.path("root-2.json")).unwrap();
    let said = desk.check("keys sign root-2.json", 0);
    assert!(said.contains("trust root 2 is stored"), "{said}");
    assert_eq!(desk.version(), 2);
    assert_ne!(desk.ids("director"), before);
    assert!(!waiting.exists(), "nothing waits any more");
    assert!(desk.check("keys ls", 0).contains("in no role any more"), "the old key is named");

    // What was in effect once does not come back.
    assert!(desk.check("keys sign root-2.json", 2).contains("only 3 can follow"));
}

#[test]
fn a_fleet_whose_holders_are_elsewhere_is_finished_by_their_signatures() {
    let desk = Desk::new();
    for name in ["alice", "bob"] {
        desk.check(&format!("keys new {name}.key"), 0);
    }
    let said =
        desk.check("init --root-threshold 2 --root-key alice.key.pub --root-key bob.key.pub", 0);
    assert!(said.contains("is not finished"), "{said}");
    assert!(desk.check("keys ls", 2).contains("lacks signatures"));
    assert!(desk.check("init", 2).contains("lacks signatures"));
    let file = desk.path("data/root-1.json").display().to_string();
    // Each signs a copy; they come together in the folder.
    fs::copy(&file, desk.path("of-bob.json")).unwrap();
    desk.check(&format!("keys sign {file} --root-key alice.key"), 4);
    let said = desk.check("keys sign of-bob.json --root-key bob.key", 0);
    assert!(said.contains("is finished"), "{said}");
    assert_eq!(desk.ids("root").len(), 2);
    let refused = Desk::new();
    refused.check("keys new a.key", 0);
    assert!(refused.check("init --root-threshold 2 --root-key a.key", 2).contains("cannot give 2"));
}

#[test]
fn keys_are_added_revoked_and_weighed() {
    let desk = Desk::new();
    desk.check("init", 0);
    for name in ["second", "third"] {
        desk.check(&format!("keys new {name}.key"), 0);
    }
    assert!(desk.check("keys threshold root 2", 2).contains("cannot give 2 signatures"));
    desk.check("keys add root second.key", 0);
    desk.check("keys threshold root 2 --root-key data/keys/root.key --root-key second.key", 0);
    assert_eq!(desk.version(), 3);
    desk.check("keys add release third.key.pub --root-key second.key", 4);
    let completed = desk.json("keys sign data/root-4.json");
    assert_eq!((&completed["state"], &completed["version"]), (&"stored".into(), &4.into()));
    assert!(desk.check("keys add director third.key", 2).contains("in role release already"));
    let first = desk.ids("release")[0].clone();
    let both = "--root-key second.key --root-key data/keys/root.key";
    desk.check(&format!("keys revoke {} {both}", &first[..8]), 0);
    assert_eq!(desk.ids("release").len(), 1);
    let last = desk.ids("release")[0].clone();
    assert!(desk.check(&format!("keys revoke {last} {both}"), 2).contains("pith keys rotate"));
    assert!(desk.check("keys revoke ffffffff", 2).contains("pith keys ls"));
    assert!(desk.check("keys rotate root", 2).contains("name the one to replace"));
    assert!(desk.check("keys threshold director 2", 2).contains("stays 1"));
}

#[test]
fn a_single_root_key_is_replaced_by_itself_and_the_new_one() {
    let desk = Desk::new();
    desk.check("init", 0);
    let before = desk.ids("root");
    desk.check("keys rotate root", 0);
    assert_ne!(desk.ids("root"), before);
    desk.check("keys rotate director", 0);
    assert_eq!(desk.version(), 3, "the new root key, found by what it is, signs the next");
}

#[test]
fn encrypted_keys_need_their_passphrase_and_say_what_was_tried() {
    let desk = Desk::new();
    let with = [("PITH_PASSPHRASE", "correct horse")];
    desk.check_with("init --passphrase", &with, 0);
    let text = fs::read_to_string(desk.path("data/keys/release.key")).unwrap();
    assert!(text.contains("argon2id"), "{text}");
    let director = fs::read_to_string(desk.path("data/keys/director.key")).unwrap();
    assert!(!director.contains("argon2id"), "the coordinator starts unattended");
    assert!(desk.check("keys ls", 0).contains("(encrypted)"), "and is listed without a passphrase");
    let said = desk.check("keys rotate release", 1);
    assert!(said.contains("PITH_PASSPHRASE is not set"), "{said}");
    let wrong = desk.check_with("keys rotate release", &[("PITH_PASSPHRASE", "wrong")], 1);
    assert!(wrong.contains("does not open it"), "{wrong}");
    desk.check_with("keys rotate release", &with, 0);
    let listed = desk.json("keys ls");
    let release = listed["roles"].as_array().unwrap().iter().find(|r| r["role"] == "release");
    assert_eq!(release.unwrap()["keys"][0]["holds"], "encrypted", "as the one it replaces");

    desk.check("keys new plain.key", 0);
    desk.check_with("keys encrypt plain.key", &with, 0);
    assert!(fs::read_to_string(desk.path("plain.key")).unwrap().contains("argon2id"));
    assert!(desk.check("keys encrypt plain.key.pub", 2).contains("nothing to hide"));
    assert!(desk.check("keys new plain.key", 2).contains("never overwritten"));
}
