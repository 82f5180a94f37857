//! `pith debug bundle`: what a bug report needs, gathered with the rights of whoever asks.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::arguments::DebugVerb;
use super::node::doctor::{Looked, examine};
use super::session::Session;
use super::{CliError, Exit};
use crate::client::{Client, ClientError};
use crate::event_loop::at;
use crate::render;

/// Requests that look at the fleet as a whole: the file, and what is asked.
const WHOLE: [(&str, &str); 12] = [
    ("fleet", "fleet"),
    ("nodes", "nodes"),
    ("services", "services"),
    ("events", "events"),
    ("trust-root", "root"),
    ("addresses", "coordinator/addresses"),
    ("conflicts", "reconciliation"),
    ("agent-releases", "agent/releases"),
    ("notifications", "notifications"),
    ("archives", "archives"),
    ("revoked-certificates", "revoked-certificates"),
    ("audit", "audit"),
];
/// Nodes that look at themselves at once.
const EXAMINED_AT_ONCE: usize = 8;
/// A node that does not answer is left out after this.
const EXAMINED_WITHIN: Duration = Duration::from_secs(40);
/// Fields of answers that may hold secrets: a service file has variables, and applications write what they like.
const PRIVATE: [&str; 3] = ["file", "log", "probe"];
const LEFT_OUT: &str = "(left out)";
/// What stands before the answer of a probe in the messages of planner::node, up to and with a colon.
const BEFORE_ANSWERS: [&str; 3] =
    [" to be ready: ", "not ready within ", "not ready any more within its soak time of "];
/// The check of `pith-agent doctor` that quotes lines of timers and crontabs (agent/src/doctor/neighbours.rs).
const QUOTING_CHECK: &str = "image-pruner";
const README: &str = "\
What `pith debug bundle` gathered; each file is one answer of the coordinator, or says why there is none.

pith.json      the command line that asked, and when
*.json         the fleet as a whole; events.json has the newest thousand
rollouts/      of each service its newest rollout and its history
doctor/        what each node that answered found of itself

Not in it: keys, secrets, service files (their variables may be secrets), logs of applications, what they answered to failing probes,
lines of timers and crontabs.
In it: names of nodes, services, images and people, addresses, and what people gave as causes. Read it before you give it away.
";

/// What was written.
#[derive(Debug, Serialize)]
struct BundleShown {
    file: PathBuf,
    bytes: u64,
    /// Files in it.
    files: usize,
    /// What could not be had, and why.
    missing: Vec<String>,
}

/// A tar file that grows.
struct Bundle {
    tar: tar::Builder<File>,
    at_s: u64,
    files: usize,
    missing: Vec<String>,
}

pub(super) async fn run(session: &Session, verb: DebugVerb) -> Result<Exit, CliError> {
    let DebugVerb::Bundle { file } = verb;
    let file = file.unwrap_or_else(|| default_name(at().unix_ms).into());
    let client = session.client().await?;
    let mut bundle = Bundle::create(&file)?;
    let outcome = gather(&client, &mut bundle).await;
    if let Err(error) = outcome {
        // Half of it would be taken for the whole.
        let _ = std::fs::remove_file(&file);
        return Err(error);
    }
    let (files, missing) = (bundle.files, std::mem::take(&mut bundle.missing));
    bundle.end().map_err(|error| unwritable(&file, &error))?;
    let bytes = file.metadata().map_err(|error| unwritable(&file, &error))?.len();
    session.print(&BundleShown { file, bytes, files, missing }, text);
    Ok(Exit::Done)
}

async fn gather(client: &Client, bundle: &mut Bundle) -> Result<(), CliError> {
    bundle.put("README.txt", README.as_bytes())?;
    bundle.put_json("pith.json", &about())?;
    let mut services = Value::Null;
    let mut nodes = Value::Null;
    for (name, path) in WHOLE {
        let answer = client.document(path).await;
        match (name, &answer) {
            ("services", Ok(shown)) => services = shown.clone(),
            ("nodes", Ok(shown)) => nodes = shown.clone(),
            // Without a coordinator there is nothing to gather.
            ("fleet", Err(ClientError::Unreachable { .. })) => {
                return Err(answer.expect_err("it is one").into());
            }
            (_, Ok(_) | Err(_)) => {}
        }
        bundle.put_answer(&format!("{name}.json"), answer)?;
    }
    for (environment, service) in each(&services["services"], ["environment", "name"]) {
        let of = format!("{environment}/{service}");
        let newest = client.document(&format!("rollouts/{of}")).await;
        bundle.put_answer(&format!("rollouts/{of}/newest.json"), newest)?;
        let history = client.document(&format!("rollouts/{of}/history")).await;
        bundle.put_answer(&format!("rollouts/{of}/history.json"), history)?;
    }
    let online = each(&nodes["nodes"], ["name", "status"]);
    let online = online.into_iter().filter(|(_, status)| status != "offline");
    let examined = online.map(|(name, _)| async move {
        let looked = tokio::time::timeout(EXAMINED_WITHIN, examine(client, &name)).await;
        (name, looked)
    });
    let mut examined = stream::iter(examined).buffer_unordered(EXAMINED_AT_ONCE);
    while let Some((name, looked)) = examined.next().await {
        let file = format!("doctor/{name}.json");
        match looked {
            Ok(Ok(Looked::Found(found))) => {
                let mut found = json!(found);
                leave_out(&mut found);
                bundle.put_json(&file, &found)?;
            }
            Ok(Ok(Looked::Ended(_))) => bundle.miss(&file, "the node refused")?,
            Ok(Err(error)) => bundle.miss(&file, error.message())?,
            Err(_) => bundle.miss(&file, "the node did not answer in time")?,
        }
    }
    Ok(())
}

fn about() -> Value {
    json!({
        "pith": env!("CARGO_PKG_VERSION"),
        "architecture": std::env::consts::ARCH,
        "system": std::env::consts::OS,
        "at_ms": at().unix_ms,
    })
}

/// Takes out what may hold secrets, wherever it stands: service files, what applications wrote, what probes were answered.
fn leave_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let quotes = fields.get("id").and_then(Value::as_str) == Some(QUOTING_CHECK);
            if let Some(Value::String(seen)) = fields.get_mut("seen").filter(|_| quotes) {
                *seen = without_quote(seen);
            }
            for (name, value) in fields {
                if PRIVATE.contains(&name.as_str()) && !value.is_null() {
                    *value = Value::String(LEFT_OUT.to_owned());
                } else {
                    leave_out(value);
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(leave_out),
        Value::String(text) => *text = without_answer(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Without what an application answered to a probe.
fn without_answer(text: &str) -> String {
    let ends = BEFORE_ANSWERS.iter().filter_map(|before| {
        let found = text.find(before)?;
        // The last character may be the colon itself.
        let from = found + before.len() - ": ".len();
        Some(from + text.get(from..)?.find(": ")? + ": ".len())
    });
    match ends.min() {
        Some(end) => format!("{}{LEFT_OUT}", &text[..end]),
        None => text.to_owned(),
    }
}

/// `path: `line`` without the line.
fn without_quote(seen: &str) -> String {
    match seen.split_once(": `") {
        Some((path, _)) => format!("{path}: {LEFT_OUT}"),
        None => seen.to_owned(),
    }
}

/// Two texts of each entry of a list that are fit for a path.
fn each(list: &Value, [first, second]: [&str; 2]) -> Vec<(String, String)> {
    let fits = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let both = |one: &Value| {
        let (first, second) = (one[first].as_str()?, one[second].as_str()?);
        (fits(first) && fits(second)).then(|| (first.to_owned(), second.to_owned()))
    };
    list.as_array().into_iter().flatten().filter_map(both).collect()
}

fn default_name(unix_ms: u64) -> String {
    let stamp: String = render::clock(unix_ms).chars().filter(char::is_ascii_digit).collect();
    format!("pith-debug-{stamp}.tar")
}

fn text(shown: &BundleShown) -> String {
    let mut text = format!(
        "{}: {} files, {} kB; read it before you give it away\n",
        shown.file.display(),
        shown.files,
        shown.bytes.div_ceil(1000)
    );
    for missing in &shown.missing {
        text.push_str(&format!("not in it: {missing}\n"));
    }
    text
}

fn unwritable(file: &Path, error: &std::io::Error) -> CliError {
    CliError::failed(format_args!("{}: {error}", file.display()))
}

impl Bundle {
    fn create(file: &Path) -> Result<Self, CliError> {
        let mut wish = File::options();
        let wish = wish.write(true).create_new(true).mode(0o600);
        let made = wish.open(file).map_err(|error| unwritable(file, &error))?;
        let at_s = at().unix_ms / 1000;
        Ok(Self { tar: tar::Builder::new(made), at_s, files: 0, missing: Vec::new() })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), CliError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        header.set_mode(0o644);
        header.set_mtime(self.at_s);
        let path = format!("pith-debug/{name}");
        let put = self.tar.append_data(&mut header, path, bytes);
        self.files += 1;
        put.map_err(|error| CliError::failed(format_args!("{name}: {error}")))
    }

    fn put_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).expect("answers are plain data");
        self.put(name, (text + "\n").as_bytes())
    }

    fn put_answer(
        &mut self,
        name: &str,
        answer: Result<Value, ClientError>,
    ) -> Result<(), CliError> {
        match answer {
            Ok(mut value) => {
                leave_out(&mut value);
                self.put_json(name, &value)
            }
            Err(error) => self.miss(name, &crate::client::chain(&error)),
        }
    }

    fn miss(&mut self, name: &str, why: &str) -> Result<(), CliError> {
        self.missing.push(format!("{name}: {why}"));
        self.put_json(name, &json!({ "missing": why }))
    }

    fn end(self) -> std::io::Result<()> {
        let mut file = self.tar.into_inner()?;
        file.flush()?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_names_lead_to_no_path() {
        let list = json!([
            { "name": "web", "environment": "default" },
            { "name": "../../etc", "environment": "default" },
            { "name": 7, "environment": "default" },
        ]);
        assert_eq!(
            each(&list, ["environment", "name"]),
            [("default".to_owned(), "web".to_owned())]
        );
    }

    #[test]
    fn what_may_hold_a_secret_is_left_out_wherever_it_stands() {
        let mut answer = json!({
            "revisions": [{ "revision": 1, "file": "TOKEN = \"secret\"" }],
            "failures": [{
                "evidence": { "log": ["secret"], "probe": "401 secret", "exit_code": 1 },
                "message": "not ready within 1m: GET /healthz: 503 Service Unavailable: secret",
            }],
            "events": [
                { "message": "opi-2 went back: not ready any more within its soak time of 2m: secret" },
                { "message": "waiting for pith-1 to be ready: connection refused, secret" },
            ],
            "findings": [
                { "id": "image-pruner", "seen": "/etc/crontab: `0 3 * * * TOKEN=secret docker image prune -f`" },
                { "id": "clock", "seen": "as it should be: `ntp`" },
            ],
        });
        leave_out(&mut answer);
        let text = answer.to_string();
        assert!(!text.contains("secret"), "{text}");
        for kept in
            ["\"exit_code\":1", "soak time of 2m: (left out)", "/etc/crontab: (left out)", "`ntp`"]
        {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tar");
        std::fs::write(&file, "mine").unwrap();
        assert!(Bundle::create(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
