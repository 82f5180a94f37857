//! What is seen of running containers: events, logs, commands; and an engine that is not there.

use agent::engine::docker::Docker;
use agent::engine::{
    Action, Engine as _, EngineError, EngineEvent, ExecOutcome, MAX_EXEC_OUTPUT_BYTES, Signal,
};

use tokio::net::{UnixListener, UnixStream};

use super::stage::{Stage, on_stage};

const DOCKER: &str = "/var/run/docker.sock";

#[test]
fn what_happens_to_our_containers_is_told() {
    on_stage(|stage| async move {
        let mut events = stage.docker.events(&stage.ours);
        assert_eq!(events.next().await, Some(EngineEvent::Restored));
        let id = stage.running(&[]).await;
        stage.docker.signal(&id, Signal::Kill).await.unwrap();
        stage.exit(&id).await;
        stage.docker.remove(&id).await.unwrap();
        for action in [Action::Create, Action::Start, Action::Die, Action::Destroy] {
            let expected = EngineEvent::Container { id: id.clone(), action };
            assert_eq!(events.next().await, Some(expected));
        }
    });
}

#[test]
fn a_daemon_that_goes_and_comes_back_is_told() {
    on_stage(|stage| async move {
        let path = stage.folder.path().join("relay.sock");
        let relay = tokio::task::spawn_local(relay(UnixListener::bind(&path).unwrap()));
        let docker = Docker::at(&path.display().to_string());
        let mut events = docker.events(&stage.ours);
        assert_eq!(events.next().await, Some(EngineEvent::Restored));
        // All connections go with the relay, and its socket file stays, as when a daemon is killed.
        relay.abort();
        assert_eq!(events.next().await, Some(EngineEvent::Lost));
        assert!(matches!(docker.networks(&stage.ours).await, Err(EngineError::Unavailable(_))));
        std::fs::remove_file(&path).unwrap();
        tokio::task::spawn_local(self::relay(UnixListener::bind(&path).unwrap()));
        assert_eq!(events.next().await, Some(EngineEvent::Restored));
        let id = stage.running(&[]).await;
        let created = EngineEvent::Container { id, action: Action::Create };
        assert_eq!(events.next().await, Some(created));
    });
}

/// Passes connections on to the real daemon; all of them end with it.
async fn relay(listener: UnixListener) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (mut here, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let mut there = UnixStream::connect(DOCKER).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
        });
    }
}

#[test]
fn the_last_lines_of_a_log_are_read_oldest_first() {
    on_stage(|stage| async move {
        let id = stage.running(&[("CRASH", "1")]).await;
        stage.exit(&id).await;
        let all = stage.docker.logs_tail(&id, 100).await.unwrap();
        assert!(!all.is_empty());
        let last = stage.docker.logs_tail(&id, 1).await.unwrap();
        assert_eq!(last.as_slice(), &all[all.len() - 1..]);
        let gone = stage.docker.logs_tail("0123456789ab", 1).await;
        assert!(matches!(gone, Err(EngineError::NotFound(_))), "{gone:?}");
    });
}

#[test]
fn a_command_inside_gives_its_code_and_what_it_wrote() {
    on_stage(|stage| async move {
        let id = stage.running(&[]).await;
        let probe = |path: &str| ["/demo-app", "probe", path].map(str::to_owned);
        until_ready(&stage, &id).await;
        let failed = stage.docker.exec(&id, &probe("/nowhere"), 5_000).await.unwrap();
        let ExecOutcome::Exited { code, output } = failed else { panic!("{failed:?}") };
        assert_ne!(code, 0);
        assert!(output.len() <= MAX_EXEC_OUTPUT_BYTES);
        let missing = stage.docker.exec(&id, &["/not-there".to_owned()], 5_000).await;
        let is_failure =
            |outcome: &ExecOutcome| matches!(outcome, ExecOutcome::Exited { code: 126 | 127, .. });
        assert!(missing.as_ref().map_or(true, is_failure), "{missing:?}");
        let late = stage.docker.exec(&id, &["/demo-app".to_owned()], 0).await.unwrap();
        assert_eq!(late, ExecOutcome::TimedOut);
    });
}

/// The application inside answers its own probe.
async fn until_ready(stage: &Stage, id: &str) {
    let command = ["/demo-app", "probe", "/ready"].map(str::to_owned);
    loop {
        let outcome = stage.docker.exec(id, &command, 5_000).await.unwrap();
        if matches!(outcome, ExecOutcome::Exited { code: 0, .. }) {
            return;
        }
    }
}

#[test]
fn an_engine_that_is_not_there_is_unavailable_and_says_where() {
    on_stage(|stage| async move {
        let path = stage.folder.path().join("docker.sock");
        let docker = Docker::at(&path.display().to_string());
        let missing = docker.containers(&stage.ours).await.unwrap_err();
        assert!(matches!(missing, EngineError::Unavailable(_)), "{missing:?}");
        assert!(missing.to_string().contains("docker.sock"), "{missing}");
        // A daemon that was killed leaves its socket file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let refused = docker.containers(&stage.ours).await.unwrap_err();
        assert!(matches!(refused, EngineError::Unavailable(_)), "{refused:?}");
        assert!(refused.to_string().contains("refused"), "{refused}");
    });
}

#[test]
fn what_the_engine_is_can_be_asked() {
    on_stage(|stage| async move {
        let info = stage.docker.info().await.unwrap();
        assert!(["amd64", "arm64"].contains(&info.architecture.as_str()), "{info:?}");
        assert_eq!(info.os, "linux");
        assert!(info.cores > 0 && info.memory_bytes > 0 && info.root_dir.starts_with('/'));
    });
}
