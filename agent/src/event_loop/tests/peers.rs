//! Services of other nodes, as far as a node has to do with them.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::board::{on_board, web};
use protocol::id::NodeId;
use protocol::peers::{Elsewhere, Peer, PeerPort, Peers};
use protocol::report::Phase;
use protocol::spec::PortProtocol;
use protocol::units::Millis;

/// `world` runs on another node alone, which may call this one.
fn peers() -> Peers {
    let port = PeerPort {
        name: "http".parse().unwrap(),
        number: 8080,
        protocol: PortProtocol::Http,
        proxy_protocol: false,
        hold: Millis::from_secs(30),
    };
    let nodes = ["other".parse().unwrap()].into();
    let id: NodeId = "9".repeat(32).parse().unwrap();
    let address: SocketAddr = "127.0.0.9:7484".parse().unwrap();
    Peers {
        nodes: [("other".parse().unwrap(), Peer { id: id.clone(), address })].into(),
        services: [("world".parse().unwrap(), Elsewhere { nodes, ports: vec![port] })].into(),
        callers: [(id, address.ip())].into(),
    }
}

#[test]
fn a_service_of_another_node_has_its_name_and_its_route_here_and_is_not_reported() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    on_board(async |mut board| {
        board.kill_agent().await;
        board.fleet_port = NonZeroU16::new(free.port());
        board.start_agent().await;
        let mut manifest = web(1, "v1");
        manifest.manifest.peers = peers();
        board.manifest(&manifest).await;
        let report = board.until_phase(1, Phase::Running).await;
        assert_eq!(report.services.len(), 1, "only what runs here is reported");
        let table = board
            .until_table("a route to the other node", |table| {
                table.fleet.is_some() && table.routes.iter().any(|r| r.listen.len() == 1)
            })
            .await;
        assert_eq!(table.fleet.unwrap().listen, [free]);
        let world = &table.routes.iter().find(|r| r.id == "default/world/http").unwrap();
        assert_eq!(world.backends[0].address, "127.0.0.9:7484".parse::<SocketAddr>().unwrap());
        let address = world.listen[0].ip();
        let hosts = std::fs::read_to_string(board.hosts_file()).unwrap();
        assert!(hosts.contains(&format!("{address} world\n")), "{hosts}");

        board.manifest(&web(2, "v1")).await;
        let is_gone = |table: &proxy::Table| table.fleet.is_none() && table.routes.is_empty();
        let _ = board.until_table("nothing of the other node", is_gone).await;
        board.until_hosts("the name is gone", |hosts| !hosts.contains("world")).await;
    });
}

#[test]
fn a_fleet_port_that_someone_holds_is_told() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    on_board(async |mut board| {
        board.kill_agent().await;
        board.fleet_port = NonZeroU16::new(holder.local_addr().unwrap().port());
        board.start_agent().await;
        let mut manifest = web(1, "v1");
        manifest.manifest.peers = peers();
        board.manifest(&manifest).await;
        board.until_event("other nodes cannot call services of this one").await;
    });
}
