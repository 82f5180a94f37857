//! `pith node install` against a real ssh server, dpkg and Docker (tests/src/guest.rs).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::boards::Boards;
use tests::fleet::Outcome;
use tests::guest::{self, Guest, architecture};
use tests::skip;
use tests::wait::until_true;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SOON: Duration = Duration::from_secs(40);

fn install(world: &Boards, guest: &Guest, user: &str, more: &[&str]) -> Outcome {
    let target = guest.target(user);
    let mut command = world.command(&["node", "install", &target]);
    command.args(more).env("PITH_SSH", guest.ssh());
    Outcome::of(&command.output().unwrap())
}

fn package(path: &Path) -> [&str; 2] {
    ["--package", path.to_str().unwrap()]
}

#[test]
fn a_blank_board_becomes_a_node_by_one_command_and_a_second_run_changes_nothing() {
    if !guest::can_lodge() {
        return;
    }
    let (world, guest) = (Boards::start(), Guest::boot());
    let deb = guest.package(VERSION);
    guest.put("/etc/docker/daemon.json", b"{\"data-root\": \"/somewhere\"}");
    let more = [
        &package(&deb)[..],
        &[
            "--name",
            "opi-1",
            "--label",
            "zone=edge",
            "--allow",
            "exec,devices=/dev/ttyUSB*",
            "--tune-docker",
        ],
    ]
    .concat();
    let first = install(&world, &guest, "root", &more).expect_code(0);
    for words in [
        "no pith-agent",
        "reached",
        "installing",
        "joining as opi-1",
        "starting pith-proxy",
        "is ready in environment default",
    ] {
        assert!(first.stdout.contains(words), "{words}: {first:?}");
    }
    let shown = world.json(&["node", "ls"]);
    let node = &shown["nodes"][0];
    assert_eq!(
        (&node["name"], &node["status"], &node["labels"]["zone"]),
        (&"opi-1".into(), &"ready".into(), &"edge".into())
    );
    assert_eq!(node["policy"]["policy"]["every"]["exec"], true, "{node}");
    let daemon = guest.run("cat /etc/docker/daemon.json").stdout;
    assert!(daemon.contains("live-restore") && daemon.contains("/somewhere"), "{daemon}");
    let before = guest.run("cat /etc/docker/daemon.json.before-pith; grep docker /run/guest/asked");
    assert!(before.stdout.starts_with("{\"data-root\""), "{before:?}");
    assert!(before.stdout.ends_with("reload docker\nrestart docker\n"), "{before:?}");
    // The token is in no file, and no argument list that anybody saw.
    let left = guest.run("grep -rl pith1_ey /var/lib/pith /etc/pith /var/tmp /run 2>/dev/null; ls /var/tmp | grep pith-install");
    assert_eq!(left.stdout, "", "{left:?}");

    let before = guest.run("stat -c '%n %Y %i' /usr/bin/pith-agent /etc/pith/* /var/lib/pith/tls/*; wc -l </run/guest/asked").stdout;
    let second = install(&world, &guest, "free", &more).expect_code(0);
    assert!(
        second.stdout.contains("already so: it has joined this fleet")
            && !second.stdout.contains("installing"),
        "{second:?}"
    );
    let asked = |text: &str| text.lines().last().unwrap().parse::<u32>().unwrap();
    let after = guest.run("stat -c '%n %Y %i' /usr/bin/pith-agent /etc/pith/* /var/lib/pith/tls/*; wc -l </run/guest/asked").stdout;
    assert_eq!(
        before.lines().rev().skip(1).collect::<Vec<_>>(),
        after.lines().rev().skip(1).collect::<Vec<_>>()
    );
    assert!(asked(&after) - asked(&before) <= 4, "it only looked: {after}");

    // Nor does it need a package.
    let target = guest.target("root");
    let bare =
        world.command(&["node", "install", &target]).env("PITH_SSH", guest.ssh()).output().unwrap();
    let bare = Outcome::of(&bare).expect_code(0);
    assert!(bare.stdout.contains("is ready in environment default"), "{bare:?}");

    // A policy that somebody changed stays, and the difference is said.
    let _ = guest.run("echo 'host_network = true' >>/etc/pith/policy.toml").expect_code(0);
    let third = install(&world, &guest, "root", &more).expect_code(4);
    assert!(third.stderr.contains("-host_network = true"), "{third:?}");

    // Another fleet leaves it alone.
    let other = Boards::start();
    let refused = install(&other, &guest, "root", &package(&deb)).expect_code(5);
    assert!(
        refused.stderr.contains("another fleet") && refused.stderr.contains("pith-agent uninstall"),
        "{refused:?}"
    );
}

#[test]
fn what_stands_against_an_installing_is_said_before_anything_is_changed() {
    if !guest::can_lodge() {
        return;
    }
    let (world, guest) = (Boards::start(), Guest::boot());
    let deb = guest.package(VERSION);
    let named = package(&deb);
    let no_sudo = install(&world, &guest, "nobody-much", &named).expect_code(5);
    assert!(no_sudo.stderr.contains("no terminal here"), "{no_sudo:?}");
    let asked = install(&world, &guest, "asked", &named).expect_code(5);
    assert!(asked.stderr.contains("NOPASSWD"), "{asked:?}");
    let nobody = install(&world, &guest, "no-such-user", &named).expect_code(5);
    assert!(nobody.stderr.contains("ssh-copy-id"), "{nobody:?}");
    let elsewhere = [&named[..], &["--address", "127.0.0.1:1", "--address", "[::1]:2"]].concat();
    let unreached = install(&world, &guest, "root", &elsewhere).expect_code(6);
    assert!(unreached.stderr.contains("127.0.0.1:1: Connection refused"), "{unreached:?}");
    assert!(unreached.stderr.contains("--address HOST:PORT"), "{unreached:?}");
    let other = guest.package("0.0.1");
    let wrong = install(&world, &guest, "root", &package(&other)).expect_code(2);
    assert!(wrong.stderr.contains("is version 0.0.1"), "{wrong:?}");
    // Under another name only the file itself tells.
    let renamed = other.with_file_name("agent.deb");
    let _ = std::fs::copy(&other, &renamed).unwrap();
    let wrong = install(&world, &guest, "root", &package(&renamed)).expect_code(2);
    assert!(wrong.stderr.contains("Version 0.0.1") && wrong.stderr.contains(VERSION), "{wrong:?}");
    let none = install(&world, &guest, "root", &[]).expect_code(2);
    assert!(
        none.stderr.contains("make dist") && none.stderr.contains("/usr/share/pith/packages"),
        "{none:?}"
    );
    let there = guest
        .run("ls -d /etc/pith /var/lib/pith /usr/bin/pith-agent; dpkg -s pith-agent")
        .expect_code(1);
    assert_eq!(there.stdout, "", "nothing was changed: {there:?}");
    let nowhere = world.command(&["node", "install", "root@127.0.0.1:1"]).output().unwrap();
    let nowhere = Outcome::of(&nowhere).expect_code(1);
    assert!(nowhere.stderr.contains("cannot be reached by ssh"), "{nowhere:?}");
}

/// `pith` at a terminal of its own, where the password is typed once it is asked for.
fn at_terminal(world: &Boards, guest: &Guest, password: &str, more: &[&str]) -> String {
    let target = guest.target("asked");
    let install = world.command(&["node", "install", &target]);
    let words = std::iter::once(install.get_program()).chain(install.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let line = [&words[..], &more.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()]
        .concat()
        .join(" ");
    // Whoever waits at a terminal waits for ever.
    let mut script = Command::new("timeout");
    script.args(["180", "script", "-qefc", &line, "/dev/null"]).env("PITH_SSH", guest.ssh());
    for (key, value) in install.get_envs() {
        script.env(key, value.unwrap_or_default());
    }
    let mut running = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (running.stdin.take().unwrap(), running.stdout.take().unwrap());
    let (mut said, mut typed, mut bytes) = (String::new(), false, [0; 4096]);
    while let Ok(length @ 1..) = stdout.read(&mut bytes) {
        said.push_str(&String::from_utf8_lossy(&bytes[..length]));
        if !typed && said.contains("password of asked for sudo") {
            writeln!(stdin, "{password}").unwrap();
            typed = true;
        }
    }
    let status = running.wait().unwrap();
    format!("{said}\nexit {}", status.code().unwrap_or(-1))
}

#[test]
fn a_password_of_sudo_is_asked_for_at_a_terminal_and_shown_nowhere() {
    if !guest::can_lodge() || !skip::has("script") {
        return;
    }
    let (world, guest) = (Boards::start(), Guest::boot());
    let deb = guest.package(VERSION);
    let wrong = at_terminal(&world, &guest, "something-else", &package(&deb));
    assert!(wrong.contains("sudo on the board refuses") && wrong.ends_with("exit 5"), "{wrong}");
    let right = at_terminal(&world, &guest, "guest-password", &package(&deb));
    assert!(
        right.contains("is ready in environment default") && right.ends_with("exit 0"),
        "{right}"
    );
    assert!(!right.contains("guest-password"), "{right}");
}

#[test]
fn an_older_agent_is_exchanged_by_upgrade_alone_and_a_half_done_installing_is_gone_on_with() {
    if !guest::can_lodge() {
        return;
    }
    let (world, guest) = (Boards::start(), Guest::boot());
    let (old, deb) = (guest.package("0.0.1"), guest.package(VERSION));
    // Somebody began by hand, and it stopped before the packages were configured.
    guest.put("/root/old.deb", &std::fs::read(&old).unwrap());
    let _ = guest.run("dpkg --unpack /root/old.deb").expect_code(0);
    let gone_on = install(&world, &guest, "free", &package(&deb)).expect_code(0);
    assert!(gone_on.stdout.contains("stopped half-way (unpacked)"), "{gone_on:?}");
    let name = world.json(&["node", "ls"])["nodes"][0]["name"].as_str().unwrap().to_owned();
    until_true("it is ready", SOON, || world.status(&name) == "ready");

    // The policy is as the package brought it, so that it may be exchanged.
    let more = [&package(&deb)[..], &["--allow", "exec"]].concat();
    let allowed = install(&world, &guest, "free", &more).expect_code(0);
    assert!(allowed.stdout.contains("writing /etc/pith/policy.toml"), "{allowed:?}");
    assert!(guest.run("cat /etc/pith/policy.toml").stdout.contains("\nexec = true\n"));

    let _ = guest.run("dpkg -i /root/old.deb").expect_code(0);
    let kept = install(&world, &guest, "root", &package(&deb)).expect_code(0);
    assert!(kept.stdout.contains("`--upgrade` exchanges it"), "{kept:?}");
    let upgraded = install(
        &world,
        &guest,
        "root",
        &[&package(&deb)[..], &["--upgrade", "-o", "json"]].concat(),
    )
    .expect_code(0);
    let shown: serde_json::Value = serde_json::from_str(&upgraded.stdout).unwrap();
    assert_eq!(
        (&shown["status"], &shown["agent_version"]),
        (&"ready".into(), &VERSION.into()),
        "{shown}"
    );
    let version = guest.run("dpkg-query -W -f='${Version} ${Architecture}' pith-agent").stdout;
    assert_eq!(version, format!("{VERSION} {}", architecture()));
    let policy = guest.run("cat /etc/pith/policy.toml").stdout;
    assert!(policy.contains("\nexec = true\n"), "an upgrade keeps it: {policy}");
}
