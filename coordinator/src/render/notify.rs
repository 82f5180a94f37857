//! Who is told what happens, for people.

use super::{clock, table};
use crate::notify::TargetShown;

/// `pith notify ls`
#[must_use]
pub fn targets(all: &[TargetShown]) -> String {
    if all.is_empty() {
        return "nobody is told; a [[notify]] in coordinator.toml names somebody (docs/notifications.md)\n"
            .to_owned();
    }
    let heads = ["NAME", "HOST", "FORMAT", "SIGNED", "DELIVERED", "WAITING", "LAST", "ERROR"];
    let mut rows = vec![heads.map(str::to_owned)];
    for target in all {
        let format = serde_json::json!(target.format);
        rows.push([
            target.name.clone(),
            target.host.clone(),
            format.as_str().unwrap_or_default().to_owned(),
            if target.signed { "yes" } else { "no" }.to_owned(),
            target.delivered.to_string(),
            target.waiting.to_string(),
            target.last_ms.map_or_else(|| "-".to_owned(), clock),
            target.error.clone().unwrap_or_default(),
        ]);
    }
    table(&rows)
}
