//! A thousand nodes, a scraper and a page, as the coordinator meets them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use protocol::hello::{Load, Traffic};
use protocol::id::{FleetId, NodeId};
use protocol::load::{BoardLoad, InstanceLoad, Pressure};
use protocol::topic::{Subject, Topic, Up};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, Subscribe, SubscribeFilter};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::board::{Entrance, connect, enter};

/// The word on the command line that makes this program the nodes.
pub(crate) const ROLE: &str = "nodes";
/// Between loads of a node.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// Between two questions of the scraper.
pub(crate) const SCRAPED_EVERY: Duration = Duration::from_secs(15);
/// Behind so many addresses, as a fleet of several places is: one has 512 connections at most.
const PLACES: u8 = 4;
const SERVICES: usize = 5;
const MAX_PACKET_BYTES: usize = 1024 * 1024;
/// Nodes that come at once.
const COMING: usize = 50;

/// How the coordinator is met.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) ca: Vec<u8>,
    pub(crate) server_name: String,
}

/// A board that has joined.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) hello: Vec<u8>,
}

/// All that this process needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct What {
    pub(crate) place: Place,
    pub(crate) fleet: FleetId,
    pub(crate) socket: PathBuf,
    pub(crate) nodes: Vec<Node>,
}

/// Lives as a fleet until it is ended; says once when all are there.
pub(crate) async fn live(file: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let what: What = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let entrance = Entrance {
        address: what.place.address,
        ca: CertificateDer::from(what.place.ca),
        server_name: what.place.server_name,
    };
    let (entrance, fleet) = (Arc::new(entrance), Arc::new(what.fleet));
    let coming = Arc::new(tokio::sync::Semaphore::new(COMING));
    let here = Arc::new(AtomicUsize::new(0));
    let (began, all) = (Instant::now(), what.nodes.len());
    for (number, node) in what.nodes.into_iter().enumerate() {
        let (entrance, fleet) = (Arc::clone(&entrance), Arc::clone(&fleet));
        let (coming, here) = (Arc::clone(&coming), Arc::clone(&here));
        tokio::spawn(async move {
            let place = coming.acquire().await.unwrap();
            let stream = comes(&entrance, &node, number).await;
            here.fetch_add(1, Ordering::Relaxed);
            drop(place);
            speaks(stream, &fleet, &node, number).await;
        });
    }
    while here.load(Ordering::Relaxed) < all {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{all} nodes are connected after {:.1} s", began.elapsed().as_secs_f64());
    tokio::join!(scrapes(&what.socket), looks(&what.socket));
}

async fn comes(entrance: &Entrance, node: &Node, number: usize) -> TlsStream<TcpStream> {
    let place = u8::try_from(number % usize::from(PLACES)).unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, place + 1), 0));
    let own = Some((node.certificate.as_str(), node.key.as_str()));
    let mut stream = loop {
        match enter(entrance, own, None, Some(from)).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    };
    assert_eq!(connect(&mut stream, node.id.as_str()).await.unwrap(), 0);
    stream
}

/// Says hello and tells its load, and acknowledges what it is told.
async fn speaks(stream: TlsStream<TcpStream>, fleet: &FleetId, node: &Node, number: usize) {
    let topic =
        |up| Topic { fleet: fleet.clone(), node: node.id.clone(), subject: Subject::Up(up) };
    let (mut reading, mut writing) = tokio::io::split(stream);
    let filters = Topic::node_subscriptions(fleet, &node.id);
    let filter = |path| SubscribeFilter { path, qos: QoS::AtLeastOnce };
    let mut subscribe = Subscribe::new_many(filters.into_iter().map(filter));
    subscribe.pkid = 1;
    let mut hello =
        Publish::new(topic(Up::Hello).to_string(), QoS::AtLeastOnce, node.hello.clone());
    hello.pkid = 2;
    let first = [Packet::Subscribe(subscribe), Packet::Publish(hello)];
    for packet in first {
        writing.write_all(&bytes_of(&packet)).await.unwrap();
    }
    // Not all at the same moment.
    let phase = EVERY.mul_f64(f64::from(u32::try_from(number % 1_000).unwrap()) / 1_000.0);
    let start = tokio::time::Instant::now() + phase;
    let mut every = tokio::time::interval_at(start, EVERY);
    let load = topic(Up::Load).to_string();
    let (mut heard, mut told) = (BytesMut::new(), 0_u64);
    loop {
        // Cancel-safe: `read_buf` takes nothing before it has it, and the interval loses no tick.
        tokio::select! {
            _ = every.tick() => {
                told += 1;
                let payload = serde_json::to_vec(&sample(number, told)).unwrap();
                let packet = Packet::Publish(Publish::new(load.clone(), QoS::AtMostOnce, payload));
                writing.write_all(&bytes_of(&packet)).await.unwrap();
            }
            count = reading.read_buf(&mut heard) => {
                assert!(count.unwrap() > 0, "the coordinator closes no session");
                while let Ok(packet) = Packet::read(&mut heard, MAX_PACKET_BYTES) {
                    let Packet::Publish(publish) = packet else { continue };
                    if publish.qos == QoS::AtLeastOnce {
                        let answer = Packet::PubAck(PubAck { pkid: publish.pkid });
                        writing.write_all(&bytes_of(&answer)).await.unwrap();
                    }
                }
            }
        }
    }
}

fn bytes_of(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, MAX_PACKET_BYTES).unwrap();
    bytes
}

/// What a board with five services says of itself while somebody looks.
fn sample(number: usize, told: u64) -> Load {
    let share =
        f32::from(u16::try_from((number + usize::try_from(told).unwrap()) % 100).unwrap()) / 100.0;
    let board = BoardLoad {
        kernel: Some("6.6.63-current-sunxi64".to_owned()),
        engine: Some("28.2.2".to_owned()),
        cores: vec![share; 4],
        iowait: Some(0.01),
        pressure: Some(Pressure { cpu: 0.02, memory: 0.0, io: 0.01 }),
        disk_read: Some(told * 40_960),
        disk_written: Some(told * 81_920),
        net_in: Some(told * 20_480),
        net_out: Some(told * 10_240),
        zones: vec![("cpu_thermal".to_owned(), 48.5), ("gpu_thermal".to_owned(), 47.0)],
        mhz: Some(1_200),
        mhz_max: Some(1_512),
        throttled: Some(false),
        ..BoardLoad::default()
    };
    let names = ["api", "broker", "camera", "store", "web"];
    let instances = names[..SERVICES].iter().map(|name| InstanceLoad {
        service: name.parse().unwrap(),
        instance: format!("pith-{number:08x}-{name}-25c9f70f-0"),
        cpu: Some(share),
        mem_used: Some(24 << 20),
        mem_max: Some(64 << 20),
        net_in: Some(told * 4_096),
        net_out: Some(told * 2_048),
        restarts: 0,
        ooms: Some(0),
    });
    let traffic = names[..SERVICES].iter().map(|name| Traffic {
        service: name.parse().unwrap(),
        release: "25c9f70f".repeat(8).parse().unwrap(),
        requests: told * 120,
        errors: told,
        latency_ms: vec![(5, told * 80), (10, told * 30), (50, told * 10)],
        restarts: 0,
        unready: 0,
        memory_percent: Some(37),
    });
    Load {
        cpu: Some(share),
        load1: Some(0.4),
        mem_used: Some(310 << 20),
        mem_total: Some(985 << 20),
        disk_used: Some(5 << 30),
        disk_total: Some(14 << 30),
        temp_c: Some(48.5),
        up_s: told * 10,
        traffic: traffic.collect(),
        board: Some(Box::new(board)),
        instances: instances.collect(),
        ..Load::default()
    }
}

/// Asks for `/metrics` as Prometheus does, and says what it got.
async fn scrapes(socket: &Path) {
    let mut every = tokio::time::interval(SCRAPED_EVERY);
    loop {
        every.tick().await;
        let began = Instant::now();
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let ask = b"GET /metrics HTTP/1.1\r\nHost: pith\r\nConnection: close\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let (kb, took) = (answer.len() / 1000, began.elapsed());
        println!("`/metrics`: {kb} kB in {} ms", took.as_millis());
    }
}

/// Reads what a page reads, and says how often it came.
async fn looks(socket: &Path) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let ask = b"GET /v1/live HTTP/1.1\r\nHost: pith\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let (began, mut views, mut bytes) = (Instant::now(), 0_u32, 0);
    while let Some(line) = lines.next_line().await.unwrap() {
        bytes += line.len();
        views += u32::from(line.starts_with("data: "));
        if views > 0 && views % 30 == 0 && line.starts_with("data: ") {
            let each_s = began.elapsed().as_secs_f64() / f64::from(views);
            println!(
                "page: a view each {each_s:.1} s, {} kB each",
                bytes / 1000 / usize::try_from(views).unwrap()
            );
        }
    }
}
