//! How much of its memory limit a container uses.

use bollard::Docker as Client;
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;

use super::{QUERY_DEADLINE_MS, within};
use crate::engine::error::EngineError;

pub(super) async fn memory_percent(client: &Client, id: &str) -> Result<Option<u8>, EngineError> {
    let options = query::StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let mut answers = client.stats(id, Some(options));
    let first = async { answers.next().await.transpose() };
    Ok(within(QUERY_DEADLINE_MS, first).await?.as_ref().and_then(percent))
}

/// As `docker stats` counts it: what the page cache could give back at once does not count.
fn percent(stats: &ContainerStatsResponse) -> Option<u8> {
    let memory = stats.memory_stats.as_ref()?;
    let limit = memory.limit.filter(|limit| *limit > 0)?;
    let fields = memory.stats.as_ref();
    let cache = |key: &str| fields.and_then(|fields| fields.get(key)).copied();
    // cgroup v1 sums over the container's own groups under another name.
    let inactive = cache("total_inactive_file").or_else(|| cache("inactive_file")).unwrap_or(0);
    let used = memory.usage?.saturating_sub(inactive);
    u8::try_from((used * 100 / limit).min(100)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerMemoryStats;

    #[test]
    fn what_the_page_cache_could_give_back_does_not_count() {
        let of = |fields: &[(&str, u64)]| {
            let stats = fields.iter().map(|(key, bytes)| ((*key).to_owned(), *bytes)).collect();
            let memory = ContainerMemoryStats {
                usage: Some(900),
                limit: Some(1_000),
                stats: Some(stats),
                ..ContainerMemoryStats::default()
            };
            let memory_stats = Some(memory);
            percent(&ContainerStatsResponse { memory_stats, ..Default::default() })
        };
        assert_eq!(of(&[]), Some(90));
        assert_eq!(of(&[("inactive_file", 400)]), Some(50), "cgroup v2");
        assert_eq!(
            of(&[("total_inactive_file", 600), ("inactive_file", 1)]),
            Some(30),
            "cgroup v1"
        );
    }
}
