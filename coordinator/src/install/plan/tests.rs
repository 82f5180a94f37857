//! Boards as they are found, and what is planned for them.

use std::path::PathBuf;

use super::*;
use crate::install::facts::tests::board;

const FLEET: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
const NODE: &str = "abababababababababababababababab";

fn known(names: &[&str]) -> Known {
    Known {
        fleet: FLEET.parse().unwrap(),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        revoked: BTreeSet::new(),
        now_s: 1_790_000_000,
    }
}

fn package(version: &str, architecture: &str) -> Package {
    let path = PathBuf::from(format!("/p/pith-agent_{version}_{architecture}.deb"));
    let name = Named::As { version: version.to_owned(), architecture: architecture.to_owned() };
    Package { path, name }
}

fn joined(fleet: &str) -> String {
    use base64::Engine as _;
    let encode = |bytes: &str| base64::engine::general_purpose::STANDARD.encode(bytes);
    let der = encode(&format!("x{NODE}.node.{fleet}.pith"));
    let pem = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    format!("agent installed {VERSION}\nagent_binary {VERSION}\ncertificate {}\n", encode(&pem))
}

fn check(facts: &str, wish: &Wish, names: &[&str]) -> Result<Plan, Obstacle> {
    plan(&board(facts), wish, &known(names), Some(&package(VERSION, "arm64")))
}

fn acts(plan: &Plan) -> Vec<&str> {
    let name = |(act, _): &(Act, String)| match act {
        Act::Reach => "reach",
        Act::Install { with_docker: false } => "install",
        Act::Install { with_docker: true } => "install with docker",
        Act::Policy(_) => "policy",
        Act::TuneDocker(_) => "tune",
        Act::Join(_) => "join",
        Act::Enable => "enable",
    };
    plan.acts.iter().map(name).collect()
}

fn refusal(facts: &str) -> String {
    check(facts, &Wish::default(), &[]).unwrap_err().to_string()
}

#[test]
fn a_blank_board_is_asked_for_the_coordinator_before_anything_is_changed() {
    let wish = Wish { allow: Some("exec".parse().unwrap()), tune_docker: true, ..Wish::default() };
    let plan = check("", &wish, &[]).unwrap();
    assert_eq!(acts(&plan), ["reach", "install", "policy", "tune", "join", "enable"]);
    assert!(
        plan.already.is_empty() && plan.undone.is_empty() && plan.warnings.is_empty(),
        "{plan:?}"
    );
    assert_eq!(plan.acts[4].0, Act::Join("orangepi".parse().unwrap()));
}

#[test]
fn docker_comes_with_the_package_where_it_is_missing() {
    let without: String = crate::install::facts::tests::said("");
    let without: String = without
        .lines()
        .filter(|line| !line.starts_with("docker"))
        .map(|l| format!("{l}\n"))
        .collect();
    let facts = Facts::parse(&without).unwrap();
    let made =
        plan(&facts, &Wish::default(), &known(&[]), Some(&package(VERSION, "arm64"))).unwrap();
    assert_eq!(acts(&made)[1], "install with docker");
    assert!(made.acts[1].1.contains("Docker is missing"), "{}", made.acts[1].1);
    let facts = Facts { apt: false, os: vec!["debian".to_owned()], ..facts };
    let refused = plan(&facts, &Wish::default(), &known(&[]), Some(&package(VERSION, "arm64")));
    assert_eq!(refused, Err(Obstacle::NoDocker));
}

#[test]
fn a_second_run_changes_nothing_and_says_what_is_so() {
    let done = joined(FLEET) + "unit_pith-agent active enabled\nunit_pith-proxy active enabled";
    let plan = check(&done, &Wish::default(), &["orangepi"]).unwrap();
    assert!(plan.acts.is_empty(), "{plan:?}");
    assert_eq!(plan.already.len(), 3, "{plan:?}");
}

#[test]
fn a_half_done_installing_goes_on_where_it_stopped() {
    let half = check("agent half-configured 0.1.0", &Wish::default(), &[]).unwrap();
    assert_eq!(acts(&half), ["reach", "install", "join", "enable"]);
    let installed = check(&format!("agent installed {VERSION}"), &Wish::default(), &[]).unwrap();
    assert_eq!(acts(&installed), ["reach", "join", "enable"]);
    let has_joined = check(&joined(FLEET), &Wish::default(), &[]).unwrap();
    assert_eq!(acts(&has_joined), ["enable"]);
    // Removed and not purged.
    assert_eq!(
        acts(&check("agent config-files 0.1.0", &Wish::default(), &[]).unwrap())[1],
        "install"
    );
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let plan = check("", &Wish::default(), &["orangepi", "orangepi-2"]).unwrap();
    assert_eq!(plan.acts[2].0, Act::Join("orangepi-3".parse().unwrap()));
    assert!(plan.warnings[0].contains("becomes orangepi-3"), "{:?}", plan.warnings);
    let wish = Wish { name: Some("kitchen".parse().unwrap()), ..Wish::default() };
    assert_eq!(
        check("", &wish, &["orangepi"]).unwrap().acts[2].0,
        Act::Join("kitchen".parse().unwrap())
    );
    let odd = "host OrangePi_5.lan";
    assert!(refusal(odd).contains("give one with --name"));
}

#[test]
fn each_obstacle_names_its_mend() {
    for (facts, words) in [
        ("uid 1000\nuser pi\nsudo none", "has no sudo"),
        ("machine armv7l\ndpkg armhf", "64-bit"),
        ("dpkg riscv64\nmachine riscv64", "riscv64"),
        ("free_usr_kib 1000", "too little space below /usr: 0 MiB are free, 32 MiB"),
        ("free_var_kib 2000", "below /var"),
        ("agent installed 99.0.0", "newer than this pith"),
        ("host -", "--name"),
    ] {
        assert!(refusal(facts).contains(words), "{facts}: {}", refusal(facts));
    }
    let facts = Facts { dpkg: None, ..board("os_name Alpine Linux v3.20") };
    let refused = plan(&facts, &Wish::default(), &known(&[]), Some(&package(VERSION, "arm64")));
    assert_eq!(refused, Err(Obstacle::NotDebian("Alpine Linux v3.20".to_owned())));
    let facts = Facts { systemd: None, ..board("") };
    let refused = plan(&facts, &Wish::default(), &known(&[]), Some(&package(VERSION, "arm64")));
    assert_eq!(refused, Err(Obstacle::NoSystemd));
    let facts = Facts { docker_package: false, ..board("") };
    let refused = plan(&facts, &Wish::default(), &known(&[]), Some(&package(VERSION, "arm64")));
    assert!(refused.unwrap_err().to_string().contains("second one"));
}

#[test]
fn a_board_of_another_fleet_or_with_a_revoked_identity_is_left_alone() {
    let error = refusal(&joined(&"ef".repeat(16)));
    assert!(error.contains("another fleet") && error.contains("pith-agent uninstall"), "{error}");
    let revoked = Known { revoked: [NODE.parse().unwrap()].into(), ..known(&[]) };
    let refused =
        plan(&board(&joined(FLEET)), &Wish::default(), &revoked, Some(&package(VERSION, "arm64")));
    assert_eq!(refused, Err(Obstacle::Revoked(NODE.parse().unwrap())));
}

#[test]
fn a_package_for_another_processor_or_of_another_version_is_refused() {
    let with = |package: &Package| {
        plan(&board(""), &Wish::default(), &known(&[]), Some(package)).unwrap_err().to_string()
    };
    assert!(with(&package(VERSION, "amd64")).contains("is for amd64, the board is arm64"));
    assert!(with(&package("99.0.0", "arm64")).contains("is version 99.0.0"));
}

#[test]
fn an_upgrade_exchanges_the_package_and_nothing_else() {
    let wish = Wish { upgrade: true, ..Wish::default() };
    let old = joined(FLEET).replace(&format!("installed {VERSION}"), "installed 0.0.9");
    assert_eq!(acts(&check(&old, &wish, &[]).unwrap()), ["install"]);
    let kept = check(&old, &Wish::default(), &[]).unwrap();
    assert!(!acts(&kept).contains(&"install") && kept.already[0].contains("--upgrade"), "{kept:?}");
    assert!(acts(&check(&joined(FLEET), &wish, &[]).unwrap()).is_empty());
    assert_eq!(check("", &wish, &[]), Err(Obstacle::NothingToUpgrade));
}

#[test]
fn what_may_go_wrong_later_is_said_and_stops_nothing() {
    let facts = "clock 5\nmemory_limits no\nmemory_kib 230000\nlistening 1D3C";
    let facts = Facts { docker: None, docker_group: false, ..board(facts) };
    let made = plan(&facts, &Wish::default(), &known(&[]), Some(&package(VERSION, "arm64")));
    let plan = made.unwrap();
    let all = plan.warnings.join("\n");
    for words in [
        "clock is off by",
        "cgroup_enable=memory",
        "224 MiB of memory",
        "port 7484",
        "does not answer",
        "groupadd docker",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
    assert_eq!(acts(&plan), ["reach", "install", "join", "enable"]);
}

#[test]
fn a_policy_of_somebodys_own_is_said_to_be_left_alone() {
    use base64::Engine as _;
    let wish = Wish { allow: Some("exec".parse().unwrap()), ..Wish::default() };
    let own = base64::engine::general_purpose::STANDARD.encode("privileged = true\n");
    let plan =
        check(&format!("policy {own}\npolicy_md5 a\npolicy_shipped_md5 b"), &wish, &[]).unwrap();
    assert!(
        !acts(&plan).contains(&"policy") && plan.undone[0].contains("+exec = true"),
        "{plan:?}"
    );
    let shipped =
        check(&format!("policy {own}\npolicy_md5 a\npolicy_shipped_md5 a"), &wish, &[]).unwrap();
    assert!(acts(&shipped).contains(&"policy"));
}

#[test]
fn whether_containers_outlive_the_restart_of_docker_is_said_before() {
    use base64::Engine as _;
    let wish = Wish { tune_docker: true, ..Wish::default() };
    let why = |file: &str| {
        let file = base64::engine::general_purpose::STANDARD.encode(file);
        let plan = check(&format!("containers 3\ndaemon_json {file}"), &wish, &[]).unwrap();
        let tune = plan.acts.into_iter().find(|(act, _)| matches!(act, Act::TuneDocker(_)));
        tune.map(|(_, why)| why).unwrap()
    };
    assert!(why("{}").contains("the 3 containers that run go on"), "{}", why("{}"));
    assert!(why("{\"live-restore\": false}").contains("the 3 containers that run stop"));
    let broken = base64::engine::general_purpose::STANDARD.encode("{ // mine\n}");
    let refused = check(&format!("daemon_json {broken}"), &wish, &[]).unwrap_err();
    assert!(refused.to_string().contains("no JSON object"), "{refused}");
}
