//! How much of its memory limit a container uses.

use super::Docker;
use super::answers::Stats;
use super::ask::encoded;
use crate::engine::error::EngineError;

pub(super) async fn memory_percent(docker: &Docker, id: &str) -> Result<Option<u8>, EngineError> {
    let path = format!("/containers/{}/stats?stream=false&one-shot=true", encoded(id));
    Ok(percent(&docker.get(&path).await?))
}

/// As `docker stats` counts it: what the page cache could give back at once does not count.
fn percent(stats: &Stats) -> Option<u8> {
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
    use crate::engine::docker::answers::MemoryStats;

    #[test]
    fn what_the_page_cache_could_give_back_does_not_count() {
        let of = |fields: &[(&str, u64)]| {
            let stats = fields.iter().map(|(key, bytes)| ((*key).to_owned(), *bytes)).collect();
            let memory = MemoryStats { usage: Some(900), limit: Some(1_000), stats: Some(stats) };
            let memory_stats = Some(memory);
            percent(&Stats { memory_stats })
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
