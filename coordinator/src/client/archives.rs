//! Archives of images.

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use protocol::id::Digest;
use reqwest::Method;

use super::{Client, ClientError, chain};
use crate::api::Problem;
use crate::archives::ArchiveShown;

/// A large image over a slow link; the coordinator ends what rests.
const PUSH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

impl Client {
    /// What was pushed.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all that follow.
    pub async fn archives(&self) -> Result<Vec<ArchiveShown>, ClientError> {
        self.get("archives", &[]).await
    }

    /// Removes one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_archive(&self, sha256: &Digest) -> Result<ArchiveShown, ClientError> {
        let path = format!("archives/{}", sha256.hex());
        self.send::<(), _>(Method::DELETE, &path, &[], None).await
    }

    /// Sends one as it comes. An upload that breaks off is not asked for again by itself: its bytes are gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn push<E>(
        &self,
        image: &str,
        archive: impl Stream<Item = Result<Bytes, E>> + Send + Sync + 'static,
    ) -> Result<ArchiveShown, ClientError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        use futures_util::TryStreamExt as _;
        let (http, base) = self.way.http().await?;
        let mut url = reqwest::Url::parse(&format!("{base}archives"))
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        url.query_pairs_mut().append_pair("image", image);
        let body = reqwest::Body::wrap(StreamBody::new(archive.map_ok(Frame::data)));
        let answer = http.post(url).timeout(PUSH_TIMEOUT).body(body).send().await;
        let answer = answer.map_err(|error| match error.is_connect() {
            true => self.way.unreachable(&error),
            false => ClientError::Broken(chain(&error)),
        })?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| ClientError::Broken(chain(&error)))?;
        if status.is_success() {
            let broken = |error: serde_json::Error| ClientError::Broken(error.to_string());
            return serde_json::from_str(&text).map_err(broken);
        }
        let problem = serde_json::from_str(&text)
            .unwrap_or_else(|_| Problem { code: status.as_str().to_owned(), message: text });
        Err(ClientError::Refused(problem))
    }
}
