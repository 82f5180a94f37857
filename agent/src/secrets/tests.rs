//! Copies open for their node alone, files are of the right user and mode, and nothing is written to a disk.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::testing;

/// On tmpfs, as a board's `/run` is.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn key() -> OpeningKey {
    OpeningKey::from_bytes([3; 32])
}

fn sealed(node: &NodeIdentity, name: &str, value: &[u8]) -> Copy {
    let name: SecretName = name.parse().unwrap();
    let reader = Reader::Node(node.node.clone());
    let label = Label {
        fleet: &node.fleet,
        environment: &node.environment,
        name: &name,
        version: 1,
        reader: &reader,
    };
    let sealed = secret::seal(&label, &key().public(), &Clear::new(value.to_vec()), [4; 32]);
    Copy { version: 1, sealed: sealed.unwrap(), name, registry: None }
}

fn spec(text: &str) -> ServiceSpec {
    let text = format!("name = \"web\"\nimage = \"web:v1\"\n{text}");
    protocol::file::parse("web.toml", &text).unwrap_or_else(|e| panic!("{e}")).spec
}

const ONE: &str = "[[secrets]]\nname = \"db\"\n";

#[test]
fn a_file_is_the_users_alone_in_memory_and_goes_with_the_container() {
    let (dir, node) = (memory(), testing::identity());
    let files = SecretFiles::at(dir.path().join("secrets"), Vault::new(key()));
    let copies = [sealed(&node, "db", b"hunter2")];
    let user = format!("{}:{}", testing::uid(), nix::unistd::getgid());
    let placed = files.place("c1", (&node, &spec(ONE), &copies), &user).unwrap();
    let [(path, inside)] = placed.as_slice() else { panic!("{placed:?}") };
    assert_eq!(inside, "/run/secrets/db");
    assert_eq!(fs::read(path).unwrap(), b"hunter2");
    let seen = fs::metadata(path).unwrap();
    assert_eq!((seen.mode() & 0o777, seen.uid()), (0o400, testing::uid()));
    assert!(files.holds(path.to_str().unwrap()) && !files.holds("/run/secrets/db"));
    // After a reboot the files are gone, and the sealed copies make them again; what is there stays the same file.
    assert_eq!(files.place("c1", (&node, &spec(ONE), &[]), &user).unwrap(), placed);
    files.forget("c1");
    assert!(!path.exists());
    assert_eq!(files.place("c1", (&node, &spec(ONE), &copies), &user).unwrap(), placed);
}

#[test]
fn a_login_is_for_the_registry_that_was_sealed_into_it() {
    let (dir, node) = (memory(), testing::identity());
    let files = SecretFiles::at(dir.path().join("secrets"), Vault::new(key()));
    let value = br#"{"registry":"r.io","username":"pi","password":"raspberry"}"#;
    let copy = sealed(&node, "r", value);
    assert_eq!(files.login(&node, &copy, "r.io").unwrap().password, "raspberry");
    let error = files.login(&node, &copy, "evil.io").unwrap_err().to_string();
    assert!(error.contains("another registry") && !error.contains("raspberry"), "{error}");
    let error = files.login(&node, &sealed(&node, "r", b"raspberry"), "r.io").unwrap_err();
    assert!(error.to_string().contains("no login"), "{error}");
}

#[test]
fn nothing_is_written_to_a_disk() {
    let (dir, node) =
        (tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap(), testing::identity());
    let files = SecretFiles::at(dir.path().join("secrets"), Vault::new(key()));
    let copies = [sealed(&node, "db", b"hunter2")];
    let refused = files.place("c1", (&node, &spec(ONE), &copies), "0").unwrap_err();
    assert!(matches!(refused, SecretError::NotInMemory(_)) && refused.is_permanent());
    assert!(refused.to_string().contains("`secrets_dir` in agent.toml"), "{refused}");
    let left = fs::read_dir(dir.path().join("secrets/c1")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn a_copy_for_another_node_or_environment_is_refused() {
    let node = testing::identity();
    let vault = Vault::new(key());
    assert_eq!(vault.open(&node, &sealed(&node, "db", b"x")).unwrap().bytes(), b"x");
    let other = NodeIdentity { node: "f".repeat(32).parse().unwrap(), ..node.clone() };
    assert_eq!(vault.open(&node, &sealed(&other, "db", b"x")).err(), Some(NotOpened));
    let staging = NodeIdentity { environment: "staging".parse().unwrap(), ..node.clone() };
    assert_eq!(vault.open(&node, &sealed(&staging, "db", b"x")).err(), Some(NotOpened));
    let renamed = Copy { name: "db2".parse().unwrap(), ..sealed(&node, "db", b"x") };
    assert_eq!(vault.open(&node, &renamed).err(), Some(NotOpened));
    let newer = Copy { version: 2, ..sealed(&node, "db", b"x") };
    assert_eq!(vault.open(&node, &newer).err(), Some(NotOpened));
    assert_eq!(Vault::default().open(&node, &sealed(&node, "db", b"x")).err(), Some(NotOpened));
}

#[test]
fn a_user_who_is_a_name_and_a_variable_that_is_no_text_are_named() {
    let (dir, node) = (memory(), testing::identity());
    let files = SecretFiles::at(dir.path().join("secrets"), Vault::new(key()));
    let copies = [sealed(&node, "db", b"\xff\xfe")];
    let refused = files.place("c1", (&node, &spec(ONE), &copies), "app").unwrap_err();
    assert!(refused.to_string().contains("user = \"1000\""), "{refused}");
    let spec = spec("env = { DB = { secret = \"db\" } }");
    let refused = files.variables(&node, &spec, &copies).unwrap_err();
    assert!(refused.to_string().contains("`db` is not text"), "{refused}");
    let copies = [sealed(&node, "db", b"hunter2")];
    assert_eq!(files.variables(&node, &spec, &copies).unwrap()["DB"], "hunter2");
}
