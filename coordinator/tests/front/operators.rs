//! Operators from afar: invitation, roles, kinds of certificates, revocation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use coordinator::client::{Client, ClientError};
use coordinator::login::{Credentials, OwnKey, read_invitation};
use coordinator::role::Role;
use coordinator::state::requests::{Login, NewOperator, NewToken, RenewLogin, SetSecret};
use coordinator::state::views::EventFilter;
use protocol::join::Token;
use rcgen::KeyPair;

use crate::board::{Fleet, connect, send_as, tls};

const ID_REJECTED: u8 = 2;

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer {
        Err(ClientError::Refused(problem)) => problem.code,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

fn as_operator(own: &Credentials) -> Client {
    Client::operator(own).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_what_it_may_and_a_refusal_names_both() {
    let fleet = Fleet::start().await;
    let board = fleet.member("opi-1").await;
    let viewer = as_operator(&fleet.log_in("vera", Role::Viewer).await);
    let deployer = as_operator(&fleet.log_in("dora", Role::Deployer).await);
    let operator = as_operator(&fleet.log_in("otto", Role::Operator).await);
    let security = as_operator(&fleet.log_in("susi", Role::Security).await);
    for client in [&viewer, &deployer, &operator, &security] {
        assert_eq!(client.fleet().await.unwrap().fleet, *fleet.ca().fleet());
    }
    let web = protocol::id::ServiceId {
        environment: "default".parse().unwrap(),
        name: "web".parse().unwrap(),
    };
    assert_eq!(code(viewer.remove(&web).await), "role");
    assert_eq!(code(deployer.remove(&web).await), "no_service", "the role is enough");
    let Err(ClientError::Refused(problem)) = deployer.revoke("opi-1").await else {
        panic!("a deployer revokes no node")
    };
    let said = problem.message;
    assert!(
        said.contains("needs the role operator") && said.contains("the role deployer"),
        "{said}"
    );
    assert_eq!(code(deployer.audit(0).await), "role");
    assert_eq!(operator.revoke("opi-1").await.unwrap().id, board.id());
    assert_eq!(code(operator.revoke_operator(&"vera".parse().unwrap()).await), "role");
    assert_eq!(security.revoke_operator(&"vera".parse().unwrap()).await.unwrap().status, "revoked");
    assert_eq!(code(viewer.fleet().await), "not_an_operator");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_good_once_and_only_for_the_coordinator_that_made_it() {
    let fleet = Fleet::start().await;
    let word = fleet.invite("anna", Role::Viewer).await;
    let token = read_invitation(&word).unwrap();
    let login = |token: &Token| {
        let (id, secret) = (token.id.clone(), token.secret.clone());
        Login { token: id, secret, tls_key: OwnKey::make().unwrap().public().unwrap() }
    };
    let stranger = Client::stranger(&token).unwrap();
    stranger.login(&login(&token)).await.unwrap();
    assert_eq!(code(stranger.login(&login(&token)).await), "invitation_used");
    // The same address, and a CA that is not the invitation's: nothing is sent.
    let elsewhere = Fleet::start().await;
    let wrong = Token { addresses: vec![elsewhere.address().to_string()], ..token.clone() };
    let refused = Client::stranger(&wrong).unwrap().login(&login(&wrong)).await;
    assert!(matches!(refused, Err(ClientError::Distrust { .. })), "{refused:?}");
    // A board's token is no invitation, nor the other way round.
    let board = fleet.token(NewToken::default()).await;
    assert_eq!(code(stranger.login(&login(&board)).await), "invitation_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_certificate_is_nothing_to_the_api_and_an_operators_nothing_to_mqtt() {
    let fleet = Fleet::start().await;
    let board = fleet.member("opi-1").await;
    let node = Some((board.certificate.as_deref().unwrap(), &board.tls));
    for path in ["/v1/nodes", "/v1/audit"] {
        let (status, _, text) = send_as(&fleet, node, ("GET", path), "", b"").await;
        assert_eq!(status, 403, "{text}");
        assert!(text.contains("not_an_operator"), "{text}");
    }
    let anna = fleet.log_in("anna", Role::Security).await;
    let key = KeyPair::from_pem(&anna.key).unwrap();
    let own = Some((anna.certificate.as_str(), &key));
    let (status, _, _) = send_as(&fleet, own, ("GET", "/v1/nodes"), "", b"").await;
    assert_eq!(status, 200);
    for client_id in [board.id().as_str(), "anna", "operator:anna", "coordinator"] {
        let mut stream = tls(&fleet, own, None, None).await.unwrap();
        assert_eq!(connect(&mut stream, client_id).await.unwrap(), ID_REJECTED, "{client_id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_operator_is_cut_at_once_while_waiting_too() {
    let fleet = Fleet::start().await;
    let anna = as_operator(&fleet.log_in("anna", Role::Viewer).await);
    let version = anna.events(&EventFilter::default(), None).await.unwrap().version;
    let waits = tokio::spawn({
        let anna = anna.clone();
        async move { anna.events(&EventFilter::default(), Some(version + 1_000)).await }
    });
    // It stands in the coordinator once another request of the same connection pool was answered.
    anna.fleet().await.unwrap();
    let asked = Instant::now();
    fleet.client.revoke_operator(&"anna".parse().unwrap()).await.unwrap();
    assert_eq!(code(anna.fleet().await), "not_an_operator");
    eprintln!("refused after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(code(waits.await.unwrap()), "not_an_operator");
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_gives_the_certificate_back_and_the_name_is_free_again() {
    let fleet = Fleet::start().await;
    let anna = as_operator(&fleet.log_in("anna", Role::Viewer).await);
    assert_eq!(anna.logout().await.unwrap().status, "revoked");
    assert_eq!(code(anna.fleet().await), "not_an_operator");
    let again = as_operator(&fleet.log_in("anna", Role::Deployer).await);
    assert_eq!(again.fleet().await.unwrap().nodes, 0);
    let name = "anna".parse().unwrap();
    let (role, ttl_ms, addresses) = (Role::Security, 60_000, Vec::new());
    let wish = NewOperator { name, role, ttl_ms, addresses };
    assert_eq!(code(fleet.client.invite(&wish).await), "operator_exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_renewed_by_whoever_has_it_for_nobody_else_and_it_is_written_down() {
    let fleet = Fleet::start().await;
    let own = fleet.log_in("anna", Role::Viewer).await;
    let renew = RenewLogin { tls_key: OwnKey::of(&own).unwrap().public().unwrap() };
    let given = as_operator(&own).renew_login(&renew).await.unwrap();
    assert_eq!((given.name.as_str(), given.role), ("anna", Role::Viewer));
    assert!(given.certificate != own.certificate && given.expires_at >= own.profile.expires_at);
    let renewed = Credentials { certificate: given.certificate, ..own.clone() };
    as_operator(&renewed).fleet().await.unwrap();
    as_operator(&own).fleet().await.unwrap();
    // Root of the coordinator's machine is nobody who has logged in.
    assert_eq!(code(fleet.client.renew_login(&renew).await), "not_logged_in");
    let entries = fleet.client.audit(0).await.unwrap().entries;
    let asked = entries.iter().filter(|entry| entry.verb == "login renew");
    let who: Vec<_> = asked.map(|entry| entry.who.as_str()).collect();
    assert_eq!(who[..2], ["operator:anna"; 2], "asked and done");
    fleet.client.revoke_operator(&"anna".parse().unwrap()).await.unwrap();
    for of in [&own, &renewed] {
        assert_eq!(code(as_operator(of).renew_login(&renew).await), "not_an_operator");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_set_a_secret_is_said_by_the_certificate_whatever_the_request_says() {
    let fleet = Fleet::start().await;
    let anna = as_operator(&fleet.log_in("anna", Role::Deployer).await);
    let set = SetSecret {
        version: 1,
        must_exist: false,
        registry: None,
        operators: Vec::new(),
        nodes: Vec::new(),
        cause: None,
        by: "susi".to_owned(),
    };
    let (environment, name) = ("default".parse().unwrap(), "db".parse().unwrap());
    anna.set_secret(&environment, &name, &set).await.unwrap();
    let events = anna.events(&EventFilter::default(), None).await.unwrap();
    let told = format!("{events:?}");
    assert!(told.contains("set by anna") && !told.contains("susi"), "{told}");
}
