//! A fleet's coordinator in this process, and boards that speak TLS, HTTP and MQTT by hand.

#![allow(dead_code, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coordinator::api::Limits;
use coordinator::ca::Ca;
use coordinator::client::Client;
use coordinator::data_dir::DataDir;
use coordinator::local::{ApiSettings, BrokerChoice, Coordinator};
use coordinator::login::{Credentials, OwnKey, Profile, read_invitation};
use coordinator::role::Role;
use coordinator::state::Policy;
use coordinator::state::requests::{Login, NewOperator, NewToken};
use protocol::FORMAT;
use protocol::envelope::Envelope;
use protocol::hello::{Capacity, Hello};
use protocol::id::{FleetId, NodeId};
use protocol::join::{
    ALPN_HTTP, Answer, Join, JoinBody, Renew, RenewBody, SealKey, TlsKey, Token, server_name,
};
use protocol::keys::SecretKey;
use protocol::manifest::Version;
use protocol::topic::{Subject, Topic, Up};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A coordinator of a fleet in a temporary folder.
pub(crate) struct Fleet {
    pub(crate) data: DataDir,
    pub(crate) coordinator: Coordinator,
    pub(crate) client: Client,
    pub(crate) dir: tempfile::TempDir,
}

/// A board with its keys.
pub(crate) struct Board {
    pub(crate) key: SecretKey,
    pub(crate) tls: KeyPair,
    name: String,
    /// PEM, once it has joined.
    pub(crate) certificate: Option<String>,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        Self::start_with(BrokerChoice::Embedded { listen }).await
    }

    pub(crate) async fn start_with(choice: BrokerChoice) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let _ = data.init().unwrap();
        Self::start_in(dir, data, choice, ApiSettings::default()).await
    }

    pub(crate) async fn start_in(
        dir: tempfile::TempDir,
        data: DataDir,
        choice: BrokerChoice,
        settings: ApiSettings,
    ) -> Self {
        let policy = Policy::default();
        let started = Coordinator::start_with(&data, choice, policy, settings).await;
        let client = Client::new(&data).unwrap();
        Self { data, coordinator: started.unwrap(), client, dir }
    }

    /// With these limits.
    pub(crate) async fn start_limited(limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        let _ = data.init().unwrap();
        let choice = BrokerChoice::Embedded { listen: "127.0.0.1:0".parse().unwrap() };
        Self::start_in(dir, data, choice, ApiSettings { limits, ..ApiSettings::default() }).await
    }

    /// What a login would leave on somebody's machine.
    pub(crate) async fn log_in(&self, name: &str, role: Role) -> Credentials {
        let word = self.invite(name, role).await;
        let token = read_invitation(&word).unwrap();
        let key = OwnKey::make().unwrap();
        let (id, secret) = (token.id.clone(), token.secret.clone());
        let login = Login { token: id, secret, tls_key: key.public().unwrap() };
        let given = Client::stranger(&token).unwrap().login(&login).await.unwrap();
        let profile = Profile {
            fleet: given.fleet,
            name: given.name,
            role: given.role,
            addresses: token.addresses,
            ca_sha256: token.ca_sha256,
            expires_at: given.expires_at,
        };
        Credentials { profile, ca: given.ca, certificate: given.certificate, key: key.pem() }
    }

    /// The word that is passed on.
    pub(crate) async fn invite(&self, name: &str, role: Role) -> String {
        let name = name.parse().unwrap();
        let wish = NewOperator { name, role, ttl_ms: 60_000, addresses: Vec::new() };
        self.client.invite(&wish).await.unwrap().token
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.coordinator.address().unwrap()
    }

    pub(crate) fn entrance(&self) -> Entrance {
        let (ca, server_name) = (self.ca().der().clone(), server_name(self.ca().fleet()));
        Entrance { address: self.address(), ca, server_name }
    }

    pub(crate) fn ca(&self) -> &Ca {
        self.coordinator.ca()
    }

    pub(crate) async fn token(&self, wish: NewToken) -> Token {
        let ttl_ms = if wish.ttl_ms == 0 { 60_000 } else { wish.ttl_ms };
        let shown = self.client.token(&NewToken { ttl_ms, ..wish }).await.unwrap();
        shown.token.parse().unwrap()
    }

    /// A board that has joined.
    pub(crate) async fn member(&self, name: &str) -> Board {
        let mut board = Board::new(name);
        let token = self.token(NewToken { approve: true, ..NewToken::default() }).await;
        let (_, Answer::Approved(approved)) = board.join(self, &token).await else {
            panic!("the token approves")
        };
        board.certificate = Some(approved.certificate);
        board
    }
}

impl Board {
    pub(crate) fn new(name: &str) -> Self {
        let key = coordinator::data_dir::new_key().unwrap();
        let tls = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { key, tls, name: name.to_owned(), certificate: None }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.key.public().node_id()
    }

    pub(crate) fn tls_key(&self) -> TlsKey {
        TlsKey::from_der(&self.tls.subject_public_key_info()).unwrap()
    }

    pub(crate) async fn join(&self, fleet: &Fleet, token: &Token) -> (u16, Answer) {
        let join = Join {
            format: FORMAT,
            fleet: token.fleet.clone(),
            node: self.id(),
            public_key: self.key.public().to_base64(),
            tls_key: self.tls_key(),
            seal_key: SealKey::from_bytes([1; 32]),
            name: self.name.parse().unwrap(),
            environment: None,
            labels: [].into(),
            token: token.id.clone(),
        };
        let request = Envelope::sign(&join, &[&self.key]);
        post(fleet, "/v1/join", &JoinBody { secret: token.secret.clone(), request }).await
    }

    pub(crate) async fn renew(&self, fleet: &Fleet) -> (u16, Answer) {
        let renew = Renew {
            format: FORMAT,
            fleet: fleet.ca().fleet().clone(),
            node: self.id(),
            public_key: self.key.public().to_base64(),
            tls_key: self.tls_key(),
            root_version: 0,
            again: None,
        };
        let request = Envelope::sign(&renew, &[&self.key]);
        post(fleet, "/v1/renew", &RenewBody { request, manifest: None }).await
    }

    /// TLS with its certificate, towards MQTT.
    pub(crate) async fn tls(&self, fleet: &Fleet) -> std::io::Result<TlsStream<TcpStream>> {
        let own = self.certificate.as_ref().map(|pem| (pem.as_str(), &self.tls));
        tls(fleet, own, None, None).await
    }

    /// Logs in; the CONNACK's code.
    pub(crate) async fn log_in(&self, fleet: &Fleet) -> (TlsStream<TcpStream>, u8) {
        let mut stream = self.tls(fleet).await.unwrap();
        let code = connect(&mut stream, self.id().as_str()).await.unwrap();
        (stream, code)
    }

    /// Says hello over a session of our own client, until the coordinator has heard it.
    pub(crate) async fn says_hello(&self, fleet: &Fleet, broker: SocketAddr) {
        let (id, node) = (fleet.ca().fleet().clone(), self.id());
        let address = mqtt::BrokerAddress { host: broker.ip().to_string(), port: broker.port() };
        let filters = Topic::node_subscriptions(&id, &node);
        let mut config = mqtt::Config::new(address, node.to_string(), filters);
        config.tls = Some(self.session_tls(fleet));
        let (handle, mut events) = mqtt::Session::start(config, 1);
        let topic =
            Topic { fleet: id.clone(), node: node.clone(), subject: Subject::Up(Up::Hello) };
        let heard = async {
            loop {
                let nodes = fleet.client.nodes(None).await.unwrap().nodes;
                if nodes.iter().any(|known| known.id == node) {
                    return;
                }
                let event = tokio::time::timeout(Duration::from_millis(200), events.recv()).await;
                // The coordinator may come to the broker after the node: it is said again.
                if matches!(event, Ok(Some(mqtt::Event::Up)) | Err(_)) {
                    let _ = handle.publish(topic.clone(), self.hello(&id));
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("the coordinator hears it");
        let _ = handle.close(Duration::from_secs(1)).await;
    }

    pub(crate) fn hello(&self, fleet: &FleetId) -> Vec<u8> {
        hello(fleet, &self.key, &self.name)
    }

    /// For the sessions of our own client.
    pub(crate) fn session_tls(&self, fleet: &Fleet) -> mqtt::Tls {
        let (chain, key) = (self.certificate.clone().unwrap(), self.tls.serialize_pem());
        let own = mqtt::Own { chain: chain.as_bytes(), key: key.as_bytes() };
        let name = server_name(fleet.ca().fleet());
        let now = mqtt::VerifyAt::new(1_800_000_000);
        mqtt::Tls::new(fleet.ca().pem().as_bytes(), Some(own), &name, now).unwrap()
    }
}

/// What a board with this key says of itself first.
pub(crate) fn hello(fleet: &FleetId, key: &SecretKey, name: &str) -> Vec<u8> {
    let hello = Hello {
        format: FORMAT,
        fleet: fleet.clone(),
        node: key.public().node_id(),
        public_key: key.public().to_base64(),
        name: name.parse().unwrap(),
        environment: "default".parse().unwrap(),
        labels: [].into(),
        formats: vec![1],
        agent_version: "0.1.0".to_owned(),
        nonce: "n".to_owned(),
        boot_id: "b".to_owned(),
        seen: Version::default(),
        capacity: Capacity { architecture: "arm64".to_owned(), cores: 4, memory_bytes: 1 << 30 },
        address: "127.0.0.1".to_owned(),
        fleet_port: None,
        policy: None,
        root_version: None,
        seal_key: None,
        seen_sha256: None,
        learned: None,
        metered: false,
    };
    Envelope::sign(&hello, &[key]).to_bytes()
}

/// What a board knows of the coordinator's port.
pub(crate) struct Entrance {
    pub(crate) address: SocketAddr,
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) server_name: String,
}

/// TLS to the port from an address, with or without a certificate.
pub(crate) async fn tls(
    fleet: &Fleet,
    own: Option<(&str, &KeyPair)>,
    alpn: Option<&[u8]>,
    from: Option<SocketAddr>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let pem = own.map(|(certificate, key)| (certificate, key.serialize_pem()));
    let own = pem.as_ref().map(|(certificate, key)| (*certificate, key.as_str()));
    enter(&fleet.entrance(), own, alpn, from).await
}

/// The same with what a board knows, certificate and key as PEM.
pub(crate) async fn enter(
    to: &Entrance,
    own: Option<(&str, &str)>,
    alpn: Option<&[u8]>,
    from: Option<SocketAddr>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(to.ca.clone()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match own {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    let socket = tokio::net::TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(from)?;
    }
    let socket = socket.connect(to.address).await?;
    let name = ServerName::try_from(to.server_name.clone()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// A CONNECT of MQTT 3.1.1 with a clean session.
pub(crate) fn connect_packet(client_id: &str) -> Vec<u8> {
    let length = u8::try_from(client_id.len()).unwrap();
    let mut packet = vec![0x10, 12 + length, 0, 4];
    packet.extend(b"MQTT\x04\x02\x00\x78\x00");
    packet.push(length);
    packet.extend(client_id.as_bytes());
    packet
}

/// Says CONNECT; the CONNACK's code.
pub(crate) async fn connect(
    stream: &mut TlsStream<TcpStream>,
    client_id: &str,
) -> std::io::Result<u8> {
    let answer = async {
        stream.write_all(&connect_packet(client_id)).await?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).await?;
        assert_eq!(connack[..2], [0x20, 2]);
        Ok(connack[3])
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time")
}

/// Whether the session still answers a ping.
pub(crate) async fn is_alive(stream: &mut TlsStream<TcpStream>) -> bool {
    let ping = async {
        stream.write_all(&[0xc0, 0]).await?;
        stream.read_u16().await
    };
    matches!(tokio::time::timeout(PATIENCE, ping).await, Ok(Ok(0xd000)))
}

/// Waits until the other side has closed, whichever way.
pub(crate) async fn is_cut(stream: &mut TlsStream<TcpStream>, within: Duration) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(within, stream.read_to_end(&mut rest)).await.is_ok()
}

/// One request over a connection of its own.
pub(crate) async fn post(fleet: &Fleet, path: &str, body: &impl Serialize) -> (u16, Answer) {
    let body = serde_json::to_vec(body).unwrap();
    let (status, text) = send(fleet, "POST", path, &body).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

pub(crate) async fn send(fleet: &Fleet, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let (status, _, body) = send_as(fleet, None, (method, path), "", body).await;
    (status, body)
}

/// The same with a certificate and more lines in its head; status, head and body of the answer.
pub(crate) async fn send_as(
    fleet: &Fleet,
    own: Option<(&str, &KeyPair)>,
    (method, path): (&str, &str),
    lines: &str,
    body: &[u8],
) -> (u16, String, String) {
    let mut stream = tls(fleet, own, Some(ALPN_HTTP), None).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: pith\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/json\r\n{lines}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // One that refuses a body may close before it has all of it.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

pub(crate) fn code(answer: &Answer) -> &str {
    match answer {
        Answer::Pending => "pending",
        Answer::Approved(_) => "approved",
        Answer::Refused(refused) => refused.code.as_str(),
    }
}
