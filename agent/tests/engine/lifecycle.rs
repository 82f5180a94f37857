//! From create to remove.

use agent::engine::{ContainerState, Engine as _, EngineError, Mount, Ours, Signal};
use protocol::spec::{Amounts, Resources};
use protocol::units::{Bytes, MilliCpu};

use super::stage::{on_stage, run};

#[test]
fn a_container_lives_from_create_to_remove_and_every_call_can_be_repeated() {
    on_stage(|stage| async move {
        let network = stage.network().await;
        assert_eq!(network, stage.network().await);
        let spec = stage.spec(&network, 0, &[]);
        let id = stage.docker.create(&spec).await.unwrap();
        assert_eq!(stage.docker.create(&spec).await.unwrap(), id);
        let created = stage.container(&id).await.unwrap();
        assert_eq!((&created.state, created.run.as_str()), (&ContainerState::Created, ""));
        assert_eq!(created.identity, spec.identity);
        assert_eq!(created.address, Some(spec.address));

        stage.docker.start(&id).await.unwrap();
        stage.docker.start(&id).await.unwrap();
        let running = stage.container(&id).await.unwrap();
        let ContainerState::Running { age_ms } = running.state else { panic!("{running:?}") };
        assert!(age_ms < 60_000, "{age_ms}");
        assert!(!running.run.is_empty());
        let refused = stage.docker.remove(&id).await;
        assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");
        let refused = stage.docker.remove_network(&network.id).await;
        assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");

        // An application that has not come to asking for it is ended by the signal itself.
        stage.says(&id, "event=listening").await;
        stage.docker.signal(&id, Signal::Term).await.unwrap();
        assert_eq!(stage.exit(&id).await, (0, false));
        stage.docker.signal(&id, Signal::Term).await.unwrap();
        stage.docker.signal(&id, Signal::Kill).await.unwrap();
        let ended = stage.container(&id).await.unwrap();
        assert_eq!(ended.address, Some(spec.address));
        stage.docker.start(&id).await.unwrap();
        assert_ne!(stage.container(&id).await.unwrap().run, running.run);

        stage.docker.signal(&id, Signal::Kill).await.unwrap();
        // Whether memory was why: the kernel counts the kills of the whole machine, those of the tests beside this one too.
        assert_eq!(stage.exit(&id).await.0, 137);
        for _ in 0..2 {
            stage.docker.remove(&id).await.unwrap();
            stage.docker.signal(&id, Signal::Term).await.unwrap();
        }
        assert_eq!(stage.docker.containers(&stage.ours).await.unwrap(), []);
        for _ in 0..2 {
            stage.docker.remove_network(&network.id).await.unwrap();
        }
        assert_eq!(stage.docker.networks(&stage.ours).await.unwrap(), []);
        let gone = stage.docker.start(&id).await;
        assert!(matches!(gone, Err(EngineError::NotFound(_))), "{gone:?}");
    });
}

#[test]
fn an_application_that_ends_by_itself_leaves_its_code() {
    on_stage(|stage| async move {
        let id = stage.running(&[("EXIT_AFTER_S", "0.1"), ("EXIT_CODE", "3")]).await;
        assert_eq!(stage.exit(&id).await, (3, false));
    });
}

#[test]
fn a_kill_for_memory_is_told_apart() {
    on_stage(|stage| async move {
        if !stage.docker.info().await.unwrap().limits_memory {
            eprintln!("SKIPPED: this Docker does not enforce memory limits");
            return;
        }
        let network = stage.network().await;
        let mut spec = stage.spec(&network, 0, &[("HOLD_MEMORY_MB", "64")]);
        let memory = Some(Bytes(16 << 20));
        spec.resources.limits = Amounts { memory, cpu: None };
        // The process is PID 1, so that the kernel's kill ends the container itself.
        spec.process.init = false;
        let id = stage.docker.create(&spec).await.unwrap();
        stage.docker.start(&id).await.unwrap();
        assert_eq!(stage.exit(&id).await, (137, true));
    });
}

#[test]
fn what_the_spec_says_is_what_docker_is_asked_for() {
    on_stage(|stage| async move {
        let network = stage.network().await;
        let mut spec = stage.spec(&network, 0, &[("VERSION", "from-spec")]);
        let cpu = Some(MilliCpu(1_000_000));
        spec.resources = Resources {
            requests: Amounts { memory: Some(Bytes(8 << 20)), cpu: Some(MilliCpu(500)) },
            limits: Amounts { memory: Some(Bytes(32 << 20)), cpu },
        };
        spec.process.read_only = true;
        spec.process.user = Some("1000:1000".to_owned());
        spec.process.working_dir = Some("/data".to_owned());
        spec.process.cap_drop.insert("ALL".to_owned());
        spec.process.tmpfs.insert("/scratch".to_owned(), Some(Bytes(1 << 20)));
        let files = protocol::spec::Ulimit { soft: 512, hard: 1024 };
        spec.process.ulimits.insert("nofile".to_owned(), files);
        spec.process.labels.insert("team".to_owned(), "a".to_owned());
        let volume = format!("{}-data", spec.network());
        let data = Mount {
            volume: volume.clone(),
            path: "/data".to_owned(),
            read_only: false,
            is_shared: false,
        };
        spec.mounts = vec![data];
        let id = stage.docker.create(&spec).await.unwrap();
        stage.docker.start(&id).await.unwrap();
        let inspect = |format: &str| run("docker", &["inspect", "--format", format, &id]);
        let cases = [
            ("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Init}}", "true true"),
            ("{{.Config.User}} {{.Config.WorkingDir}}", "1000:1000 /data"),
            ("{{.HostConfig.CapDrop}}", "[ALL]"),
            ("{{json .HostConfig.Tmpfs}}", r#"{"/scratch":"size=1048576"}"#),
            (
                "{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}}{{end}}",
                "nofile=512:1024",
            ),
            ("{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}}", "33554432 8388608"),
            ("{{.HostConfig.CpuShares}}", "512"),
            ("{{.HostConfig.RestartPolicy.Name}}", "no"),
            ("{{.Config.Healthcheck.Test}}", "[NONE]"),
            (
                "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}}",
                "json-file map[max-file:3 max-size:10m]",
            ),
            ("{{index .Config.Labels \"team\"}}", "a"),
            ("{{len .HostConfig.PortBindings}}", "0"),
            ("{{range .Mounts}}{{.Destination}}:{{.RW}} {{end}}", "/data:true /etc/hosts:false"),
        ];
        for (format, expected) in cases {
            let seen = inspect(format);
            let mut words: Vec<&str> = seen.split_whitespace().collect();
            let mut wanted: Vec<&str> = expected.split_whitespace().collect();
            words.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(words, wanted, "{format}");
        }
        // More processor than there is is no bound; Docker would refuse it.
        let cores = i64::from(stage.docker.info().await.unwrap().cores);
        assert_eq!(inspect("{{.HostConfig.NanoCpus}}"), (cores * 1_000_000_000).to_string());
        stage.docker.signal(&id, Signal::Kill).await.unwrap();
        stage.exit(&id).await;
        stage.docker.remove(&id).await.unwrap();
        assert_eq!(run("docker", &["volume", "inspect", "--format", "{{.Name}}", &volume]), volume);
    });
}

#[test]
fn containers_of_another_node_and_of_nobody_are_not_seen() {
    on_stage(|stage| async move {
        let id = stage.running(&[]).await;
        let name = format!("bystander-{}", stage.ours.node.short());
        let node = format!("io.pith.node={}", stage.ours.node);
        // Our node's id alone, without the fleet's, is not ours either.
        run("docker", &["run", "-d", "--label", &node, "--name", &name, "pith-demo:v1"]);
        let other_node = Ours { node: "0".repeat(32).parse().unwrap(), ..stage.ours.clone() };
        assert_eq!(stage.docker.containers(&other_node).await.unwrap(), []);
        assert_eq!(stage.docker.networks(&other_node).await.unwrap(), []);
        let mine = stage.docker.containers(&stage.ours).await.unwrap();
        assert_eq!(mine.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    });
}

#[test]
fn a_name_that_is_taken_by_another_container_is_a_conflict() {
    on_stage(|stage| async move {
        let network = stage.network().await;
        let spec = stage.spec(&network, 0, &[]);
        let node = format!("io.pith.node={}", stage.ours.node);
        run("docker", &["create", "--label", &node, "--name", &spec.name(), "pith-demo:v1"]);
        let refused = stage.docker.create(&spec).await;
        assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");
    });
}

#[test]
fn an_address_that_another_instance_has_is_refused_at_the_start() {
    on_stage(|stage| async move {
        let network = stage.network().await;
        let first = stage.spec(&network, 0, &[]);
        let mut second = stage.spec(&network, 1, &[]);
        second.address = first.address;
        let first = stage.docker.create(&first).await.unwrap();
        stage.docker.start(&first).await.unwrap();
        let second = stage.docker.create(&second).await.unwrap();
        let refused = stage.docker.start(&second).await;
        assert!(matches!(refused, Err(EngineError::AddressTaken(_))), "{refused:?}");
    });
}

#[test]
fn a_program_that_is_not_in_the_image_is_refused_for_good() {
    on_stage(|stage| async move {
        let network = stage.network().await;
        let mut spec = stage.spec(&network, 0, &[]);
        spec.process.entrypoint = Some(vec!["/not-there".to_owned()]);
        spec.process.init = false;
        let id = stage.docker.create(&spec).await.unwrap();
        let refused = stage.docker.start(&id).await.unwrap_err();
        assert!(refused.is_permanent(), "{refused:?}");
        assert_eq!(stage.container(&id).await.unwrap().state, ContainerState::Created);
    });
}
