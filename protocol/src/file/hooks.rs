//! `[hooks.pre_deploy]` and `[hooks.post_deploy]`.

use super::container::{read_env, read_words};
use super::problem::Problems;
use super::service::MAX_SPAN;
use super::tree::{Item, Keys, Table};
use crate::spec::{Hook, Hooks};
use crate::units::Millis;

const KEYS: Keys = Keys {
    known: &["pre_deploy", "post_deploy"],
    later: &[],
    elsewhere: &[
        ("pre-deploy", "did you mean `pre_deploy`?"),
        ("post-deploy", "did you mean `post_deploy`?"),
        ("migrate", "did you mean `pre_deploy`?"),
    ],
};
const HOOK_KEYS: Keys = Keys {
    known: &["command", "env", "timeout"],
    later: &[("image", "a hook runs the service's own new image with another command")],
    elsewhere: &[("cmd", "did you mean `command`?")],
};

const DEFAULT_TIMEOUT: Millis = Millis::from_secs(300);

pub(super) fn read(item: Option<&Item<'_>>, problems: &mut Problems<'_>) -> Hooks {
    let Some(table) = item.and_then(|item| item.table(&KEYS, problems)) else {
        return Hooks::default();
    };
    let mut hook = |name| {
        let table = table.get(name)?.table(&HOOK_KEYS, problems)?;
        read_hook(&table, problems)
    };
    Hooks { pre_deploy: hook("pre_deploy"), post_deploy: hook("post_deploy") }
}

fn read_hook(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Hook> {
    let (env, secret_env) = read_env(table.get("env"), problems);
    if let (Some(item), Some(name)) = (table.get("env"), secret_env.keys().next()) {
        let label =
            format!("`{name}`: a hook has the secrets of its service, as files and in `env`");
        item.invalid(label, problems).help =
            Some(format!("write env = {{ {name} = {{ secret = \"…\" }} }} at the top of the file"));
    }
    let spans = Millis::from_secs(1)..=MAX_SPAN;
    let timeout = table.duration("timeout", DEFAULT_TIMEOUT, spans, problems);
    let Some(item) = table.get("command") else {
        let key = format!("{}.command", table.path);
        let message = format!("missing key `{key}`");
        let label = "expected the command, such as command = [\"/app\", \"migrate\"]";
        problems.add(&table.span, &key, message, label);
        return None;
    };
    let command = read_words(item, problems)?;
    Some(Hook { command, env, timeout })
}
