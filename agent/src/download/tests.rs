//! Against a server that says what each test has written for it, over a pipe, in passed time.

use std::collections::VecDeque;
use std::sync::Mutex;

use protocol::id::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// What the server does with a connection: these bytes, and then it closes it or says nothing more.
#[derive(Debug, Clone)]
enum Act {
    Close(Vec<u8>),
    Rest(Vec<u8>),
}

/// Answers connections in this order, and remembers what was asked.
#[derive(Debug, Default)]
struct Web {
    acts: Mutex<VecDeque<Act>>,
    asked: std::sync::Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn of(acts: impl IntoIterator<Item = Act>) -> Self {
        Self { acts: Mutex::new(acts.into_iter().collect()), asked: Default::default() }
    }

    /// First lines and the headers that resume, in order.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let said = |head: &String| {
            let kept = |line: &&str| line.starts_with("range") || line.starts_with("if-range");
            let mut lines = head.lines();
            let first = lines.next().unwrap_or_default().trim_end_matches(" http/1.1").to_owned();
            std::iter::once(first)
                .chain(lines.filter(kept).map(str::to_owned))
                .collect::<Vec<_>>()
                .join("; ")
        };
        asked.iter().map(said).collect()
    }
}

impl Dial for Web {
    async fn dial(&self, to: &Location) -> Result<Dialled, DownloadError> {
        let Location::Web { authority, path, .. } = to else {
            return Err(DownloadError::Unreachable("not the coordinator".to_owned()));
        };
        let act = self.acts.lock().unwrap().pop_front();
        let act = act.ok_or_else(|| DownloadError::Unreachable("nobody listens".to_owned()))?;
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let asked = std::sync::Arc::clone(&self.asked);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(theirs.read_u8().await.unwrap());
            }
            asked.lock().unwrap().push(String::from_utf8(head).unwrap().to_ascii_lowercase());
            let (bytes, rests) = match act {
                Act::Close(bytes) => (bytes, false),
                Act::Rest(bytes) => (bytes, true),
            };
            // Whoever asked may have hung up.
            let _ = theirs.write_all(&bytes).await;
            if rests {
                std::future::pending::<()>().await;
            }
        });
        let (host, path) = (authority.clone(), path.clone());
        Ok(Dialled { stream: Box::new(ours), host, path, headers: Vec::new() })
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn whole(body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("Content-Length: {}\r\nETag: \"v1\"\r\n", body.len()), body)
}

fn leads_to(place: &str) -> Act {
    Act::Close(answer("302 Found", &format!("Location: {place}\r\nContent-Length: 0\r\n"), b""))
}

struct Case {
    _folder: tempfile::TempDir,
    kept: Kept,
    from: Location,
}

/// For a file with this content at `http://files.example/web.tar`.
fn wanted(content: &[u8]) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content.len() as u64;
    let kept = Kept::open(folder.path(), &Digest::of(content), bytes).unwrap();
    let from = "http://files.example/web.tar".parse().unwrap();
    Case { _folder: folder, kept, from }
}

async fn get(web: &Web, case: &mut Case, rate: Option<u64>) -> Result<(), String> {
    let Case { kept, from, .. } = case;
    fetch(web, from, kept, rate, |_| {}).await.map_err(|error| error.to_string())
}

#[tokio::test(start_paused = true)]
async fn redirections_are_followed_and_end() {
    let mut case = wanted(b"hello");
    let web = Web::of([
        leads_to("/v2/web.tar"),
        leads_to("//other.example/x"),
        Act::Close(whole(b"hello")),
    ]);
    get(&web, &mut case, None).await.unwrap();
    assert!(case.kept.check().await.unwrap());
    assert_eq!(web.asked(), ["get /web.tar", "get /v2/web.tar", "get /x"]);

    let error =
        get(&Web::of((0..10).map(|_| leads_to("/web.tar"))), &mut wanted(b"hello"), None).await;
    assert!(error.unwrap_err().contains("leads on more than 5 times"));
    let error = get(&Web::of([leads_to("pith://abc")]), &mut wanted(b"hello"), None).await;
    assert!(error.unwrap_err().contains("leads to no web address"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up_and_gone_on_with() {
    let mut case = wanted(b"hello");
    let begun = answer("200 OK", "Content-Length: 5\r\nETag: \"v1\"\r\n", b"he");
    let rest =
        answer("206 Partial Content", "Content-Range: bytes 2-4/5\r\nETag: \"v1\"\r\n", b"llo");
    let web = Web::of([Act::Rest(begun), Act::Close(rest)]);
    let began = Instant::now();
    let error = get(&web, &mut case, None).await.unwrap_err();
    assert!(error.contains("no byte for 60 s; 2 of 5 bytes are here"), "{error}");
    assert_eq!(began.elapsed().as_secs(), SILENCE.as_secs());
    get(&web, &mut case, None).await.unwrap();
    assert!(case.kept.check().await.unwrap());
    assert_eq!(web.asked()[1], "get /web.tar; range: bytes=2-; if-range: \"v1\"");

    let error =
        get(&Web::of([Act::Rest(Vec::new())]), &mut wanted(b"hello"), None).await.unwrap_err();
    assert!(error.contains("no answer within 30 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_to_however_fast_it_comes() {
    let content = vec![7; 1 << 20];
    let took = async |rate| {
        let mut case = wanted(&content);
        let began = Instant::now();
        get(&Web::of([Act::Close(whole(&content))]), &mut case, rate).await.unwrap();
        assert!(case.kept.check().await.unwrap());
        began.elapsed()
    };
    assert_eq!(took(None).await, Duration::ZERO);
    let slow = took(Some(256 << 10)).await;
    assert!((3_700..=4_000).contains(&slow.as_millis()), "1 MiB at 256 KiB/s took {slow:?}");
}

#[tokio::test(start_paused = true)]
async fn no_byte_more_than_was_signed_is_kept() {
    let mut case = wanted(b"hello");
    let more = answer("200 OK", "Transfer-Encoding: chunked\r\n", b"8\r\nhello wo\r\n");
    let error = get(&Web::of([Act::Close(more)]), &mut case, None).await.unwrap_err();
    assert!(error.contains("more than the 5 bytes"), "{error}");
    assert!(case.kept.is_empty());
    let error = get(&Web::of([Act::Close(whole(b"hello world"))]), &mut case, None).await;
    assert!(error.unwrap_err().contains("has 11 bytes and the release names 5"));
}
