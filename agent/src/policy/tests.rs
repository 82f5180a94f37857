//! Whose file counts, when it is read again, and where paths lead.

use std::os::unix::fs::{PermissionsExt, symlink};

use protocol::spec::{Device, HostPath};
use tempfile::TempDir;

use super::*;

struct Board {
    dir: TempDir,
}

impl Board {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        let real = std::fs::canonicalize(self.dir.path()).unwrap();
        real.join(name).display().to_string()
    }

    fn file(&self) -> PolicyFile {
        PolicyFile::of_user(self.path("policy.toml").into(), nix::unistd::getuid().as_raw())
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path("policy.toml"), text).unwrap();
        self.mode("policy.toml", 0o644);
    }

    fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn admit(&self, asked: HostAccess) -> Result<Admitted, NotAdmitted> {
        self.file().admit(&"web".parse().unwrap(), asked)
    }
}

fn mount(host: &str) -> HostAccess {
    let path =
        HostPath { host: host.into(), path: "/data".into(), read_only: false, shared: false };
    HostAccess { paths: vec![path], ..HostAccess::default() }
}

fn device(path: &str) -> HostAccess {
    let device = Device { path: path.into(), target: path.into(), permissions: "rw".into() };
    HostAccess { devices: vec![device], ..HostAccess::default() }
}

fn denied(result: Result<Admitted, NotAdmitted>) -> String {
    match result {
        Err(NotAdmitted::Denied(text)) => text,
        other => panic!("not denied: {other:?}"),
    }
}

#[test]
fn no_file_allows_nothing_and_is_no_trouble() {
    let board = Board::new();
    assert_eq!(board.file().look(None).state, PolicyState::default());
    let asked = HostAccess { privileged: true, ..HostAccess::default() };
    assert!(denied(board.admit(asked)).contains("`privileged = true`"));
    assert_eq!(board.admit(HostAccess::default()), Ok(Admitted::default()));
}

#[test]
fn a_file_that_others_may_write_counts_as_absent_and_says_how_to_mend_it() {
    let board = Board::new();
    board.write("privileged = true\n");
    assert!(board.file().look(None).state.policy.every.privileged);
    for mode in [0o664, 0o646] {
        board.mode("policy.toml", mode);
        let state = board.file().look(None).state;
        assert!(!state.policy.every.privileged);
        assert!(state.trouble.unwrap().contains("chmod go-w"));
    }
    board.mode("policy.toml", 0o600);
    assert!(board.file().look(None).state.policy.every.privileged);
    board.mode("", 0o777);
    assert!(board.file().look(None).state.trouble.unwrap().contains("chmod go-w"));
}

#[test]
fn a_file_of_another_user_counts_as_absent() {
    let board = Board::new();
    board.write("privileged = true\n");
    let uid = nix::unistd::getuid().as_raw();
    let stranger = if uid == ROOT { 12_345 } else { uid };
    if uid == ROOT {
        let owner = Some(nix::unistd::Uid::from_raw(stranger));
        nix::unistd::chown(board.path("policy.toml").as_str(), owner, None).unwrap();
    }
    let file = PolicyFile::at(board.path("policy.toml").into());
    let state = file.look(None).state;
    assert!(!state.policy.every.privileged);
    let trouble = state.trouble.unwrap();
    assert!(trouble.contains(&format!("belongs to user {stranger}")), "{trouble}");
    assert!(trouble.contains("chown root:root"), "{trouble}");
}

#[test]
fn a_mistake_in_the_file_allows_nothing_and_names_line_and_mend() {
    let board = Board::new();
    board.write("privileged = true\nhost_path = [\"/mnt\"]\n");
    let state = board.file().look(None).state;
    assert_eq!(state.policy, NodePolicy::default());
    let trouble = state.trouble.unwrap();
    assert!(trouble.contains("policy.toml:2:1") && trouble.contains("`host_paths`"), "{trouble}");
    assert!(!trouble.contains('\n'));
}

#[test]
fn the_text_is_read_again_when_the_file_or_who_may_write_it_changes() {
    let board = Board::new();
    let first = board.file().look(None);
    assert_eq!(board.file().look(Some(&first)), first);
    board.write("host_network = true\n");
    let second = board.file().look(Some(&first));
    assert!(second.state.policy.every.host_network);
    assert_eq!(board.file().look(Some(&second)), second);
    board.mode("policy.toml", 0o666);
    let third = board.file().look(Some(&second));
    assert!(third.state.trouble.is_some());
    std::fs::remove_file(board.path("policy.toml")).unwrap();
    assert_eq!(board.file().look(Some(&third)).state, PolicyState::default());
}

#[test]
fn a_path_is_admitted_where_it_leads_and_not_where_its_name_points() {
    let board = Board::new();
    for folder in ["media", "media/films", "secret"] {
        std::fs::create_dir(board.path(folder)).unwrap();
    }
    symlink(board.path("secret"), board.path("media/link")).unwrap();
    symlink(board.path("media/films"), board.path("media/inner")).unwrap();
    symlink(board.path("media"), board.path("disk")).unwrap();
    let (media, disk) = (board.path("media"), board.path("disk"));
    board.write(&format!("host_paths = [{media:?}, {disk:?}]\n"));
    for inside in ["media", "media/films", "media/inner", "disk/films"] {
        assert!(board.admit(mount(&board.path(inside))).is_ok(), "{inside}");
    }
    let text = denied(board.admit(mount(&board.path("media/link"))));
    assert!(text.contains(&format!("leads to {}", board.path("secret"))), "{text}");
    let text = denied(board.admit(mount(&board.path("media/link/../secret"))));
    assert!(text.contains("host_paths"), "{text}");
    denied(board.admit(mount(&board.path("media/../secret"))));
    denied(board.admit(mount(&board.path("secret"))));
    let missing = board.admit(mount(&board.path("media/none")));
    assert!(matches!(missing, Err(NotAdmitted::Missing { what: "the host path", .. })));
}

#[test]
fn a_device_is_admitted_where_it_is_one() {
    let board = Board::new();
    board.write("devices = [\"/dev/null\", \"/dev/zer*\", \"/dev/none\", \"/dev/stdin\"]\n");
    let looked = board.file().look(None);
    let devices = &looked.state.devices;
    assert!(devices.contains("/dev/null") && devices.contains("/dev/zero"), "{devices:?}");
    assert!(!devices.contains("/dev/none"));
    assert!(board.admit(device("/dev/null")).is_ok() && board.admit(device("/dev/zero")).is_ok());
    denied(board.admit(device("/dev/full")));
    let missing = board.admit(device("/dev/none"));
    assert!(matches!(missing, Err(NotAdmitted::Missing { what: "the device", .. })));
}

#[test]
fn a_device_is_looked_for_where_the_boards_devices_are_seen() {
    let board = Board::new();
    board.write("devices = [\"/dev/null\", \"/dev/zer*\"]\n");
    let seen_at = |folder: &str| board.file().with_devices_at(folder.into());
    let admits = |file: &PolicyFile| file.admit(&"web".parse().unwrap(), device("/dev/zero"));
    let elsewhere = seen_at("/proc/self/root/dev");
    assert!(elsewhere.look(None).state.devices.contains("/dev/zero"));
    assert!(admits(&elsewhere).is_ok());
    std::fs::create_dir(board.path("none")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", board.path("none/zero")).unwrap();
    let without = seen_at(&board.path("none"));
    assert!(without.look(None).state.devices.contains("/dev/zero"), "by its name it may be one");
    denied(admits(&without));
    assert!(!without.look(None).state.devices.contains("/dev/null"));
}
