//! What a container gets of the node, read back from Docker: the executor asks that again before each start.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use agent::engine::Engine as _;
use agent::policy::PolicyFile;
use protocol::spec::{Device, HostAccess, HostPath};

use super::stage::on_stage;

fn everything(host: String) -> HostAccess {
    let (path, target) = ("/dev/null".to_owned(), "/dev/stick".to_owned());
    HostAccess {
        privileged: true,
        network: true,
        capabilities: ["NET_ADMIN".to_owned(), "SYS_TIME".to_owned()].into(),
        devices: vec![Device { path, target, permissions: "rw".into() }],
        paths: vec![HostPath { host, path: "/data".into(), read_only: true, shared: false }],
    }
}

#[test]
fn docker_tells_of_a_container_what_was_asked_for_it_and_nothing_of_a_plain_one() {
    // A policy is root's file: without root there is none that admits anything.
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        eprintln!("SKIPPED: only root can write a policy that counts");
        return;
    }
    on_stage(|stage| async move {
        let folder = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(folder.path()).unwrap().display().to_string();
        let path = folder.path().join("policy.toml");
        let text = format!(
            "privileged = true\nhost_network = true\nhost_paths = [{real:?}]\ndevices = [\"/dev/null\"]\n\
             capabilities = [\"NET_ADMIN\", \"SYS_TIME\"]\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let network = stage.network().await;

        let plain = stage.docker.create(&stage.spec(&network, 0, &[])).await.unwrap();
        let (service, has) = stage.docker.access(&plain).await.unwrap().unwrap();
        assert_eq!((service.as_str(), has), ("web", HostAccess::default()));

        let asked = everything(real);
        let access = PolicyFile::at(path).admit(&service, asked.clone()).unwrap();
        let spec = stage.spec(&network, 1, &[]).with_access(access);
        let greedy = stage.docker.create(&spec).await.unwrap();
        let (_, has) = stage.docker.access(&greedy).await.unwrap().unwrap();
        assert_eq!(has, asked);
        stage.docker.remove(&greedy).await.unwrap();
        assert_eq!(stage.docker.access(&greedy).await.unwrap(), None);
    });
}
