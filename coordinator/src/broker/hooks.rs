//! Between the library's hooks and our rules: translates, decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use protocol::topic::Retain;
use rmqtt::codec::v5::SubscribeAckReason;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::types::{
    AuthResult, ConnectInfo, LastWill, Publish, PublishAclResult, Reason, Subscribe,
    SubscribeAclResult,
};

use super::access::{Credentials, Identity};

/// Puts our rules at every point where the library asks.
pub(super) async fn register(context: &ServerContext, credentials: &Credentials) {
    let hooks = context.extends.hook_mgr().register();
    for point in [
        Type::ClientAuthenticate,
        Type::ClientSubscribeCheckAcl,
        Type::MessagePublishCheckAcl,
        Type::MessageDropped,
    ] {
        hooks.add(point, Box::new(Gate::new(credentials.clone()))).await;
    }
    hooks.start().await;
}

struct Gate {
    credentials: Credentials,
    dropped: AtomicU64,
}

impl Gate {
    fn new(credentials: Credentials) -> Self {
        Self { credentials, dropped: AtomicU64::new(0) }
    }

    fn authenticate(&self, connect: &ConnectInfo) -> AuthResult {
        let client_id: &str = connect.client_id();
        let username = connect.username().map(|name| -> &str { name });
        let password = connect.password().map(|password| -> &[u8] { password });
        let identity = match self.credentials.authenticate(client_id, username, password) {
            Ok(identity) => identity,
            Err(reason) => {
                tracing::info!(?client_id, %reason, "broker refused a client");
                return AuthResult::BadUsernameOrPassword;
            }
        };
        if !self.allows_will(&identity, connect) {
            tracing::info!(
                ?client_id,
                "broker refused a client: its last will is not its to publish"
            );
            return AuthResult::NotAuthorized;
        }
        AuthResult::Allow(false, None)
    }

    /// The library publishes a will without asking the hook for publishes: what it may say is settled here.
    fn allows_will(&self, identity: &Identity, connect: &ConnectInfo) -> bool {
        let (topic, retain) = match connect.last_will() {
            None => return true,
            Some(LastWill::V3(will)) => (&will.topic, will.retain),
            Some(LastWill::V5(will)) => (&will.topic, will.retain),
        };
        self.credentials.may_publish(identity, topic, kept(retain))
    }

    fn check_subscribe(&self, client_id: &str, subscribe: &Subscribe) -> SubscribeAclResult {
        let holder = self.credentials.holder(client_id);
        if holder.is_some_and(|who| self.credentials.may_subscribe(&who, &subscribe.topic_filter)) {
            return SubscribeAclResult::new_success(subscribe.opts.qos(), None);
        }
        tracing::debug!(client_id, filter = ?subscribe.topic_filter, "subscription refused");
        SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
    }

    fn check_publish(&self, client_id: &str, publish: &Publish) -> PublishAclResult {
        let holder = self.credentials.holder(client_id);
        let retain = kept(publish.retain);
        if holder.is_some_and(|who| self.credentials.may_publish(&who, &publish.topic, retain)) {
            return PublishAclResult::allow();
        }
        tracing::debug!(client_id, topic = ?publish.topic, "publish refused");
        // Acknowledged and dropped, as Mosquitto does: MQTT 3.1.1 has no refusal, and a disconnect would loop.
        PublishAclResult::rejected(false, None)
    }

    /// A queue that overflows is never silent, and never a line per message.
    fn note_dropped(&self, reason: &Reason) {
        if !matches!(reason, Reason::MessageQueueFull) {
            return;
        }
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            tracing::warn!(dropped, "broker dropped messages: a client's queue is full");
        }
    }
}

#[async_trait]
impl Handler for Gate {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "registered for these four of some twenty-five points"
    )]
    async fn hook(&self, parameter: &Parameter, earlier: Option<HookResult>) -> ReturnType {
        let answer = match parameter {
            Parameter::ClientAuthenticate(connect) => {
                HookResult::AuthResult(self.authenticate(connect))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                HookResult::SubscribeAclResult(
                    self.check_subscribe(&session.id.client_id, subscribe),
                )
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                HookResult::PublishAclResult(self.check_publish(&session.id.client_id, publish))
            }
            Parameter::MessageDropped(_, _, _, reason) => {
                self.note_dropped(reason);
                return (true, earlier);
            }
            _ => return (true, earlier),
        };
        (false, Some(answer))
    }
}

fn kept(retain: bool) -> Retain {
    if retain { Retain::Kept } else { Retain::Passing }
}
