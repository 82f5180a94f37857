//! One request, asked until there is an answer: waits where the coordinator says so, and asks again where an answer was lost.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use reqwest::{Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{Client, ClientError, chain};
use crate::api::{KEY_HEADER, Problem};
use crate::data_dir::random;

/// A change whose answer was lost is asked for again, under the same key, for this long.
const AGAIN_PATIENCE: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Who asks too much waits as long as the coordinator says, and not longer than this in all.
const LATER_PATIENCE: Duration = Duration::from_secs(60);

/// What one attempt came to.
enum Attempt {
    Answered(Vec<u8>),
    /// Ask again after this.
    Later(Duration, Problem),
    /// It may have been heard.
    Lost(ClientError),
    Failed(ClientError),
}

impl Client {
    /// A change is sent under a key of its own: where its answer is lost, it is asked for again and not done twice.
    pub(super) async fn send<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, Option<String>)],
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        // The parts of a query are ids and numbers: nothing in them needs escaping.
        let pairs = query.iter().filter_map(|(k, v)| Some(format!("{k}={}", v.as_ref()?)));
        let pairs: Vec<String> = pairs.collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let path = format!("{path}{mark}{}", pairs.join("&"));
        let broken = |e: serde_json::Error| ClientError::Broken(e.to_string());
        let body = body.map(serde_json::to_vec).transpose().map_err(broken)?;
        let answer = self.bytes(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(broken)
    }

    /// The bytes of an answer that is no refusal.
    pub(super) async fn bytes(
        &self,
        method: Method,
        path: String,
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, ClientError> {
        let looks = method == Method::GET || path == "plans";
        let key = if looks { None } else { Some(new_key()?) };
        let (begin, mut was_lost, mut was_told) = (Instant::now(), false, false);
        loop {
            let attempt = self.attempt(&method, &path, body.as_deref(), key.as_deref()).await;
            match attempt {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Later(after, problem) => {
                    if begin.elapsed() + after > LATER_PATIENCE {
                        return Err(ClientError::Refused(problem));
                    }
                    if !was_told {
                        eprintln!("{}; waiting {} s", problem.message, after.as_secs());
                    }
                    was_told = true;
                    tokio::time::sleep(after).await;
                }
                Attempt::Lost(error) if key.is_some() && begin.elapsed() < AGAIN_PATIENCE => {
                    if !was_lost {
                        eprintln!("the answer was lost, asking again: {error}");
                    }
                    was_lost = true;
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                // It was heard once maybe: whether it was done is still to be found out.
                Attempt::Failed(ClientError::Unreachable { .. } | ClientError::Away { .. })
                    if was_lost && begin.elapsed() < AGAIN_PATIENCE =>
                {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Attempt::Lost(error) | Attempt::Failed(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        path: &str,
        body: Option<&[u8]>,
        key: Option<&str>,
    ) -> Attempt {
        let (http, base) = match self.way.http().await {
            Ok(found) => found,
            Err(error) => return Attempt::Failed(error),
        };
        let mut request = http.request(method.clone(), format!("{base}{path}"));
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        if let Some(key) = key {
            request = request.header(KEY_HEADER, key);
        }
        let lost = |e: reqwest::Error| Attempt::Lost(ClientError::Broken(chain(&e)));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                return Attempt::Failed(self.way.unreachable(&error));
            }
            Err(error) => return lost(error),
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        if status.is_success() {
            return match answer.bytes().await {
                Ok(bytes) => Attempt::Answered(bytes.to_vec()),
                Err(error) => lost(error),
            };
        }
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return lost(error),
        };
        let problem: Problem = serde_json::from_str(&text)
            .unwrap_or_else(|_| Problem { code: status.as_str().to_owned(), message: text });
        let after = headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
        match after.and_then(|after| after.parse().ok()) {
            Some(seconds) if status == StatusCode::TOO_MANY_REQUESTS => {
                Attempt::Later(Duration::from_secs(seconds), problem)
            }
            Some(_) | None if problem.code == "stopping" => {
                Attempt::Lost(ClientError::Refused(problem))
            }
            Some(_) | None => Attempt::Failed(ClientError::Refused(problem)),
        }
    }
}

/// 128 random bits.
fn new_key() -> Result<String, ClientError> {
    let bytes: [u8; 16] = random().map_err(|error| ClientError::Broken(error.to_string()))?;
    Ok(BASE64URL.encode(bytes))
}
