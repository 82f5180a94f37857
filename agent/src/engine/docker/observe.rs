//! What Docker says of containers and images, in our words.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::id::Digest;
use protocol::release::{Image, Pin, runs_on};

use super::answers::{ContainerListed, ContainerSeen, ImageSeen};
use super::ask::{encoded, path_of_ours};
use super::kills::End;
use super::{Docker, Host};
use crate::clock;
use crate::engine::ImageFacts;
use crate::engine::container::{Container, ContainerState};
use crate::engine::error::EngineError;
use crate::engine::identity::{FLEET, Identity, NODE, Ours};

/// Containers looked at side by side.
const INSPECTIONS_AT_ONCE: usize = 4;
/// The state of a container that never ran.
const CREATED: &str = "created";
const DEFAULT_STOP_SIGNAL: &str = "SIGTERM";

/// The label filter that means "ours": both must match.
pub(super) fn label_filter(ours: &Ours) -> HashMap<String, Vec<String>> {
    let labels = vec![format!("{FLEET}={}", ours.fleet), format!("{NODE}={}", ours.node)];
    HashMap::from([("label".to_owned(), labels)])
}

pub(super) async fn containers(
    docker: &Docker,
    ours: &Ours,
) -> Result<Vec<Container>, EngineError> {
    let listed: Vec<ContainerListed> =
        docker.get(&path_of_ours("/containers/json?all=true", ours)).await?;
    let ids = listed.into_iter().filter_map(|listed| listed.id);
    let look = |id: String| async move {
        // One that is not there any more was removed since the list was made.
        let seen = inspect(docker, &id).await?;
        Ok(seen.and_then(|seen| container(seen, clock::unix_ms())))
    };
    let inspections = stream::iter(ids).map(look).buffer_unordered(INSPECTIONS_AT_ONCE);
    let mut containers: Vec<Container> =
        inspections.try_filter_map(|seen| async move { Ok(seen) }).try_collect().await?;
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(containers)
}

/// What Docker says of a container; `None` when it is gone.
pub(super) async fn inspect(
    docker: &Docker,
    id: &str,
) -> Result<Option<ContainerSeen>, EngineError> {
    match docker.get(&format!("/containers/{}/json", encoded(id))).await {
        Ok(seen) => Ok(Some(seen)),
        Err(EngineError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One that ended, to say why.
pub(super) fn end(container: &mut Container) -> Option<End<'_>> {
    let run = format!("{} {}", container.id, container.run);
    match &mut container.state {
        ContainerState::Created | ContainerState::Running { .. } => None,
        ContainerState::Exited { code, oom, .. } => Some((run, *code, oom)),
    }
}

fn container(seen: ContainerSeen, now_unix_ms: u64) -> Option<Container> {
    let id = seen.id?;
    let name = seen.name?.trim_start_matches('/').to_owned();
    let labels = seen.config?.labels.unwrap_or_default();
    let Some(identity) = Identity::of_labels(&labels) else {
        tracing::warn!(%id, "a container carries our labels in a form that cannot be read");
        return None;
    };
    let networks = seen.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let address = networks.into_values().find_map(|endpoint| {
        // The fixed address stands here also while the container does not run.
        let fixed = endpoint.fixed.and_then(|fixed| fixed.address);
        fixed.or(endpoint.address).and_then(|text| text.parse::<Ipv4Addr>().ok())
    });
    let state = seen.state?;
    let age = |stamp: &Option<String>| {
        let at = stamp.as_deref().and_then(unix_ms).unwrap_or(0);
        now_unix_ms.saturating_sub(at)
    };
    let state_now = match state.status.as_deref() {
        Some(CREATED) => ContainerState::Created,
        _ if state.running == Some(true) => {
            ContainerState::Running { age_ms: age(&state.started_at) }
        }
        _ => ContainerState::Exited {
            age_ms: age(&state.finished_at),
            code: state.exit_code.unwrap_or(-1),
            oom: state.oom_killed.unwrap_or(false),
        },
    };
    let started = state.started_at.filter(|stamp| unix_ms(stamp).is_some());
    let run = started.unwrap_or_default();
    Some(Container { id, name, identity, state: state_now, address, run })
}

/// The signal that asks a container to end; `None` when it is gone.
pub(super) async fn stop_signal(docker: &Docker, id: &str) -> Result<Option<String>, EngineError> {
    let Some(seen) = inspect(docker, id).await? else { return Ok(None) };
    let named = seen.config.and_then(|config| config.stop_signal);
    let named = named.filter(|name| !name.is_empty());
    Ok(Some(named.unwrap_or_else(|| DEFAULT_STOP_SIGNAL.to_owned())))
}

pub(super) async fn image(
    docker: &Docker,
    image: &Image,
) -> Result<Option<ImageFacts>, EngineError> {
    let Some(seen) = inspect_image(docker, image).await? else { return Ok(None) };
    let id = seen.id.unwrap_or_default();
    if !is_pinned(&image.pin, &id, seen.repo_digests.as_deref().unwrap_or_default()) {
        return Ok(None);
    }
    let config = seen.config.unwrap_or_default();
    let check = config.healthcheck.and_then(|check| check.test);
    let healthcheck = check.is_some_and(|test| test.first().is_some_and(|kind| kind != "NONE"));
    Ok(Some(ImageFacts {
        id,
        architecture: architecture(&seen.architecture.unwrap_or_default()).to_owned(),
        os: seen.os.unwrap_or_default(),
        healthcheck,
        size_bytes: seen.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        user: config.user.unwrap_or_default(),
    }))
}

/// What is there under the pin; an archive's image is known by its configuration, or in containerd by its manifest.
async fn inspect_image(docker: &Docker, image: &Image) -> Result<Option<ImageSeen>, EngineError> {
    let other = match &image.pin {
        Pin::Archive(archive) => archive.manifest.as_ref().map(ToString::to_string),
        Pin::Digest(_) | Pin::ImageId(_) => None,
    };
    for reference in std::iter::once(image.pinned_reference()).chain(other) {
        match docker.get(&format!("/images/{}/json", encoded(&reference))).await {
            Ok(seen) => return Ok(Some(seen)),
            Err(EngineError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What Docker is asked for when a container is made: the id under which it knows the image.
pub(super) async fn reference(docker: &Docker, wanted: &Image) -> Result<String, EngineError> {
    match &wanted.pin {
        Pin::Digest(_) | Pin::ImageId(_) => Ok(wanted.pinned_reference()),
        Pin::Archive(_) => match image(docker, wanted).await? {
            Some(facts) => Ok(facts.id),
            None => Ok(wanted.pinned_reference()),
        },
    }
}

/// With either image store (Docker 29's has the digest as the id) a digest pin is found among the digests.
fn is_pinned(pin: &Pin, id: &str, repo_digests: &[String]) -> bool {
    let names = |digest: &Digest| repo_digests.iter().any(|r| r.ends_with(digest.as_str()));
    match pin {
        Pin::Digest(digest) => names(digest),
        Pin::ImageId(digest) => id == digest.as_str() || names(digest),
        Pin::Archive(archive) => {
            let is = |digest: &Digest| id == digest.as_str() || names(digest);
            is(&archive.image_id) || archive.manifest.as_ref().is_some_and(is)
        }
    }
}

/// An image for another processor would start and end at once with "exec format error"; found before anything starts.
pub(super) async fn refuse_wrong_platform(
    docker: &Docker,
    host: &Host,
    wanted: &Image,
) -> Result<(), EngineError> {
    let reference = &wanted.reference;
    let Some(facts) = image(docker, wanted).await? else {
        return Err(EngineError::NotFound(format!("the image {reference} is not on this node")));
    };
    let host = host.architecture.as_str();
    if runs_on(host, &facts.architecture) {
        return Ok(());
    }
    let variant = &facts.architecture;
    let text = format!("{reference} is built for {variant}, this node's processor is {host}");
    Err(EngineError::WrongPlatform(text))
}

/// Architectures as images name them; the kernel's names mean the same.
pub(super) fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" | "armhf" => "arm",
        other => other,
    }
}

/// Milliseconds since 1970 of `2026-11-23T10:01:02.123456789Z`; `None` for Docker's "never" (year 1) and anything that is
/// not UTC.
pub(super) fn unix_ms(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let millis = format!("{:0<3}", fraction.get(..3).unwrap_or(fraction)).parse::<i64>().ok()?;
    // Howard Hinnant's days from civil: March is the first month, so that the leap day is the last of a year.
    let (shifted_year, shifted_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    u64::try_from(seconds * 1000 + millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_time_stamps_are_read_to_the_millisecond() {
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_ms("2024-02-29T12:30:45.5Z"), Some(1_709_209_845_500));
        assert_eq!(unix_ms("2026-11-23T10:01:02.123456789Z"), Some(1_795_428_062_123));
        assert_eq!(unix_ms("0001-01-01T00:00:00Z"), None);
        assert_eq!(unix_ms("2026-11-23T10:01:02+01:00"), None);
    }

    #[test]
    fn a_processor_runs_its_own_images_and_the_smaller_ones_of_its_kind() {
        assert!(runs_on("arm64", "arm64") && runs_on("arm64", "arm") && runs_on("amd64", "386"));
        assert!(!runs_on("amd64", "arm64") && !runs_on("arm", "arm64"));
        assert_eq!(architecture("aarch64"), "arm64");
    }

    #[test]
    fn a_digest_counts_only_where_the_image_carries_it() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let repo_digests = [format!("127.0.0.1:5000/web@{digest}")];
        assert!(is_pinned(&Pin::Digest(digest.clone()), "sha256:b", &repo_digests));
        assert!(!is_pinned(&Pin::Digest(digest.clone()), digest.as_str(), &[]));
        assert!(is_pinned(&Pin::ImageId(digest.clone()), digest.as_str(), &[]));
    }
}
