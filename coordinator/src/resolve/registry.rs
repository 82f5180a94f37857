//! Asks a registry which digest a tag stands for (OCI distribution specification 1.1, "Pulling manifests").

use std::fs;
use std::time::Duration;

use protocol::id::{Digest, sha256_hex};
use reqwest::header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Certificate, Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::reference::{DOCKER_HUB, Reference};
use super::registries::Access;
use crate::client::chain;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Indexes and manifests are some kilobytes.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// An index first, so that a tag pins all platforms.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Why a registry gave no digest.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or not in time.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The registry.
        host: String,
        /// Why.
        reason: String,
    },
    /// Speaks plain HTTP where TLS was expected, or the other way round.
    #[error(
        "{host} does not speak TLS; if it is a plain HTTP registry, say so in registries.toml: [[registry]] host = \"{host}\", http = true"
    )]
    NotTls {
        /// The registry.
        host: String,
    },
    /// No such repository or tag.
    #[error("{host} has no {name}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        name: String,
    },
    /// No or wrong credentials.
    #[error(
        "{host} refuses {who}; put credentials into registries.toml or run `docker login {host}`"
    )]
    Denied {
        /// The registry.
        host: String,
        /// As whom it was asked.
        who: String,
    },
    /// Too many pulls.
    #[error("{host} limits requests at the moment; try again later or log in")]
    Limited {
        /// The registry.
        host: String,
    },
    /// Anything else.
    #[error("{host} answered {answer}")]
    Unexpected {
        /// The registry.
        host: String,
        /// What it said.
        answer: String,
    },
}

#[derive(Debug, Deserialize)]
struct BearerToken {
    token: Option<String>,
    access_token: Option<String>,
}

/// One registry and how to speak to it.
pub(super) struct Registry<'a> {
    http: reqwest::Client,
    host: &'a str,
    base: String,
    access: &'a Access,
}

/// The digest that the reference's tag stands for now.
pub(super) async fn digest(
    reference: &Reference,
    access: &Access,
) -> Result<Digest, RegistryError> {
    let registry = Registry::new(reference.registry(), access)?;
    let url = format!(
        "{}/v2/{}/manifests/{}",
        registry.base,
        reference.repository(),
        reference.tag_or_latest()
    );
    let answer = registry.ask(Method::HEAD, &url, reference).await?;
    if let Some(digest) = digest_header(answer.headers()) {
        return Ok(digest);
    }
    // Some registries leave the header out of HEAD: the digest is the hash of the body.
    let answer = registry.ask(Method::GET, &url, reference).await?;
    if let Some(digest) = digest_header(answer.headers()) {
        return Ok(digest);
    }
    let body = registry.body(answer).await?;
    let text = format!("sha256:{}", sha256_hex(&body));
    text.parse().map_err(|_| registry.unexpected("no digest".to_owned()))
}

fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

impl<'a> Registry<'a> {
    pub(super) fn new(host: &'a str, access: &'a Access) -> Result<Self, RegistryError> {
        let scheme = if access.http { "http" } else { "https" };
        // Docker Hub's API lives under another name than its images.
        let address = if host == DOCKER_HUB { "registry-1.docker.io" } else { host };
        let base = format!("{scheme}://{address}");
        let failed = |reason: String| RegistryError::Unreachable { host: host.to_owned(), reason };
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .user_agent(concat!("pith/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &access.ca_file {
            let shown = path.display();
            let pem = fs::read(path).map_err(|e| failed(format!("{shown}: {e}")))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|e| failed(format!("{shown}: {}", chain(&e))))?;
            http = http.tls_certs_merge(certificates);
        }
        let http = http.build().map_err(|e| failed(chain(&e)))?;
        Ok(Self { http, host, base, access })
    }

    /// The index or manifest of this digest, as far as `T` reads it.
    pub(super) async fn manifest<T: DeserializeOwned>(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<T, RegistryError> {
        let url = format!("{}/v2/{}/manifests/{digest}", self.base, reference.repository());
        let answer = self.ask(Method::GET, &url, reference).await?;
        let body = self.body(answer).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.unexpected(format!("a manifest that is not readable: {error}")))
    }

    /// Not more of it than a manifest may have.
    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.unreachable(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_MANIFEST_BYTES {
                let most = MAX_MANIFEST_BYTES;
                return Err(self.unexpected(format!("a manifest of more than {most} bytes")));
            }
        }
        Ok(body)
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        reference: &Reference,
    ) -> Result<Response, RegistryError> {
        let answer = self.send(method.clone(), url, None).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.judge(answer, reference);
        }
        let challenge = answer.headers().get(WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(rest) = strip_scheme(challenge, "bearer") else {
            // Basic was sent already where there are credentials.
            return Err(self.denied());
        };
        let token = self.fetch_token(rest, reference).await?;
        let answer = self.send(method, url, Some(&token)).await?;
        self.judge(answer, reference)
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let mut request = self.http.request(method, url).header(ACCEPT, ACCEPTED);
        request = match (token, &self.access.login) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((user, password))) => request.basic_auth(user, Some(password)),
            (None, None) => request,
        };
        request.send().await.map_err(|e| self.unreachable(&e))
    }

    /// `realm="https://auth…/token",service="…",scope="…"` (distribution specification, token authentication).
    async fn fetch_token(
        &self,
        challenge: &str,
        reference: &Reference,
    ) -> Result<String, RegistryError> {
        let realm = parameter(challenge, "realm")
            .ok_or_else(|| self.unexpected("a challenge without a realm".to_owned()))?;
        let mut url = reqwest::Url::parse(&realm)
            .map_err(|_| self.unexpected(format!("a challenge with the realm {realm}")))?;
        let scope = parameter(challenge, "scope")
            .unwrap_or_else(|| format!("repository:{}:pull", reference.repository()));
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = parameter(challenge, "service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let mut request = self.http.get(url);
        if let Some((user, password)) = &self.access.login {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let answer = self.judge(answer, reference)?;
        let token: BearerToken = answer.json().await.map_err(|e| self.unreachable(&e))?;
        let token = token.token.or(token.access_token);
        token.ok_or_else(|| self.unexpected("no token".to_owned()))
    }

    fn judge(&self, answer: Response, reference: &Reference) -> Result<Response, RegistryError> {
        let host = self.host.to_owned();
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied()),
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound {
                host,
                name: format!("{}:{}", reference.repository(), reference.tag_or_latest()),
            }),
            StatusCode::TOO_MANY_REQUESTS => Err(RegistryError::Limited { host }),
            status => Err(self.unexpected(status.to_string())),
        }
    }

    fn denied(&self) -> RegistryError {
        let who = self.access.login.as_ref();
        let who = who.map_or("an anonymous request".to_owned(), |(user, _)| format!("user {user}"));
        RegistryError::Denied { host: self.host.to_owned(), who }
    }

    fn unexpected(&self, answer: String) -> RegistryError {
        RegistryError::Unexpected { host: self.host.to_owned(), answer }
    }

    fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        let host = self.host.to_owned();
        let reason = chain(error);
        // rustls' words for a peer whose first bytes are not TLS.
        if !self.access.http
            && (reason.contains("InvalidContentType") || reason.contains("corrupt message"))
        {
            return RegistryError::NotTls { host };
        }
        RegistryError::Unreachable { host, reason }
    }
}

fn strip_scheme<'t>(challenge: &'t str, scheme: &str) -> Option<&'t str> {
    let (found, rest) = challenge.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The quoted value of `key` in a challenge.
fn parameter(challenge: &str, key: &str) -> Option<String> {
    let start = challenge.find(&format!("{key}=\""))? + key.len() + 2;
    let rest = &challenge[start..];
    Some(rest[..rest.find('"')?].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        let rest = strip_scheme(text, "bearer").unwrap();
        assert_eq!(parameter(rest, "realm").unwrap(), "https://auth.example/token");
        assert_eq!(parameter(rest, "scope").unwrap(), "repository:a/b:pull");
        assert_eq!(parameter(rest, "missing"), None);
        assert_eq!(strip_scheme("Basic realm=\"x\"", "bearer"), None);
    }
}
