//! Mosquitto's own tools as peers of the embedded broker, in both versions of the protocol.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::brokers::{Broker, NODES, down, mosquitto_is_installed, token, up};
use crate::peer::DEADLINE;

fn tool(name: &str, broker: &Broker, client: &str, password: &str) -> Command {
    let mut command = Command::new(name);
    let (host, port) = (broker.address().ip().to_string(), broker.address().port().to_string());
    command.args(["-h", &host, "-p", &port, "-i", client, "-u", client, "-P", password]);
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn check_tools(version: &str) {
    if !mosquitto_is_installed() {
        return;
    }
    let broker = Broker::embedded().await;
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.subscribe(&up(0, "#")).await;

    let sent = tool("mosquitto_pub", &broker, NODES[0], &token(NODES[0]))
        .args(["-V", version, "-q", "1", "-t", &up(0, "report"), "-m", "from the tool"])
        .output();
    let sent = timeout(DEADLINE, sent).await.expect("it ends").expect("it runs");
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(coordinator.text().await, (up(0, "report"), "from the tool".to_owned()));

    coordinator.publish_retained(&down(0, "manifest"), "for the tool").await;
    let mut subscriber = tool("mosquitto_sub", &broker, NODES[0], &token(NODES[0]))
        .args(["-V", version, "-q", "1", "-t", &down(0, "#"), "-C", "2", "-v"])
        .spawn()
        .expect("it runs");
    let output = subscriber.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let mut line = async || {
        let next = timeout(DEADLINE, lines.next_line()).await.expect("a line in time");
        next.expect("readable").expect("a line")
    };
    assert_eq!(line().await, format!("{} for the tool", down(0, "manifest")));
    coordinator.publish(&down(0, "manifest"), "and live").await;
    assert_eq!(line().await, format!("{} and live", down(0, "manifest")));

    let refused = tool("mosquitto_pub", &broker, NODES[0], "wrong")
        .args(["-V", version, "-t", &up(0, "report"), "-m", "never"])
        .output();
    let refused = timeout(DEADLINE, refused).await.expect("it ends").expect("it runs");
    assert!(!refused.status.success(), "{refused:?}");
    broker.end().await;
}

#[tokio::test]
async fn mosquittos_tools_speak_3_1_1_with_the_embedded_broker() {
    check_tools("311").await;
}

#[tokio::test]
async fn mosquittos_tools_speak_5_with_the_embedded_broker() {
    check_tools("5").await;
}
