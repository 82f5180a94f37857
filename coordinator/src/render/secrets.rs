//! Secrets, for people. No value is ever among what is shown.

use super::{clock, table};
use crate::state::shown::{RevokedShown, SecretSet, SecretsShown, SyncShown};

/// `pith secret ls`
#[must_use]
pub fn list(shown: &SecretsShown) -> String {
    let environment = &shown.environment;
    if shown.secrets.is_empty() {
        return format!(
            "no secrets in {environment}; `pith secret set NAME --env {environment}` makes one\n"
        );
    }
    let mut rows = vec![
        ["SECRET", "ENVIRONMENT", "VERSION", "SET", "BY", "USED BY", "WITHOUT A COPY"]
            .map(str::to_owned),
    ];
    for secret in &shown.secrets {
        rows.push([
            secret.name.to_string(),
            secret.environment.to_string(),
            secret.version.to_string(),
            clock(secret.set_ms),
            secret.by.clone(),
            match &secret.registry {
                Some(registry) => format!("pulls from {registry}"),
                None => joined(&secret.used_by),
            },
            joined(&secret.lacking),
        ]);
    }
    let mut text = table(&rows);
    if shown.secrets.iter().any(|secret| !secret.lacking.is_empty()) {
        text.push_str(&format!(
            "`pith secret sync --env {environment}` seals what is without a copy\n"
        ));
    }
    text
}

/// What setting one did, before its rollouts are followed.
#[must_use]
pub fn set(set: &SecretSet, registry: Option<&str>) -> String {
    let SecretSet { name, environment, version, rollouts, lacking, .. } = set;
    let mut text = format!("secret {name} of {environment} is at version {version}\n");
    if let Some(registry) = registry {
        text.push_str(&format!("nodes pull from {registry} with it; what runs is left alone\n"));
    } else if rollouts.is_empty() {
        text.push_str(&format!(
            "no service uses it yet; write it into a service file: [[secrets]] name = \"{name}\"\n"
        ));
    }
    if !lacking.is_empty() {
        text.push_str(&format!(
            "{} had said no sealing key yet and waits: `pith secret sync --env {environment}` once it is there\n",
            joined(lacking)
        ));
    }
    text
}

/// `pith secret sync`
#[must_use]
pub fn synced(shown: &SyncShown) -> String {
    match (shown.copies, shown.nodes.is_empty()) {
        (0, _) => format!(
            "every node and release key has its copies of the secrets of {}\n",
            shown.environment
        ),
        (copies, true) => format!("{copies} copies sealed to release keys\n"),
        (copies, false) => format!("{copies} copies sealed, for {}\n", joined(&shown.nodes)),
    }
}

/// What a stolen board may have read.
pub(super) fn to_rotate(revoked: &RevokedShown) -> String {
    if revoked.secrets.is_empty() {
        return String::new();
    }
    let mut text = "whoever has the board may have read its secrets; replace each where it is checked, then here:\n".to_owned();
    for secret in &revoked.secrets {
        text.push_str(&format!(
            "  pith secret rotate {} --env {}\n",
            secret.name, secret.environment
        ));
    }
    text
}

fn joined(names: &[impl ToString]) -> String {
    match names {
        [] => "-".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
