//! What a request is aimed at, for the audit log: from its path, or from what its body names. Names and numbers only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// `default/web`, `opi-1`, `anna as viewer`; empty where the body says nothing of the kind. What a signed document says is taken
/// unproven: whether it holds is seen after.
pub(super) fn of(path: &str, body: &[u8]) -> String {
    let path = path.strip_prefix("/v1/").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match parts.as_slice() {
        [_] if body.is_null() => String::new(),
        ["deploys"] => {
            let release = document(&body["release"]);
            format!(
                "{}/{} release {}",
                text(&body["environment"]),
                text(&release["base"]["name"]),
                text(&release["counter"])
            )
        }
        ["promotions"] => {
            format!("{}/{} from {}", text(&body["to"]), text(&body["service"]), text(&body["from"]))
        }
        ["retirements"] => {
            let retirement = document(&body["retirement"]);
            format!("{} below {}", text(&retirement["service"]), text(&retirement["below"]))
        }
        ["agent", "releases"] => {
            let release = document(&body["release"]);
            format!("{} number {}", text(&release["version"]), text(&release["counter"]))
        }
        ["agent", "rollout"] if body["version"].is_string() => {
            format!("to {}", text(&body["version"]))
        }
        ["agent", "programs", program] => program.chars().take(16).collect(),
        ["root"] => format!("version {}", text(&document(&body)["version"])),
        ["operators"] => format!("{} as {}", text(&body["name"]), text(&body["role"])),
        ["login"] => format!("invitation {}", text(&body["token"])),
        ["tokens"] => match body["environment"].as_str() {
            Some(environment) => format!("environment {environment}"),
            None => String::new(),
        },
        ["rollouts" | "services", environment, service, verb @ ..] => {
            let what = match verb {
                ["steer"] => text(&body["verb"]),
                ["restart"] if body["node"].is_string() => format!("on {}", text(&body["node"])),
                ["exec"] => within(&body),
                ["forward"] => format!("to port {} {}", text(&body["port"]), within(&body)),
                ["scale"] => format!("to {}", text(&body["count"])),
                ["undo"] if body["to_revision"].is_u64() => {
                    format!("to revision {}", text(&body["to_revision"]))
                }
                _ => String::new(),
            };
            format!("{environment}/{service} {what}").trim_end().to_owned()
        }
        ["secrets", environment, "secret", name] => format!("{environment}/{name}"),
        ["secrets", environment, ..] => format!("environment {environment}"),
        ["archives", sha256] => sha256.chars().take(64).collect(),
        ["nodes" | "operators", who, ..] => (*who).to_owned(),
        _ => String::new(),
    }
}

/// The payload of an envelope.
fn document(envelope: &Value) -> Value {
    let bytes = envelope["payload"].as_str().and_then(|payload| BASE64.decode(payload).ok());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The instance that is named, if one is.
fn within(body: &Value) -> String {
    let instance = body["instance"].as_str();
    let name = instance.map(|instance| instance.chars().take(80).collect::<String>());
    name.map_or_else(String::new, |name| format!("in {name}"))
}

/// A name or a number; anything else is not said.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().take(64).collect(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, body: &Value, expected: &str) {
        assert_eq!(of(path, body.to_string().as_bytes()), expected);
    }

    #[test]
    fn names_come_from_the_path_or_the_body() {
        let release = serde_json::json!({ "base": { "name": "web" }, "counter": 7 }).to_string();
        let release = serde_json::json!({ "payload": BASE64.encode(release) });
        let deploy = serde_json::json!({ "environment": "staging", "release": release });
        check("/v1/deploys", &deploy, "staging/web release 7");
        check(
            "/v1/services/default/web/scale",
            &serde_json::json!({ "count": 3 }),
            "default/web to 3",
        );
        check(
            "/v1/rollouts/default/web/steer",
            &serde_json::json!({ "verb": "abort" }),
            "default/web abort",
        );
        check(
            "/v1/services/default/web/forward",
            &serde_json::json!({ "port": 8080, "instance": "web-0" }),
            "default/web to port 8080 in web-0",
        );
        check(
            "/v1/services/default/web/forward",
            &serde_json::json!({ "port": 8080 }),
            "default/web to port 8080",
        );
        check("/v1/services/default/web", &Value::Null, "default/web");
        check("/v1/secrets/default/secret/db", &Value::Null, "default/db");
        check("/v1/nodes/opi-1/revoke", &Value::Null, "opi-1");
        check(
            "/v1/operators",
            &serde_json::json!({ "name": "anna", "role": "viewer" }),
            "anna as viewer",
        );
    }

    #[test]
    fn a_secret_is_never_part_of_it() {
        let login = serde_json::json!({ "token": "00ff", "secret": "s3cret" });
        check("/v1/login", &login, "invitation 00ff");
        assert_eq!(of("/v1/deploys", b"{}"), "?/? release ?");
        assert_eq!(of("/v1/deploys", b"\xff{"), "");
    }
}
