//! Questions to Docker of which a few fields of the answer are read ([`answers`](super::answers)). The client library reads every field that
//! there is, by machine code that a board has no room for; what streams is its business.

use std::sync::Arc;

use bollard::BollardRequest;
use bollard::errors::Error as ClientError;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::observe::label_filter;
use super::{CHANGE_DEADLINE_MS, Docker, QUERY_DEADLINE_MS, classify, transport, within};
use crate::engine::error::EngineError;
use crate::engine::identity::Ours;
use crate::wire;

/// Of an answer; a hundred containers have a twentieth of it.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// What stands in a path or a query as it is, beside letters and digits (RFC 3986, `pchar` and what is unreserved).
const PLAIN: &[u8] = b"-._~/:@";

/// How Docker refuses.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Docker {
    /// What Docker answers to `GET` of this path, in the version of its interface that it likes best.
    ///
    /// # Errors
    /// As calls through the client library; an answer in another form is [`EngineError::Other`].
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let request = http::Request::get(path).body(wire::whole(Bytes::new()));
        read(&within(QUERY_DEADLINE_MS, self.answer(request)).await?)
    }

    /// What Docker answers to `POST` of this path with these words (JSON), as [`get`](Self::get).
    ///
    /// # Errors
    /// As `get`.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        words: &Value,
    ) -> Result<T, EngineError> {
        let request = http::Request::post(path)
            .header(CONTENT_TYPE, "application/json")
            .body(wire::whole(words.to_string().into()));
        read(&within(CHANGE_DEADLINE_MS, self.answer(request)).await?)
    }

    /// The connection on which Docker goes on without HTTP after this `POST` with these words (JSON).
    ///
    /// # Errors
    /// As `get`.
    pub(super) async fn upgrade(&self, path: &str, words: &Value) -> Result<Upgraded, EngineError> {
        let request = http::Request::post(path)
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "tcp")
            .body(wire::whole(words.to_string().into()));
        let upgrading = async {
            let response = transport::send(Arc::clone(&self.socket), request?).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(hyper::upgrade::on(response).await?);
            }
            body(response).await?;
            Err(std::io::Error::other("it goes on with HTTP").into())
        };
        within(QUERY_DEADLINE_MS, upgrading).await
    }

    async fn answer(&self, request: http::Result<BollardRequest>) -> Result<Bytes, ClientError> {
        body(transport::send(Arc::clone(&self.socket), request?).await?).await
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(body).map_err(|error| classify::engine_error(&error.into()))
}

/// The body of an answer that is no refusal.
async fn body(response: http::Response<Incoming>) -> Result<Bytes, ClientError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(std::io::Error::other)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let message = match serde_json::from_slice(&body) {
        Ok(Refusal { message }) => message,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    Err(ClientError::DockerResponseServerError { status_code: status.as_u16(), message })
}

/// A path whose answer lists what carries our labels only.
pub(super) fn path_of_ours(path: &str, ours: &Ours) -> String {
    let labels = label_filter(ours).into_iter().map(|(kind, labels)| (kind, Value::from(labels)));
    let filters = Value::from_iter(labels).to_string();
    let and = if path.contains('?') { '&' } else { '?' };
    format!("{path}{and}filters={}", encoded(&filters))
}

/// A name as it stands in a path or a query.
pub(super) fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// What is made of an answer of Docker's, and what Docker was asked.
    async fn ask(answer: &str) -> (Result<Vec<String>, EngineError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let answer = answer.to_owned();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let got = Docker::at(path.to_str().unwrap()).get("/names?all=true").await;
        (got, serving.await.unwrap())
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn answers_are_read_and_refusals_become_kinds() {
        let (got, asked) = ask(&answer("200 OK", r#"["web"]"#)).await;
        assert_eq!(got, Ok(vec!["web".to_owned()]));
        assert!(asked.starts_with("GET /names?all=true HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("\r\nhost: "), "{asked}");

        let missing = answer("404 Not Found", r#"{"message":"No such container: ab"}"#);
        let expected = EngineError::NotFound("No such container: ab".to_owned());
        assert_eq!(ask(&missing).await.0, Err(expected));
        let (got, _) = ask(&answer("503 Service Unavailable", "in front of it")).await;
        assert_eq!(got, Err(EngineError::Unavailable("in front of it".to_owned())));
        let (got, _) = ask(&answer("200 OK", r#"{"message": 1}"#)).await;
        assert!(matches!(got, Err(EngineError::Other(_))), "{got:?}");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_or_never_ends_is_of_an_engine_that_is_not_there() {
        let cut = answer("200 OK", r#"["web"]"#);
        let (got, _) = ask(&cut[..cut.len() - 1]).await;
        assert!(matches!(got, Err(EngineError::Unavailable(_))), "{got:?}");
        let (got, _) = ask(&answer("200 OK", &" ".repeat(MAX_ANSWER_BYTES + 1))).await;
        assert!(matches!(got, Err(EngineError::Unavailable(_))), "{got:?}");
    }

    #[test]
    fn names_stand_in_a_path_as_they_are_and_nothing_ends_it() {
        let pinned = "127.0.0.1:5000/team/web@sha256:ab";
        assert_eq!(encoded(pinned), pinned);
        assert_eq!(encoded("web?all=1&b#c d%\"ä"), "web%3Fall%3D1%26b%23c%20d%25%22%C3%A4");
    }
}
