//! The fake behaves as Docker would.

use protocol::id::{Digest, ReleaseId, ServiceName};
use protocol::release::Pin;
use tokio::task::LocalSet;

use super::*;
use crate::engine::fake::{Behaviour, Daemon, Ending};
use crate::engine::{Action, ContainerState, Identity, PullError};

fn ours() -> Ours {
    Ours { fleet: "a".repeat(32).parse().unwrap(), node: "b".repeat(32).parse().unwrap() }
}

fn image() -> Image {
    let digest: Digest = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
    Image { reference: "r.local/web:v1".to_owned(), pin: Pin::Digest(digest) }
}

fn network() -> NetworkSpec {
    NetworkSpec {
        ours: ours(),
        environment: "default".parse().unwrap(),
        service: "web".parse().unwrap(),
        subnet: "10.213.0.0/26".parse().unwrap(),
    }
}

fn spec(slot: u32, host: u8) -> ContainerSpec {
    let release: ReleaseId = "c".repeat(64).parse().unwrap();
    let service: ServiceName = "web".parse().unwrap();
    ContainerSpec {
        ours: ours(),
        identity: Identity {
            environment: "default".parse().unwrap(),
            service,
            release,
            template: "d".repeat(64).parse().unwrap(),
            slot,
        },
        image: image(),
        process: protocol::spec::Container::default(),
        resources: protocol::spec::Resources::default(),
        mounts: Vec::new(),
        secrets: Vec::new(),
        address: [10, 213, 0, host].into(),
        hosts_file: "/run/pith/hosts".into(),
        access: crate::policy::Admitted::default(),
    }
}

fn state(engine: &FakeEngine, id: &str) -> ContainerState {
    let containers = engine.with(|docker| docker.containers(&ours())).unwrap();
    containers.into_iter().find(|container| container.id == id).unwrap().state
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn prepared(behaviour: Behaviour) -> FakeEngine {
    let engine = FakeEngine::default();
    engine.with(|docker| {
        docker.add_image(&image(), behaviour);
        docker.create_network(&network()).unwrap();
    });
    engine
}

#[test]
fn a_container_lives_from_create_to_remove() {
    let behaviour = Behaviour {
        start_ms: 100,
        ready_after_ms: Some(500),
        stops_after_ms: Some(200),
        ..Behaviour::default()
    };
    let engine = prepared(behaviour);
    run(async {
        let id = engine.create(&spec(0, 2)).await.unwrap();
        assert_eq!(engine.create(&spec(0, 2)).await.unwrap(), id);
        assert_eq!(state(&engine, &id), ContainerState::Created);
        let starting = engine.clone();
        let started_id = id.clone();
        let start = tokio::task::spawn_local(async move { starting.start(&started_id).await });
        tokio::task::yield_now().await;
        assert!(!start.is_finished());
        engine.advance(100);
        start.await.unwrap().unwrap();
        assert_eq!(state(&engine, &id), ContainerState::Running { age_ms: 0 });
        assert!(!engine.with(|docker| docker.is_ready(&id)));
        engine.advance(500);
        assert!(engine.with(|docker| docker.is_ready(&id)));
        assert!(matches!(engine.remove(&id).await, Err(EngineError::Conflict(_))));
        engine.signal(&id, Signal::Term).await.unwrap();
        engine.advance(250);
        let ended = ContainerState::Exited { age_ms: 50, code: 0, oom: false };
        assert_eq!(state(&engine, &id), ended);
        engine.remove(&id).await.unwrap();
        engine.remove(&id).await.unwrap();
        engine.signal(&id, Signal::Kill).await.unwrap();
        assert_eq!(engine.containers(&ours()).await.unwrap(), []);
    });
}

#[test]
fn a_crash_is_told_and_the_exit_kept() {
    let ends = Some(Ending { after_ms: 30, code: 137, oom: true });
    let engine = prepared(Behaviour { ends, ..Behaviour::default() });
    run(async {
        let id = engine.create(&spec(0, 2)).await.unwrap();
        let mut events = engine.events(&ours());
        engine.start(&id).await.unwrap();
        engine.advance(1_000);
        let ended = ContainerState::Exited { age_ms: 970, code: 137, oom: true };
        assert_eq!(state(&engine, &id), ended);
        let event = |action| EngineEvent::Container { id: id.clone(), action };
        for expected in
            [EngineEvent::Restored, event(Action::Start), event(Action::Oom), event(Action::Die)]
        {
            assert_eq!(events.next().await, Some(expected));
        }
    });
}

#[test]
fn two_running_containers_never_share_an_address() {
    let engine = prepared(Behaviour::default());
    run(async {
        let first = engine.create(&spec(0, 2)).await.unwrap();
        let second = engine.create(&spec(1, 2)).await.unwrap();
        engine.start(&first).await.unwrap();
        assert!(matches!(engine.start(&second).await, Err(EngineError::AddressTaken(_))));
    });
}

#[test]
fn a_pull_comes_fails_or_is_cancelled() {
    let engine = FakeEngine::default();
    run(async {
        let failed = engine.pull(&image(), None).finish().await;
        assert!(matches!(failed, PullUpdate::Failed { error: PullError::NotFound, .. }));
        let comes = PullOutcome::Comes { takes_ms: 400, bytes: 1_000 };
        engine.with(|docker| docker.set_registry(&image(), comes, Behaviour::default()));
        drop(engine.pull(&image(), None));
        let mut pull = engine.pull(&image(), None);
        engine.advance(0);
        tokio::task::yield_now().await;
        engine.advance(100);
        assert_eq!(pull.next().await, Some(PullUpdate::Progress { bytes: 250, total: 1_000 }));
        assert_eq!(engine.image(&image()).await.unwrap(), None);
        engine.advance(300);
        assert_eq!(pull.finish().await, PullUpdate::Done);
        assert!(engine.image(&image()).await.unwrap().is_some());
    });
}

#[test]
fn a_daemon_that_is_away_answers_nothing_and_stops_nothing() {
    let engine = prepared(Behaviour::default());
    run(async {
        let id = engine.create(&spec(0, 2)).await.unwrap();
        engine.start(&id).await.unwrap();
        engine.with(|docker| docker.set_daemon(Daemon::Away));
        assert!(matches!(engine.containers(&ours()).await, Err(EngineError::Unavailable(_))));
        engine.with(|docker| docker.set_daemon(Daemon::Answers));
        assert_eq!(state(&engine, &id), ContainerState::Running { age_ms: 0 });
        let full = EngineError::NoSpace("no space left on device".to_owned());
        engine.with(|docker| docker.fail_next(Call::Create, full.clone()));
        assert_eq!(engine.create(&spec(1, 3)).await, Err(full));
        assert!(engine.create(&spec(1, 3)).await.is_ok());
    });
}
