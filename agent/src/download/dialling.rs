//! How an archive's place is reached: web servers under the authorities that this machine trusts, the coordinator with the
//! certificate of the node's joining.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mqtt::VerifyAt;
use protocol::acceptance::NodeIdentity;
use protocol::archive::{BLOBS_PATH, Location, NODE_HEADER};
use protocol::id::Digest;
use protocol::join::{ALPN_HTTP, server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Dial, Dialled, DownloadError};
use crate::join::https;
use crate::resolve;
use crate::tls::Joined;
use crate::wire::Wire;

/// Where systems keep the authorities they trust: Debian and Alpine, Fedora, and others.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Names another file, as with other programs.
const AUTHORITIES_VARIABLE: &str = "SSL_CERT_FILE";

/// What a node needs to reach archives.
#[derive(Debug, Clone)]
pub struct Dialling {
    /// Where what it has of its joining lies.
    pub state_dir: PathBuf,
    /// Who it is.
    pub node: NodeIdentity,
    /// Where its owner says that the coordinator is.
    pub own_address: Option<String>,
    /// No certificate is looked at as of an earlier time.
    pub floor: VerifyAt,
}

impl Dial for Dialling {
    async fn dial(&self, to: &Location) -> Result<Dialled, DownloadError> {
        let no = |problem: String| DownloadError::Unreachable(format!("{to}: {problem}"));
        match to {
            Location::Coordinator(sha256) => self.coordinator(sha256).await.map_err(no),
            Location::Web { is_secure, authority, path } => {
                let Some((host, port)) = to.host_and_port() else {
                    return Err(no("it has no port".to_owned()));
                };
                let at = if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                };
                let stream = resolve::connect(&at).await.map_err(|e| no(e.to_string()))?;
                let stream: Box<dyn Wire> = if *is_secure {
                    Box::new(
                        secured(host, stream, web(&self.floor).map_err(no)?).await.map_err(no)?,
                    )
                } else {
                    Box::new(stream)
                };
                let (host, path) = (authority.clone(), path.clone());
                Ok(Dialled { stream, host, path, headers: Vec::new() })
            }
        }
    }
}

impl Dialling {
    /// The first of the coordinator's addresses that takes a connection.
    async fn coordinator(&self, sha256: &Digest) -> Result<Dialled, String> {
        let joined = Joined::load(&self.state_dir).map_err(|error| error.to_string())?;
        let Some(joined) = joined else {
            return Err("this node has not joined a coordinator that could give it".to_owned());
        };
        let fleet = &self.node.fleet;
        let tls = joined.session(fleet, &self.floor).map_err(|error| error.to_string())?;
        let (config, name) = tls.speaking(ALPN_HTTP);
        let connector = TlsConnector::from(config);
        let mut problem = "no address of the coordinator is known".to_owned();
        let own = self.own_address.iter().filter(|_| joined.is_at_coordinator());
        for address in own.chain(&joined.coordinators.addresses) {
            let connecting = https::connect(address, &connector, name.clone());
            match tokio::time::timeout(https::PATIENCE, connecting).await {
                Ok(Ok(stream)) => {
                    return Ok(Dialled {
                        stream: Box::new(stream),
                        host: server_name(fleet),
                        path: format!("{BLOBS_PATH}{}", sha256.hex()),
                        headers: vec![(NODE_HEADER, self.node.node.to_string())],
                    });
                }
                Ok(Err(error)) => problem = error.to_string(),
                Err(_) => problem = format!("{address} did not answer in time"),
            }
        }
        Err(problem)
    }
}

async fn secured(
    host: &str,
    stream: TcpStream,
    config: ClientConfig,
) -> Result<impl Wire + use<>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())
}

/// The machine's clock where it is later than what somebody vouched for: web servers' certificates are newer than most floors.
#[derive(Debug)]
struct Latest(VerifyAt);

impl TimeProvider for Latest {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(crate::clock::unix_s(&self.0))))
    }
}

fn web(floor: &VerifyAt) -> Result<ClientConfig, String> {
    let file = std::env::var_os(AUTHORITIES_VARIABLE).map(PathBuf::from);
    let known = AUTHORITIES.iter().map(PathBuf::from);
    let file = file.into_iter().chain(known).find(|file| file.exists());
    let Some(file) = file else {
        return Err(format!(
            "this machine trusts no authority: {} is missing; install ca-certificates, or give the archive over http:// \
             (its sha256 is signed)",
            AUTHORITIES[0]
        ));
    };
    believing(&file, floor)
}

/// TLS with whoever an authority of the file vouches for.
fn believing(file: &Path, floor: &VerifyAt) -> Result<ClientConfig, String> {
    let roots = authorities(file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time = Arc::new(Latest(floor.clone()));
    let config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Those of a file that can be used.
fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    let text = std::fs::read(file).map_err(|error| unreadable(&error))?;
    let found = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        return Err(unreadable(&"no certificate of an authority stands in it"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use authority::{Asks, Authority};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Whether TLS comes about with a server under `theirs`, for `host`, where `ours` is what the machine trusts.
    async fn meet(theirs: &Authority, ours: &str, host: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca-certificates.crt");
        std::fs::write(&file, ours).unwrap();
        let config = believing(&file, &VerifyAt::default())?;
        let own = theirs.issue("files", &["files.example"]);
        let acceptor = TlsAcceptor::from(theirs.server(&own, Asks::Never));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(drop)
        });
        let met = secured(host, stream, config).await.map(drop);
        let _ = serving.await.unwrap();
        met
    }

    #[tokio::test]
    async fn web_servers_are_believed_as_far_as_the_machines_authorities_vouch_for_them() {
        let (known, other) = (Authority::new(), Authority::new());
        // Beside what cannot be used, as in bundles of systems.
        let bundle = format!("# known\n{}\n{}", known.ca, other.ca.replace('M', "x"));
        assert_eq!(meet(&known, &bundle, "files.example").await, Ok(()));
        let error = meet(&known, &bundle, "elsewhere.example").await.unwrap_err();
        assert!(error.contains("not valid for name"), "{error}");
        let error = meet(&other, &known.ca, "files.example").await.unwrap_err();
        assert!(error.contains("invalid peer certificate"), "{error}");
        let error = meet(&known, "", "files.example").await.unwrap_err();
        assert!(error.contains("no certificate of an authority"), "{error}");
    }
}
