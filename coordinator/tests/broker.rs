//! One table of behaviours, against the embedded broker and against a real Mosquitto, through clients that are not ours.
//!
//! Without Mosquitto its half is reported as skipped, and fails where `CI=true`.

#[path = "broker/behaviours.rs"]
mod behaviours;
#[path = "broker/brokers.rs"]
mod brokers;
#[path = "broker/foreign.rs"]
mod foreign;
#[path = "broker/peer.rs"]
mod peer;

macro_rules! on_both_brokers {
    ($($behaviour:ident),+ $(,)?) => {$(
        mod $behaviour {
            #[tokio::test]
            async fn embedded() {
                let broker = crate::brokers::Broker::embedded().await;
                crate::behaviours::$behaviour(broker).await;
            }

            #[tokio::test]
            async fn mosquitto() {
                let Some(broker) = crate::brokers::Broker::mosquitto().await else { return };
                crate::behaviours::$behaviour(broker).await;
            }
        }
    )+};
}

on_both_brokers! {
    a_wrong_password_is_answered_by_a_refusing_connack,
    a_retained_message_reaches_a_late_subscriber_until_an_empty_one_clears_it,
    three_hundred_retained_topics_reach_a_late_wildcard_subscriber,
    a_dropped_connection_publishes_its_will_and_a_late_subscriber_reads_it_retained,
    a_silent_client_is_declared_gone_after_its_keepalive,
    a_clean_disconnect_publishes_no_will,
    an_unacknowledged_message_is_delivered_again_to_the_resumed_session,
    messages_for_a_client_that_is_away_arrive_in_order_when_it_is_back,
    a_node_publishing_to_another_nodes_topic_has_no_effect,
    a_will_on_another_nodes_topic_has_no_effect,
    a_node_subscribing_beyond_its_own_topics_hears_nothing_of_others,
    wrong_credentials_with_a_known_client_id_evict_nobody,
    the_same_client_connecting_again_takes_over_its_session,
    a_large_packet_passes_and_one_over_the_limit_costs_only_its_sender,
    overlapping_subscriptions_deliver_at_least_once,
    a_restarted_broker_serves_the_same_clients_again,
}
