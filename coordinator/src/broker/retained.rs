//! Retained messages, in memory and bounded. The library's own store keeps nothing; its tree is used underneath.

use std::time::Duration;

use async_trait::async_trait;
use rmqtt::Result;
use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::types::{Retain, TopicFilter, TopicName};

pub(super) struct Retained {
    tree: DefaultRetainStorage,
    max_messages: usize,
}

impl Retained {
    pub(super) fn new(max_messages: usize) -> Self {
        Self { tree: DefaultRetainStorage::new(), max_messages }
    }

    async fn is_full(&self) -> bool {
        usize::try_from(self.tree.count().await).is_ok_and(|count| count >= self.max_messages)
    }
}

#[async_trait]
impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    /// An empty payload clears. Nothing expires: an offline node's manifest waits for it as long as it takes.
    async fn set(
        &self,
        topic: &TopicName,
        retain: Retain,
        _expiry: Option<Duration>,
    ) -> Result<()> {
        let clears = retain.publish.payload.is_empty();
        if !clears && self.is_full().await && self.tree.get_message(topic).await?.is_empty() {
            tracing::warn!(
                ?topic,
                max = self.max_messages,
                "broker cannot retain any more messages"
            );
            return Ok(());
        }
        self.tree.set_with_timeout(topic, retain, None).await
    }

    async fn get(&self, filter: &TopicFilter) -> Result<Vec<(TopicName, Retain)>> {
        self.tree.get_message(filter).await
    }

    async fn count(&self) -> isize {
        self.tree.count().await
    }

    async fn max(&self) -> isize {
        self.tree.max().await
    }
}
