//! A proxy on a thread of its own, backends that behave as told, and a client that sees bytes.

use proxy::{
    Backend, BackendState, Caller, Client, Fleet, Options, Protocol, Route, Snapshot, Table,
    TakeOver, Trust, run,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A proxy with a runtime of its own; dropping `killed` ends it as SIGKILL would.
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) ended: Option<std::thread::JoinHandle<()>>,
    killed: Option<oneshot::Sender<()>>,
}

/// The folder of one proxy's sockets and copies.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) async fn start(&self, take_over: TakeOver) -> Running {
        let options = Options {
            control_socket: self.path("control.sock"),
            state_file: self.path("table.json"),
            take_over,
            renewal: None,
        };
        let client = Client::new(&options.control_socket);
        let before = client.get().await.map(|snapshot| snapshot.started_ms).ok();
        // Two proxies of one process are told apart by when they started.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (killed, kill) = oneshot::channel::<()>();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    result = run(options, std::future::pending()) => result.unwrap(),
                    _ = kill => (),
                }
            });
        });
        eventually(async || {
            client.get().await.is_ok_and(|snapshot| Some(snapshot.started_ms) != before)
        })
        .await;
        Running { client, ended: Some(ended), killed: Some(killed) }
    }
}

impl Running {
    pub(crate) fn kill(mut self) {
        drop(self.killed.take());
        self.ended.take().unwrap().join().unwrap();
    }

    pub(crate) async fn set(&self, routes: &[Route]) -> proxy::Applied {
        let fleet = Some(Fleet { trust: Some(Trust::Clear), ..Fleet::default() });
        let table = Table { version: 1, routes: routes.to_vec(), fleet };
        self.client.set(&table).await.unwrap()
    }

    /// The same, open to other nodes at this address. All of them are on loopback.
    pub(crate) async fn set_with_fleet(
        &self,
        port: SocketAddr,
        routes: &[Route],
    ) -> proxy::Applied {
        let caller = Caller { address: Ipv4Addr::LOCALHOST.into(), name: String::new() };
        let (callers, trust) = (vec![caller], Some(Trust::Clear));
        let fleet = Fleet { listen: vec![port], callers, trust };
        let table = Table { version: 1, routes: routes.to_vec(), fleet: Some(fleet) };
        self.client.set(&table).await.unwrap()
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.client.get().await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.killed.take());
    }
}

/// Waits for a condition that another task brings about.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it never came true");
}

/// A port that was free a moment ago, never given out twice by these tests.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let host = 2 + NEXT.fetch_add(1, SeqCst);
    let ip = format!("127.77.{}.{}", host / 250, host % 250 + 2);
    std::net::TcpListener::bind((ip.as_str(), 0)).unwrap().local_addr().unwrap()
}

pub(crate) fn backend(id: &str, address: SocketAddr, weight: u32) -> Backend {
    let state = BackendState::Active;
    let release = format!("release-{id}");
    Backend {
        id: id.into(),
        address,
        weight,
        state,
        release,
        through: None,
        name: None,
        source: None,
        backup: false,
    }
}

/// Another node, by its fleet port.
pub(crate) fn node(id: &str, fleet_port: SocketAddr) -> Backend {
    Backend { through: Some("default/hello/http".into()), ..backend(id, fleet_port, 1) }
}

pub(crate) fn route(listen: SocketAddr, protocol: Protocol, backends: Vec<Backend>) -> Route {
    Route {
        id: "default/hello/http".into(),
        listen: vec![listen],
        protocol,
        hold_ms: 0,
        send_proxy_v2: false,
        trusted: Vec::new(),
        backends,
        split: None,
    }
}

/// Calls `serve` for each connection, with its number.
pub(crate) async fn accepting<F>(serve: impl Fn(usize, Wire) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(number, Wire::new(stream)));
        }
    });
    address
}

/// Answers every request with `name` after `work`.
pub(crate) async fn naming(name: &'static str, work: Duration) -> SocketAddr {
    accepting(move |_, mut wire| async move {
        while let Some(request) = wire.message().await {
            // A sleep of nothing would still last a tick of the timer.
            if !work.is_zero() {
                tokio::time::sleep(work).await;
            }
            let length = name.len();
            let body = if request.head.starts_with("HEAD") { "" } else { name };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            wire.send(&answer).await;
        }
    })
    .await
}

/// A message as it came over the wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// One end of a connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// From another address of this host.
    pub(crate) async fn from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        Self::new(socket.connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// A head and its body (by length, by chunks as they are, or until the end for answers without either).
    pub(crate) async fn message(&mut self) -> Option<Message> {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await?).unwrap();
        let lower = head.to_ascii_lowercase();
        let value = |name: &str| {
            let line = lower.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let body = if let Some(length) = value("content-length:") {
            self.exactly(length.parse().unwrap()).await?
        } else if value("transfer-encoding:").is_some() {
            self.until(b"\r\n0\r\n\r\n").await?
        } else {
            Vec::new()
        };
        Some(Message { head, body })
    }

    pub(crate) async fn head_only(&mut self) -> String {
        String::from_utf8(self.until(b"\r\n\r\n").await.unwrap()).unwrap()
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(place) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..place + end.len()).collect());
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let _ = self.stream.read_to_end(&mut self.buffer).await;
        std::mem::take(&mut self.buffer)
    }

    pub(crate) async fn ask(&mut self, text: &str) -> Option<Message> {
        self.send(text).await;
        self.message().await
    }

    pub(crate) async fn get(&mut self) -> Option<Message> {
        self.ask("GET / HTTP/1.1\r\nHost: hello\r\n\r\n").await
    }
}

/// A load of kept-alive and of new connections; counts what did not get 200.
pub(crate) struct Load {
    stop: Arc<std::sync::atomic::AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, kept: usize, new: usize) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let tasks = (0..kept + new)
            .map(|number| tokio::spawn(load(address, number < kept, Arc::clone(&stop))));
        Self { tasks: tasks.collect(), stop }
    }

    /// How many were sent, and what went wrong.
    pub(crate) async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, SeqCst);
        let (mut sent, mut failed) = (0, Vec::new());
        for task in self.tasks {
            let (count, failures) = task.await.unwrap();
            sent += count;
            failed.extend(failures);
        }
        (sent, failed)
    }
}

async fn load(
    address: SocketAddr,
    keeps: bool,
    stop: Arc<std::sync::atomic::AtomicBool>,
) -> (usize, Vec<String>) {
    let (mut sent, mut failed, mut kept) = (0, Vec::new(), None::<Wire>);
    while !stop.load(SeqCst) {
        let mut wire = match kept.take() {
            Some(wire) => wire,
            None => match TcpStream::connect(address).await {
                Ok(stream) => Wire::new(stream),
                Err(error) => {
                    failed.push(format!("connect: {error}"));
                    continue;
                }
            },
        };
        sent += 1;
        match wire.get().await {
            Some(answer) if answer.status() == "200" => {
                let closes = answer.head.to_ascii_lowercase().contains("connection: close");
                kept = (keeps && !closes).then_some(wire);
            }
            other => failed.push(format!("kept {keeps}: {other:?}")),
        }
    }
    (sent, failed)
}
