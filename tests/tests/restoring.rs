//! A coordinator is lost with its folder and comes back from its backup elsewhere: nothing that runs is touched, the nodes find it
//! at its address, and the next deploy is as any other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use tests::boards::Boards;
use tests::docker;
use tests::http::{free_port, get};
use tests::services::Service;
use tests::skip;
use tests::wait::{until, until_true};

const SOON: Duration = Duration::from_secs(40);

fn running(boards: &Boards) -> BTreeSet<String> {
    docker::containers(&boards.label).into_iter().map(|container| container.id).collect()
}

#[test]
fn a_lost_coordinator_comes_back_elsewhere_from_its_backup_and_no_container_is_touched() {
    if !skip::has("docker") {
        return;
    }
    let mut boards = Boards::start();
    let nights = boards.path("data/backups");
    until_true("a coordinator that was never backed up makes a backup at once", SOON, || {
        fs::read_dir(&nights).is_ok_and(|mut entries| entries.next().is_some())
    });
    [1, 2].into_iter().for_each(|k| boards.add(k));
    let port = free_port();
    boards.deploy(&Service::new("web", port).toml());
    let before = running(&boards);
    assert_eq!(before.len(), 2);

    let path = |name: &str| boards.path(name).to_string_lossy().into_owned();
    let (file, root_key, data) = (path("fleet.pith"), path("safe/root.key"), path("elsewhere"));
    let (release_key, safe, cut) = (path("safe/release.key"), path("safe"), path("cut.pith"));
    let made = boards.json(&["backup", &file]);
    assert_eq!(made["bytes"], fs::metadata(&file).unwrap().len());
    let again = boards.pith(&["backup", &file]).expect_code(2);
    assert!(again.stderr.contains("never overwritten"), "{again:?}");
    let kept = boards.json(&["backup"]);
    let kept = kept["file"].as_str().unwrap().to_owned();
    assert!(kept.contains("/data/backups/backup-"), "{kept}");

    // All that is left: the backup, and the keys that are never in it.
    fs::create_dir(boards.path("safe")).unwrap();
    for name in ["root.key", "release.key"] {
        fs::copy(boards.path(&format!("data/keys/{name}")), boards.path(&format!("safe/{name}")))
            .unwrap();
    }
    boards.kill_coordinator();
    fs::remove_dir_all(boards.path("data")).unwrap();
    assert_eq!(get(boards.at(1, port), "/").unwrap().0, 200, "what runs goes on");

    let restore = |file: &str, key: &str, data: &str| {
        boards.pith(&["restore", file, "--root-key", key, "--data", data])
    };
    let wrong = restore(&file, &release_key, &data).expect_code(5);
    assert!(wrong.stderr.contains("does not open it"), "{wrong:?}");
    let full = restore(&file, &root_key, &safe).expect_code(2);
    assert!(full.stderr.contains("is not empty"), "{full:?}");
    let bytes = fs::read(&file).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let short = restore(&cut, &root_key, &data).expect_code(1);
    assert!(short.stderr.contains("cut off"), "{short:?}");
    let args = ["restore", &file, "--root-key", &root_key, "--data", &data];
    let restored = boards.json(&args);
    assert_eq!((&restored["nodes"], &restored["services"]), (&2.into(), &1.into()));
    assert_eq!(restored["fleet"], made["fleet"]);

    boards.move_data("elsewhere");
    boards.start_coordinator();
    [1, 2].into_iter().for_each(|k| boards.wait_ready(k));
    let shown = boards.json(&["ps"]);
    assert!(shown.to_string().contains("web"), "{shown}");
    assert_eq!(running(&boards), before, "nothing was touched");
    let events = boards.json(&["events"]).to_string();
    assert!(!events.contains("refused"), "{events}");

    // The release key is the operator's to bring.
    let file = boards.path("service.toml").to_string_lossy().into_owned();
    let args = ["deploy", "-f", &file, "--image", "pith-demo:v2"];
    let _ = boards.pith(&args).expect_code(5);
    fs::copy(boards.path("safe/release.key"), boards.path("elsewhere/keys/release.key")).unwrap();
    let _ = boards.pith(&args).expect_code(0);
    for k in [1, 2] {
        let answer = until("the new release answers", SOON, || {
            get(boards.at(k, port), "/").ok().filter(|(_, body)| body.contains("v2"))
        });
        assert_eq!(answer.0, 200);
    }
}
