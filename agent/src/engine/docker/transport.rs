//! The way to Docker: a connection of its own for every request, over the unix socket. The client library and [`ask`](super::ask) go it alike.

use std::io::ErrorKind;
use std::sync::Arc;

use bollard::BollardRequest;
use bollard::errors::Error as ClientError;
use http::header::{HOST, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use hyper::body::Incoming;
use tokio::net::UnixStream;

use crate::wire;

/// Where the client library believes Docker to be; nobody looks the name up.
pub(super) const ADDRESS: &str = "unix://docker";
/// HTTP/1.1 wants a name; Docker takes any.
const NAME: HeaderValue = HeaderValue::from_static("docker");

/// The head of the answer. The connection ends with the answer's body, or when that is dropped.
pub(super) async fn send(
    socket: Arc<str>,
    request: BollardRequest,
) -> Result<http::Response<Incoming>, ClientError> {
    let stream = match UnixStream::connect(&*socket).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(ClientError::SocketNotFoundError(socket.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.headers.insert(HOST, NAME);
    let (mut sender, _) = wire::open(Box::new(stream)).await?;
    Ok(sender.send_request(http::Request::from_parts(head, body)).await?)
}
