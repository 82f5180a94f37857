//! What both brokers must do. Absence is proven by a sentinel sent afterwards, never by waiting.

use std::collections::BTreeSet;

use rumqttc::ConnectionError;
use rumqttc::mqttbytes::v4::ConnectReturnCode;

use crate::brokers::{Broker, NODES, down, token, up};
use crate::peer::{Peer, topic_of};

pub(crate) async fn a_wrong_password_is_answered_by_a_refusing_connack(broker: Broker) {
    for login in [
        broker.node(0).credentials(NODES[0], "wrong"),
        broker.node(0).credentials("nobody", "wrong"),
        broker.coordinator().credentials("coordinator", ""),
    ] {
        let refused = login.try_connect().await.err().expect("it is refused");
        assert!(
            matches!(
                refused,
                ConnectionError::ConnectionRefused(
                    ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized
                )
            ),
            "{refused}"
        );
    }
    broker.end().await;
}

pub(crate) async fn a_retained_message_reaches_a_late_subscriber_until_an_empty_one_clears_it(
    broker: Broker,
) {
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.publish_retained(&down(0, "manifest"), "first").await;
    coordinator.publish_retained(&down(0, "manifest"), "second").await;
    // An empty message that is not retained clears nothing.
    coordinator.publish(&down(0, "manifest"), "").await;

    let mut node = broker.node(0).connect().await;
    node.subscribe(&down(0, "manifest")).await;
    let message = node.message().await;
    assert_eq!((message.payload.as_ref(), message.retain), (b"second".as_ref(), true));
    node.disconnect().await;

    coordinator.publish_retained(&down(0, "manifest"), "").await;
    let mut node = broker.node(0).connect().await;
    node.subscribe(&down(0, "manifest")).await;
    coordinator.publish(&down(0, "manifest"), "sentinel").await;
    assert_eq!(node.text().await.1, "sentinel");
    broker.end().await;
}

pub(crate) async fn three_hundred_retained_topics_reach_a_late_wildcard_subscriber(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    for i in 0..300 {
        coordinator.publish_retained(&down(0, &format!("topic/{i}")), i.to_string()).await;
    }
    let mut node = broker.node(0).connect().await;
    node.subscribe(&down(0, "#")).await;
    let mut topics = BTreeSet::new();
    while topics.len() < 300 {
        topics.insert(node.text().await.0);
    }
    broker.end().await;
}

pub(crate) async fn a_dropped_connection_publishes_its_will_and_a_late_subscriber_reads_it_retained(
    broker: Broker,
) {
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.subscribe(&up(0, "presence")).await;
    let node = broker.node(0).will(&up(0, "presence"), "gone").connect().await;
    node.vanish().await;
    assert_eq!(coordinator.text().await.1, "gone");
    coordinator.disconnect().await;

    let mut late = broker.coordinator().connect().await;
    late.subscribe(&up(0, "presence")).await;
    let message = late.message().await;
    assert_eq!((message.payload.as_ref(), message.retain), (b"gone".as_ref(), true));
    broker.end().await;
}

pub(crate) async fn a_silent_client_is_declared_gone_after_its_keepalive(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.subscribe(&up(0, "presence")).await;
    let login = broker.node(0).will(&up(0, "presence"), "gone").keepalive_s(1);
    let silent = login.connect_silent().await.expect("the broker accepts");
    assert_eq!(coordinator.text().await.1, "gone");
    drop(silent);
    broker.end().await;
}

pub(crate) async fn a_clean_disconnect_publishes_no_will(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.subscribe(&up(0, "presence")).await;
    broker.node(0).will(&up(0, "presence"), "gone").connect_and_leave().await;
    let mut node = broker.node(0).connect().await;
    node.publish(&up(0, "presence"), "sentinel").await;
    assert_eq!(coordinator.text().await.1, "sentinel");
    broker.end().await;
}

pub(crate) async fn an_unacknowledged_message_is_delivered_again_to_the_resumed_session(
    broker: Broker,
) {
    let mut coordinator = broker.coordinator().connect().await;
    let mut node = broker.node(0).persistent().acknowledging_nothing().connect().await;
    node.subscribe(&down(0, "manifest")).await;
    coordinator.publish(&down(0, "manifest"), "once").await;
    assert_eq!(node.text().await.1, "once");
    node.vanish().await;

    let mut node = broker.node(0).persistent().connect().await;
    assert!(node.session_present);
    assert_eq!(node.text().await.1, "once");
    broker.end().await;
}

pub(crate) async fn messages_for_a_client_that_is_away_arrive_in_order_when_it_is_back(
    broker: Broker,
) {
    let mut node = broker.node(0).persistent().connect().await;
    node.subscribe(&down(0, "manifest")).await;
    node.disconnect().await;
    let mut coordinator = broker.coordinator().connect().await;
    let sent: Vec<String> = (0..250).map(|i| i.to_string()).collect();
    for payload in &sent {
        coordinator.publish(&down(0, "manifest"), payload.clone()).await;
    }

    let mut node = broker.node(0).persistent().connect().await;
    assert!(node.session_present);
    let mut received = Vec::new();
    while received.len() < sent.len() {
        received.push(node.text().await.1);
    }
    assert_eq!(received, sent);
    broker.end().await;
}

pub(crate) async fn a_node_publishing_to_another_nodes_topic_has_no_effect(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.subscribe(&up(0, "report").replace(NODES[0], "+")).await;
    let mut victim = broker.node(1).connect().await;
    victim.subscribe(&down(1, "#")).await;

    let mut node = broker.node(0).connect().await;
    for topic in [up(1, "report"), down(1, "manifest"), down(0, "manifest")] {
        node.publish(&topic, "forged").await;
        node.publish_retained(&topic, "forged").await;
    }
    node.publish(&up(0, "report"), "own").await;
    assert_eq!(coordinator.text().await, (up(0, "report"), "own".to_owned()));
    coordinator.publish(&down(1, "manifest"), "sentinel").await;
    assert_eq!(victim.text().await.1, "sentinel");
    broker.end().await;
}

pub(crate) async fn a_will_on_another_nodes_topic_has_no_effect(broker: Broker) {
    let mut victim = broker.node(1).connect().await;
    victim.subscribe(&down(1, "#")).await;
    // The embedded broker refuses the connection, Mosquitto the message.
    if let Ok(node) = broker.node(0).will(&down(1, "manifest"), "forged").try_connect().await {
        node.vanish().await;
        // When the session answers again, the one before it has ended and its will was judged.
        broker.node(0).connect().await.disconnect().await;
    }
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.publish(&down(1, "manifest"), "sentinel").await;
    assert_eq!(victim.text().await.1, "sentinel");
    broker.end().await;
}

pub(crate) async fn a_node_subscribing_beyond_its_own_topics_hears_nothing_of_others(
    broker: Broker,
) {
    let mut coordinator = broker.coordinator().connect().await;
    coordinator.publish_retained(&down(1, "manifest"), "retained of another").await;
    let mut node = broker.node(0).connect().await;
    for filter in ["#".to_owned(), "+/+/+/+/+/down/#".to_owned(), down(1, "#"), up(1, "#")] {
        node.subscribe(&filter).await;
    }
    node.subscribe(&down(0, "#")).await;
    let mut other = broker.node(1).connect().await;
    other.publish(&up(1, "report"), "report of another").await;
    coordinator.publish(&down(1, "manifest"), "live of another").await;
    coordinator.publish(&down(0, "manifest"), "sentinel").await;
    for message in node.messages_until("sentinel").await {
        assert!(topic_of(&message).contains(NODES[0]), "{message:?}");
    }
    broker.end().await;
}

pub(crate) async fn wrong_credentials_with_a_known_client_id_evict_nobody(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    let mut node = broker.node(0).connect().await;
    node.subscribe(&down(0, "#")).await;

    let wrong = broker.node(0).credentials(NODES[0], "wrong").try_connect().await;
    assert!(wrong.is_err());
    // Another node's good credentials: refused, or taken as that other node (Mosquitto's use_username_as_clientid).
    let _other = broker.node(0).credentials(NODES[1], &token(NODES[1])).try_connect().await;

    coordinator.publish(&down(0, "manifest"), "still here").await;
    assert_eq!(node.text().await.1, "still here");
    node.publish(&up(0, "report"), "and speaking").await;
    broker.end().await;
}

pub(crate) async fn the_same_client_connecting_again_takes_over_its_session(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    let mut first = broker.node(0).connect().await;
    first.subscribe(&down(0, "#")).await;
    let mut second = broker.node(0).connect().await;
    second.subscribe(&down(0, "#")).await;
    first.ended().await;
    coordinator.publish(&down(0, "manifest"), "to the second").await;
    assert_eq!(second.text().await.1, "to the second");
    broker.end().await;
}

pub(crate) async fn a_large_packet_passes_and_one_over_the_limit_costs_only_its_sender(
    broker: Broker,
) {
    let mut coordinator = broker.coordinator().connect().await;
    let mut node = broker.node(0).connect().await;
    node.subscribe(&down(0, "#")).await;
    coordinator.publish_retained(&down(0, "manifest"), vec![b'x'; 300 * 1024]).await;
    assert_eq!(node.message().await.payload.len(), 300 * 1024);

    let mut greedy = broker.node(1).connect().await;
    greedy.send(&up(1, "report"), vec![b'x'; 600 * 1024]).await;
    greedy.ended().await;

    coordinator.publish(&down(0, "manifest"), "unharmed").await;
    assert_eq!(node.text().await.1, "unharmed");
    broker.node(1).connect().await.publish(&up(1, "report"), "back").await;
    broker.end().await;
}

pub(crate) async fn overlapping_subscriptions_deliver_at_least_once(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    let mut node = broker.node(0).connect().await;
    node.subscribe(&down(0, "#")).await;
    node.subscribe(&down(0, "manifest")).await;
    coordinator.publish(&down(0, "manifest"), "overlapped").await;
    coordinator.publish(&down(0, "manifest"), "sentinel").await;
    let copies = node.messages_until("sentinel").await.len() - 1;
    assert!((1..=3).contains(&copies), "{copies} copies");
    broker.end().await;
}

pub(crate) async fn a_restarted_broker_serves_the_same_clients_again(broker: Broker) {
    let mut coordinator = broker.coordinator().connect().await;
    let mut node = broker.node(0).persistent().connect().await;
    node.subscribe(&down(0, "manifest")).await;
    coordinator.publish_retained(&down(0, "manifest"), "before").await;
    assert_eq!(node.text().await.1, "before");

    let broker = broker.restart().await;
    node.ended().await;
    coordinator.ended().await;

    // Nothing was kept: the coordinator publishes intent again, the node subscribes again.
    let mut coordinator = broker.coordinator().connect().await;
    let mut node: Peer = broker.node(0).persistent().connect().await;
    assert!(!node.session_present);
    node.subscribe(&down(0, "manifest")).await;
    coordinator.publish_retained(&down(0, "manifest"), "after").await;
    assert_eq!(node.text().await.1, "after");
    broker.end().await;
}
