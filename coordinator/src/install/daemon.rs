//! `--tune-docker`: what is added to /etc/docker/daemon.json, beside what stands there. Pure.

use serde_json::{Map, Value, json};

/// What is to be done about the board's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tuning {
    /// It says all of it already, or decided otherwise.
    Already,
    /// This is to be written; these keys are new in it.
    Write {
        /// The whole file.
        text: String,
        /// What was added.
        added: Vec<String>,
        /// Whether containers outlive the restart that follows.
        runs_on: bool,
    },
}

/// Why a file is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("/etc/docker/daemon.json is no JSON object ({0}): mend it, or leave --tune-docker out")]
pub struct NotJson(String);

/// Containers outlive a restart of Docker; logs are compact and bounded; one layer at a time, as a card writes best.
fn wanted() -> Map<String, Value> {
    let wanted = json!({
        "live-restore": true,
        "log-driver": "local",
        "log-opts": { "max-size": "5m", "max-file": "3" },
        "max-concurrent-downloads": 1,
    });
    match wanted {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// The file with what it lacks; what stands there stays as it is.
///
/// # Errors
/// Where it is something else than a JSON object.
pub fn tuned(there: Option<&str>) -> Result<Tuning, NotJson> {
    let text = there.filter(|text| !text.trim().is_empty()).unwrap_or("{}");
    let mut file: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| NotJson(error.to_string()))?;
    let own_driver = file.contains_key("log-driver");
    let mut added = Vec::new();
    for (key, value) in wanted() {
        // Options belong to their driver: they are not given to another one.
        let is_of_other_driver = key == "log-opts" && own_driver;
        if !file.contains_key(&key) && !is_of_other_driver {
            added.push(key.clone());
            file.insert(key, value);
        }
    }
    if added.is_empty() {
        return Ok(Tuning::Already);
    }
    let runs_on = file.get("live-restore") == Some(&Value::Bool(true));
    let mut text = serde_json::to_string_pretty(&file).unwrap_or_default();
    text.push('\n');
    Ok(Tuning::Write { text, added, runs_on })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(there: Option<&str>) -> (Value, Vec<String>) {
        match tuned(there).unwrap() {
            Tuning::Write { text, added, .. } => (serde_json::from_str(&text).unwrap(), added),
            Tuning::Already => panic!("nothing to write"),
        }
    }

    #[test]
    fn what_is_lacking_is_added_and_what_is_there_stays() {
        let (file, added) =
            written(Some("{\"data-root\": \"/mnt/docker\", \"live-restore\": false}"));
        assert_eq!(file["data-root"], "/mnt/docker");
        assert_eq!(file["live-restore"], false);
        assert_eq!(file["log-driver"], "local");
        assert_eq!(file["max-concurrent-downloads"], 1);
        assert!(!added.contains(&"live-restore".to_owned()));
        assert_eq!(tuned(Some(&file.to_string())), Ok(Tuning::Already));
    }

    #[test]
    fn a_driver_of_their_own_gets_no_options_of_ours() {
        let (file, _) = written(Some("{\"log-driver\": \"journald\"}"));
        assert_eq!(file["log-driver"], "journald");
        assert!(file.get("log-opts").is_none());
    }

    #[test]
    fn no_file_and_an_empty_one_are_the_same_and_a_broken_one_is_left_alone() {
        assert_eq!(written(None), written(Some("\n")));
        assert!(tuned(Some("{\"a\": ")).unwrap_err().to_string().contains("no JSON object"));
        assert!(tuned(Some("[]")).is_err());
    }
}
