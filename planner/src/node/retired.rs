//! Releases below their service's security floor: what runs of them goes on, and nothing goes back to them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use protocol::id::ServiceName;
use protocol::retirement;

use super::facts::Wanted;
use super::history::{History, Kept};

/// Whether this is of a release that is not begun any more.
pub(super) fn is_retired(wanted: &Wanted, service: &ServiceName, kept: &Kept) -> bool {
    let release = wanted.releases.get(&kept.release);
    release.is_some_and(|r| retirement::is_retired(&wanted.floors, service, r.counter))
}

/// What is remembered, with every retired `last_good` as if there were none.
pub(super) fn without<'a>(
    wanted: &Wanted,
    histories: &'a BTreeMap<ServiceName, History>,
) -> Cow<'a, BTreeMap<ServiceName, History>> {
    let goes_back_to_retired = |(service, history): &(&ServiceName, &History)| {
        history.last_good.as_ref().is_some_and(|kept| is_retired(wanted, service, kept))
    };
    let retired: Vec<ServiceName> =
        histories.iter().filter(goes_back_to_retired).map(|(service, _)| service.clone()).collect();
    if retired.is_empty() {
        return Cow::Borrowed(histories);
    }
    let mut histories = histories.clone();
    for service in &retired {
        histories.entry(service.clone()).or_default().last_good = None;
    }
    Cow::Owned(histories)
}
