//! A board against a coordinator that is a script behind real TLS.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use super::*;
use crate::testing;
use authority::{Asks, Authority, der};
use protocol::id::sha256_hex;
use protocol::join::{
    Approved, MAX_RENEW_BYTES, Offer, SEAL_KEY_FILE, TLS_KEY_FILE, Times, node_dns_name,
    server_name, verify_join, verify_renew,
};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// 2030.
const NOW_S: u64 = 1_893_456_000;

/// What the script answers next.
pub(crate) enum Line {
    Pending,
    Refused(RefusalCode),
    /// A proper yes, then changed.
    Approved(fn(&mut Approved)),
    /// Another program.
    Text(String),
}

type Asked = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub(crate) struct Coordinator {
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: String,
    /// (path, body) of each question.
    pub(crate) asked: Asked,
}

impl Coordinator {
    /// A coordinator of `testing::fleet()` with this script.
    pub(crate) async fn start(script: Vec<Line>) -> Self {
        Self::of(Arc::new(Authority::new()), script).await
    }

    /// The same under this CA.
    pub(crate) async fn of(authority: Arc<Authority>, script: Vec<Line>) -> Self {
        let own = authority.issue("coordinator", &[&server_name(&testing::fleet())]);
        let acceptor = TlsAcceptor::from(authority.server(&own, Asks::Never));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let coordinator = Self { authority: Arc::clone(&authority), address, asked: asked.clone() };
        tokio::spawn(async move {
            let mut script = VecDeque::from(script);
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let Some((path, body)) = read_request(&mut stream).await else { continue };
                let line = script.pop_front().expect("the script goes on");
                let text = answer(line, &path, &body, &authority);
                asked.lock().unwrap().push((path, body));
                let length = text.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                let _ = stream.write_all((head + &text).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        coordinator
    }

    pub(crate) fn token(&self) -> Token {
        let Offer { id, secret } = Offer::from_random([7; 32]);
        Token {
            fleet: testing::fleet(),
            addresses: vec![self.address.clone()],
            ca_sha256: sha256_hex(&der(&self.authority.ca)[0]),
            id,
            secret,
        }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}

async fn read_request(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
            assert!(body.len() <= MAX_RENEW_BYTES);
            let path = head.split(' ').nth(1).unwrap().to_owned();
            return Some((path, body.as_bytes().to_vec()));
        }
    }
}

/// Who asks, verified as the coordinator does.
fn asker(path: &str, body: &[u8]) -> (NodeId, TlsKey) {
    let fleet = testing::fleet();
    if path == JOIN_PATH {
        let body: JoinBody = serde_json::from_slice(body).unwrap();
        let (join, _) = verify_join(&body.request.to_bytes(), &fleet).unwrap();
        return (join.node.clone(), join.tls_key.clone());
    }
    let body: RenewBody = serde_json::from_slice(body).unwrap();
    let (renew, _) = verify_renew(&body.request.to_bytes(), &fleet).unwrap();
    (renew.node.clone(), renew.tls_key.clone())
}

fn answer(line: Line, path: &str, body: &[u8], authority: &Authority) -> String {
    let answer = match line {
        Line::Text(text) => return text,
        Line::Pending => Answer::Pending,
        Line::Refused(code) => {
            Answer::Refused(Refused { code, message: "no, \x1b[31mbecause".into() })
        }
        Line::Approved(change) => {
            let (node, key) = asker(path, body);
            let name = node_dns_name(&testing::fleet(), &node);
            let root = Envelope::sign(&testing::root(), &[&testing::root_key()]);
            let mut approved = Approved {
                certificate: authority.certify(node.as_str(), &[&name], key.point()),
                ca: authority.ca.clone(),
                roots: vec![root],
                environment: "staging".parse().unwrap(),
                labels: [("zone".to_owned(), "edge".to_owned())].into(),
                broker: None,
                times: Times { renew_at: NOW_S, expires_at: NOW_S + 30 * 86_400 },
            };
            change(&mut approved);
            Answer::Approved(Box::new(approved))
        }
    };
    serde_json::to_string(&answer).unwrap()
}

pub(crate) struct Place(tempfile::TempDir, Duration);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), Duration::from_secs(10))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Joins as opi-1; what was said to the person.
    pub(crate) async fn join(
        &self,
        token: &Token,
        existing: Existing,
    ) -> (Result<Outcome, JoinError>, String) {
        let wish = Wish {
            name: "opi-1".parse().unwrap(),
            environment: None,
            labels: BTreeMap::new(),
            existing,
        };
        let (pace, floor) =
            (Pace { lobby: Duration::from_millis(5), patience: self.1 }, VerifyAt::new(NOW_S));
        let mut said = String::new();
        let say = |text: &str| said += &format!("{text}\n");
        let result = join(&self.state(), &token.encode(), &wish, pace, &floor, say).await;
        (result, said)
    }

    fn has_joined(&self) -> bool {
        Joined::load(&self.state()).unwrap().is_some()
    }
}

/// The renewing of a node that has joined there, and what it says to people.
pub(crate) fn renewing(
    place: &Place,
) -> (crate::renew::Renewing, tokio::sync::mpsc::Receiver<crate::link::Outgoing>) {
    let key = identity::load_or_create(&place.state()).unwrap();
    let node = key.public().node_id();
    let address = mqtt::BrokerAddress { host: "127.0.0.1".into(), port: 9 };
    let session = mqtt::Config::new(address, node.to_string(), Vec::new());
    let (outgoing, said) = tokio::sync::mpsc::channel(4);
    let renewing = crate::renew::Renewing {
        state_dir: place.state(),
        root_file: place.state().join(ROOT_FILE),
        node: protocol::acceptance::NodeIdentity {
            fleet: testing::fleet(),
            node,
            environment: "staging".parse().unwrap(),
        },
        floor: VerifyAt::new(NOW_S),
        handle: mqtt::Session::start(session, 1).0,
        outgoing,
        bells: Arc::default(),
        name: "opi-1".parse().unwrap(),
        labels: [("zone".to_owned(), "edge".to_owned())].into(),
        own_address: None,
        patience: Duration::from_secs(10),
    };
    (renewing, said)
}

/// What joining with this first answer ends in; nothing is kept.
async fn check(line: Line, says: &str, exit_code: u8) {
    let (coordinator, place) = (Coordinator::start(vec![line]).await, Place::new());
    let error = place.join(&coordinator.token(), Existing::Keep).await.0.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(says), "`{says}` is not in: {text}");
    assert_eq!(error.exit_code(), exit_code, "{text}");
    assert!(!text.contains('\x1b') && !place.has_joined());
}

#[tokio::test]
async fn a_board_waits_in_the_lobby_and_has_joined_once_it_is_approved() {
    let script = vec![Line::Pending, Line::Pending, Line::Approved(|_| ())];
    let (coordinator, place) = (Coordinator::start(script).await, Place::new());
    let token = coordinator.token();
    let (result, said) = place.join(&token, Existing::Keep).await;
    let Outcome::Joined(placement) = result.unwrap() else { panic!("not new") };
    assert_eq!((placement.name.as_str(), placement.environment.as_str()), ("opi-1", "staging"));
    assert_eq!(coordinator.paths(), [JOIN_PATH, RENEW_PATH, RENEW_PATH]);
    assert_eq!(said.matches("pith node approve opi-1").count(), 1, "{said}");
    assert!(said.contains("joined fleet") && said.contains("systemctl"), "{said}");
    // The secret went to the coordinator alone, and is nowhere on the board nor in the signed part.
    let (_, first) = coordinator.asked.lock().unwrap()[0].clone();
    let first: JoinBody = serde_json::from_slice(&first).unwrap();
    assert_eq!(first.secret, token.secret);
    let joined = Joined::load(&place.state()).unwrap().unwrap();
    assert_eq!(joined.coordinators.addresses, token.addresses);
    assert_eq!(joined.placement, Some(placement));
    joined.session(&testing::fleet(), &VerifyAt::new(NOW_S)).unwrap();
    assert_eq!(crate::trust::load(&place.state().join(ROOT_FILE)).unwrap(), testing::root());
    for name in ["node.key", SEAL_KEY_FILE, TLS_KEY_FILE] {
        let mode = std::fs::metadata(place.state().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn run_again_it_says_what_is_there_and_asks_only_when_told() {
    let script = vec![Line::Approved(|_| ()), Line::Approved(|_| ())];
    let (coordinator, place) = (Coordinator::start(script).await, Place::new());
    let token = coordinator.token();
    place.join(&token, Existing::Keep).await.0.unwrap();
    let (result, said) = place.join(&token, Existing::Keep).await;
    assert_eq!(result.unwrap(), Outcome::Before);
    assert!(said.contains("opi-1 is a node of fleet") && said.contains(&coordinator.address));
    assert_eq!(coordinator.paths().len(), 1, "nobody was asked");
    let (result, _) = place.join(&token, Existing::Replace).await;
    assert!(matches!(result.unwrap(), Outcome::Joined(_)));
    let mut other = token;
    other.fleet = FleetId::from_random([0xee; 16]);
    let (result, _) = place.join(&other, Existing::Replace).await;
    let error = result.unwrap_err();
    assert!(matches!(error, JoinError::OtherFleet(..)) && error.exit_code() == 5, "{error}");
}

#[tokio::test]
async fn a_false_coordinator_gets_nothing() {
    let (real, place) = (Coordinator::start(Vec::new()).await, Place::new());
    // Another CA answers at the address; then the right CA, for another fleet's name.
    let impostor = Coordinator::start(Vec::new()).await;
    let mut token = real.token();
    token.addresses.clone_from(&impostor.token().addresses);
    let mut foreign = real.token();
    foreign.fleet = FleetId::from_random([0xee; 16]);
    for token in [token, foreign] {
        let error = place.join(&token, Existing::Keep).await.0.unwrap_err();
        assert!(matches!(error, JoinError::Https(HttpsError::Distrust { .. })), "{error}");
        assert!(error.to_string().contains("nothing secret was sent") && error.exit_code() == 5);
    }
    assert!(impostor.paths().is_empty() && real.paths().is_empty(), "not one byte of a request");
}

#[tokio::test]
async fn a_refusal_is_said_with_its_code_and_nothing_is_kept() {
    check(Line::Refused(RefusalCode::TokenUsed), "token_used): no, [31mbecause", 5).await;
    check(Line::Refused(RefusalCode::Busy), "busy", 6).await;
    check(Line::Text("<html>".into()), "not as a coordinator does", 6).await;
}

#[tokio::test]
async fn a_yes_that_cannot_be_right_is_not_kept() {
    let other: fn(&mut Approved) = |approved| {
        let other = Authority::new();
        approved.certificate = other.issue("x", &["x.node.y.pith"]).chain;
    };
    check(Line::Approved(other), "not for this node", 1).await;
    check(Line::Approved(|approved| approved.ca = Authority::new().ca), "its CA is another", 1)
        .await;
    check(Line::Approved(|approved| approved.roots.clear()), "no trust root", 1).await;
    let stranger: fn(&mut Approved) = |approved| {
        let key = SecretKey::from_seed([9; 32]);
        approved.roots = vec![Envelope::sign(&testing::root(), &[&key])];
    };
    check(Line::Approved(stranger), "trust root is refused", 1).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_left_and_one_that_is_away_is_named() {
    let real = Coordinator::start(Vec::new()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut place = Place::new();
    place.1 = Duration::from_millis(50);
    let mut token = real.token();
    token.addresses = vec![silent.local_addr().unwrap().to_string()];
    let error = place.join(&token, Existing::Keep).await.0.unwrap_err();
    assert!(matches!(error, JoinError::Https(HttpsError::TimedOut { .. })), "{error}");
    assert_eq!(error.exit_code(), 6);
    drop(silent);
    let error = place.join(&token, Existing::Keep).await.0.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_text_that_is_no_token_is_named_before_anything_is_made() {
    let place = Place::new();
    let wish = Wish {
        name: "opi-1".parse().unwrap(),
        environment: None,
        labels: BTreeMap::new(),
        existing: Existing::Keep,
    };
    let floor = VerifyAt::new(NOW_S);
    let result = join(&place.state(), "K10abc", &wish, Pace::default(), &floor, |_| ()).await;
    let error = result.unwrap_err();
    assert!(error.to_string().contains("pith1_") && error.exit_code() == 2, "{error}");
    assert!(!place.state().exists());
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_same_key_and_what_is_not_renewed_runs_on() {
    let later: fn(&mut Approved) = |approved| {
        approved.roots.clear();
        approved.times.renew_at += 60 * 86_400;
    };
    let script = vec![
        Line::Approved(|_| ()),
        Line::Approved(later),
        Line::Pending,
        Line::Refused(RefusalCode::Revoked),
    ];
    let (coordinator, place) = (Coordinator::start(script).await, Place::new());
    place.join(&coordinator.token(), Existing::Keep).await.0.unwrap();
    let before = std::fs::read(place.state().join(CERTIFICATE_FILE)).unwrap();
    let (renewing, _said) = renewing(&place);
    let crate::renew::Renewed::Yes(times) = renewing.once().await.unwrap() else { panic!("no") };
    assert_eq!(times.renew_at, NOW_S + 60 * 86_400);
    let joined = Joined::load(&place.state()).unwrap().unwrap();
    assert_eq!(joined.times, Some(times));
    assert_eq!(joined.placement.unwrap().environment.as_str(), "staging", "as it was");
    let after = std::fs::read(place.state().join(CERTIFICATE_FILE)).unwrap();
    assert_ne!(before, after);
    assert_eq!(renewing.once().await.unwrap(), crate::renew::Renewed::Pending);
    let error = renewing.once().await.unwrap_err();
    assert!(error.to_string().contains("revoked"), "{error}");
    assert_eq!(std::fs::read(place.state().join(CERTIFICATE_FILE)).unwrap(), after);
    assert_eq!(coordinator.paths()[1..], [RENEW_PATH; 3]);
}
