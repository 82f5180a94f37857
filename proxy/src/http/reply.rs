//! The few answers that are the proxy's own.

use super::head::{Method, Rejection, RequestHead, Version};
use crate::connect::Reach;
use crate::fleet::ELSEWHERE;
use crate::stream::Stream;
use tokio::io::AsyncWriteExt;

const UNAVAILABLE: &str = "503 Service Unavailable";

/// A request that is not served; the connection closes after it.
pub(crate) async fn rejected(client: &mut Stream, rejection: &Rejection) {
    let (status, text) = match rejection {
        Rejection::Bad(why) => ("400 Bad Request", *why),
        Rejection::HeadTooSlow => ("408 Request Timeout", "the head did not come in time"),
        Rejection::HeadTooLarge => {
            ("431 Request Header Fields Too Large", "a head has at most 64 KiB and 128 lines")
        }
        Rejection::NotImplemented(why) => ("501 Not Implemented", *why),
        Rejection::Http2 => (
            "505 HTTP Version Not Supported",
            "this port speaks HTTP/1.1; for HTTP/2 or gRPC set protocol = \"tcp\" on the port",
        ),
    };
    write(client, status, "Connection: close\r\n", text, Body::Sent).await;
}

/// No backend takes the request. Returns whether the connection is kept.
pub(crate) async fn unavailable(
    client: &mut Stream,
    request: &RequestHead,
    route: &str,
    reach: Reach,
) -> bool {
    let text = format!("no instance of {route} is ready");
    if reach == Reach::Local {
        let lines = format!("{ELSEWHERE}: 1\r\nRetry-After: 1\r\nConnection: close\r\n");
        write(client, UNAVAILABLE, &lines, &text, Body::of(request)).await;
        return false;
    }
    let keeps = request.keeps && request.framing.is_done() && request.version == Version::Http11;
    respond(client, request, UNAVAILABLE, &text, keeps).await
}

/// The backend broke off before it answered. Returns whether the connection is kept.
pub(crate) async fn broken(client: &mut Stream, request: &RequestHead, route: &str) -> bool {
    let text = format!("an instance of {route} broke off before it answered");
    respond(client, request, "502 Bad Gateway", &text, false).await
}

async fn respond(
    client: &mut Stream,
    request: &RequestHead,
    status: &str,
    text: &str,
    keeps: bool,
) -> bool {
    let lines = match (status.starts_with("503"), keeps) {
        (true, true) => "Retry-After: 1\r\n",
        (true, false) => "Retry-After: 1\r\nConnection: close\r\n",
        (false, _) => "Connection: close\r\n",
    };
    write(client, status, lines, text, Body::of(request)).await && keeps
}

/// Whether the text follows the head that describes it.
enum Body {
    Sent,
    Omitted,
}

impl Body {
    fn of(request: &RequestHead) -> Self {
        if request.method == Method::Head { Self::Omitted } else { Self::Sent }
    }
}

async fn write(client: &mut Stream, status: &str, lines: &str, text: &str, body: Body) -> bool {
    let length = text.len() + 1;
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         {lines}\r\n"
    );
    if matches!(body, Body::Sent) {
        answer.push_str(text);
        answer.push('\n');
    }
    client.write_all(answer.as_bytes()).await.is_ok() && client.flush().await.is_ok()
}
