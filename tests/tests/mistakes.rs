//! What a person gets wrong, refused before anything happens: the message names the place and the mend, the code is 2.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};

use tests::fleet::binaries;

/// `pith deploy -f` on these files, with no coordinator anywhere: a mistake in a file must not need one to be found.
fn deploy<T: AsRef<[u8]>>(files: &[(&str, T)]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let target =
        if let [(name, _)] = files { dir.path().join(name) } else { dir.path().to_owned() };
    let output: Output = Command::new(binaries().join("pith"))
        .args(["deploy", "-f"])
        .arg(target)
        .env("PITH_DATA", dir.path().join("nowhere"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Refused with code 2, and the message says each of these.
#[track_caller]
fn check<T: AsRef<[u8]>>(files: &[(&str, T)], says: &[&str]) {
    let (code, stderr) = deploy(files);
    assert_eq!(code, 2, "{stderr}");
    for text in says {
        assert!(stderr.contains(text), "`{text}` is not in:\n{stderr}");
    }
}

const WEB: &str = "name = \"web\"\nimage = \"pith-demo:v1\"\n";

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    check(
        &[("web.toml", &format!("{WEB}replcas = 4\n"))],
        &["web.toml:3", "replcas", "`replicas`"],
    );
}

#[test]
fn a_wrong_type_is_refused_with_what_was_expected() {
    check(&[("web.toml", &format!("{WEB}replicas = \"four\"\n"))], &["web.toml:3", "replicas"]);
}

#[test]
fn a_bad_duration_is_refused_with_the_right_form() {
    check(
        &[("web.toml", &format!("{WEB}stop_grace = \"10 parsecs\"\n"))],
        &["web.toml:3", "\"10s\""],
    );
}

#[test]
fn a_port_used_twice_is_refused() {
    let port = |name: &str| format!("[[ports]]\nname = \"{name}\"\nlisten = 8080\ntarget = 80\n");
    check(&[("web.toml", &format!("{WEB}{}{}", port("a"), port("b")))], &["web.toml:9", "8080"]);
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let file = |name: &str, on: &str| {
        format!("name = \"{name}\"\nimage = \"x:1\"\ndepends_on = [\"{on}\"]\n")
    };
    let (a, b) = (file("a", "b"), file("b", "a"));
    check(&[("a.toml", &a), ("b.toml", &b)], &["a.toml:3", "a -> b -> a"]);
}

#[test]
fn what_is_not_built_yet_is_refused_and_never_ignored() {
    check(
        &[("web.toml", &format!("{WEB}[scale]\nmax = 3\n"))],
        &["web.toml:3", "not supported yet"],
    );
    check(
        &[("web.toml", &format!("{WEB}[[ports]]\ntarget = 53\nprotocol = \"udp\"\n"))],
        &["web.toml:5", "not supported yet"],
    );
}

#[test]
fn a_file_that_is_not_utf8_is_named_with_what_it_should_be() {
    let utf16: Vec<u8> = WEB.encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(&[("web.toml", [&b"\xff\xfe"[..], &utf16].concat())], &["web.toml", "UTF-8"]);
}

#[test]
fn a_missing_file_is_named() {
    let (code, stderr) = deploy::<&str>(&[]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn a_coordinator_that_is_not_there_is_code_6_and_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(binaries().join("pith"))
        .arg("ps")
        .env("PITH_DATA", dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("pith dev"), "{stderr}");
}
