//! The main job as `make demo` shows it, on a fleet whose root is two of three people's: nothing more is asked of who runs it,
//! and nobody without a certificate of the fleet says a word to its broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tests::demo::main_job;
use tests::fleet::Fleet;
use tests::http::free_port;
use tests::skip;

/// What MQTT 3.1.1 says to open a session: fixed header, protocol name and level, clean session, keepalive of 60 s, client id.
fn connect(client_id: &str) -> Vec<u8> {
    let mut rest = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60];
    rest.extend(u16::try_from(client_id.len()).unwrap().to_be_bytes());
    rest.extend(client_id.as_bytes());
    let mut packet = vec![0x10, u8::try_from(rest.len()).unwrap()];
    packet.extend(rest);
    packet
}

#[test]
fn the_main_job_is_done_over_mutual_tls_under_a_root_of_two_of_three() {
    if !skip::has("docker") {
        return;
    }
    let fleet = Fleet::start_under(&["alice", "bob", "carol"], u32::from(main_job::NODES));
    let keys = fleet.json(&["keys", "ls"]);
    let root = |keys: &Value| {
        let roles = keys["roles"].as_array().unwrap().clone();
        roles.into_iter().find(|role| role["role"] == "root").unwrap()
    };
    assert_eq!(root(&keys)["threshold"], 2, "{keys}");
    assert_eq!(root(&keys)["keys"].as_array().unwrap().len(), 3, "{keys}");

    let nodes = fleet.json(&["node", "ls"]);
    let id = nodes["nodes"][0]["id"].as_str().unwrap().to_owned();
    let known = fleet.data().join("nodes/node-1/state/coordinator.json");
    let known: Value = serde_json::from_slice(&std::fs::read(known).unwrap()).unwrap();
    let mut stranger = TcpStream::connect(known["addresses"][0].as_str().unwrap()).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stranger.write_all(&connect(&id)).unwrap();
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer);
    assert_ne!(answer.first(), Some(&0x20), "no session without a certificate: {answer:?}");

    assert!(main_job::show(fleet, free_port()), "the table above says what went wrong");
}
