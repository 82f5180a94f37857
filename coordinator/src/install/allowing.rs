//! `--allow exec,host-paths=/mnt,devices=/dev/ttyUSB0`: the policy file that an installing writes, and what it does about one that is there.

use std::str::FromStr;

use protocol::file::parse_policy;
use protocol::id::sha256_hex;
use protocol::policy::NodePolicy;

/// What a file begins with that was written here; what follows is the hash of the rest, so that a person's change is noticed.
const MARK: &str =
    "# Written by pith node install; as long as nobody changes it, the next --allow may. ";

/// What `--allow` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow(NodePolicy);

/// Why `--allow` makes no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--allow {0}; there are exec, privileged, host-network, host-paths=/PATH,…, devices=/dev/…, capabilities=NAME,…"
)]
pub struct BadAllow(String);

/// What is to be done about the board's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writing {
    /// It says that already.
    Already,
    /// This is to be written.
    Write(String),
    /// A person has changed it: left alone. Lines that it lacks begin with `+`, those that it has beside them with `-`.
    Differs(Vec<String>),
}

impl FromStr for Allow {
    type Err = BadAllow;

    fn from_str(text: &str) -> Result<Self, BadAllow> {
        let bad = |part: &str, why: &str| BadAllow(format!("`{part}`: {why}"));
        let mut policy = NodePolicy::default();
        let every = &mut policy.every;
        // A value without a key goes with the key before it.
        let mut list = "";
        for part in text.split(',').map(str::trim) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None if !list.is_empty() && (part.starts_with('/') || list == "capabilities") => {
                    (list, Some(part))
                }
                None => (part, None),
            };
            list = "";
            match (key, value) {
                ("exec", None) => every.exec = true,
                ("privileged", None) => every.privileged = true,
                ("host-network", None) => every.host_network = true,
                ("host-paths", Some(path)) => {
                    every.host_paths.push(path.to_owned());
                    list = "host-paths";
                }
                ("devices", Some(path)) => {
                    every.devices.push(path.to_owned());
                    list = "devices";
                }
                ("capabilities", Some(name)) => {
                    every.capabilities.insert(name.to_owned());
                    list = "capabilities";
                }
                ("exec" | "privileged" | "host-network", Some(_)) => {
                    return Err(bad(part, "takes no value"));
                }
                ("host-paths" | "devices" | "capabilities", None) => {
                    return Err(bad(part, "needs a value"));
                }
                _ => return Err(bad(part, "is nothing that a board can allow")),
            }
        }
        let body = body(&policy);
        parse_policy("--allow", &body).map_err(|error| BadAllow(format!("{text}: {error}")))?;
        Ok(Self(policy))
    }
}

impl Allow {
    /// The file that says it.
    #[must_use]
    pub fn file(&self) -> String {
        let body = body(&self.0);
        format!("{MARK}{}\n{body}", sha256_hex(body.as_bytes()))
    }

    /// What to do where the board has `there`, which may be as its package brought it.
    #[must_use]
    pub fn writing(&self, there: Option<&str>, is_shipped: bool) -> Writing {
        let wanted = self.file();
        let Some(there) = there else { return Writing::Write(wanted) };
        let says_it = parse_policy("policy.toml", there).is_ok_and(|policy| policy == self.0);
        if says_it {
            return Writing::Already;
        }
        if is_shipped || is_untouched(there) {
            return Writing::Write(wanted);
        }
        let body = body(&self.0);
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().map(str::trim_end);
            lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
        };
        let (has, wants) = (lines(there), lines(&body));
        let gone = has.iter().filter(|line| !wants.contains(line)).map(|line| format!("-{line}"));
        let new = wants.iter().filter(|line| !has.contains(line)).map(|line| format!("+{line}"));
        Writing::Differs(gone.chain(new).collect())
    }
}

fn is_untouched(file: &str) -> bool {
    let Some((first, rest)) = file.split_once('\n') else { return false };
    first.strip_prefix(MARK).is_some_and(|of_rest| of_rest.trim() == sha256_hex(rest.as_bytes()))
}

fn body(policy: &NodePolicy) -> String {
    let every = &policy.every;
    let mut text = String::new();
    let flags = [
        ("exec", every.exec),
        ("privileged", every.privileged),
        ("host_network", every.host_network),
    ];
    for (key, _) in flags.into_iter().filter(|(_, on)| *on) {
        text.push_str(&format!("{key} = true\n"));
    }
    let capabilities: Vec<String> = every.capabilities.iter().cloned().collect();
    let lists = [
        ("host_paths", &every.host_paths),
        ("devices", &every.devices),
        ("capabilities", &capabilities),
    ];
    for (key, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        let values: Vec<String> =
            values.iter().map(|one| toml::Value::from(one.as_str()).to_string()).collect();
        text.push_str(&format!("{key} = [{}]\n", values.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(text: &str) -> Allow {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_allowed_becomes_a_file_that_an_agent_reads() {
        let allow =
            allow("exec,host-paths=/mnt,/srv,devices=/dev/ttyUSB0,capabilities=NET_ADMIN,NET_RAW");
        let policy = parse_policy("policy.toml", &allow.file()).unwrap();
        assert!(policy.every.exec && !policy.every.privileged);
        assert_eq!(policy.every.host_paths, ["/mnt", "/srv"]);
        assert_eq!(policy.every.devices, ["/dev/ttyUSB0"]);
        assert_eq!(policy.every.capabilities.len(), 2);
    }

    #[test]
    fn nonsense_is_refused_with_what_there_is() {
        for text in
            ["", "exce", "exec=yes", "devices", "devices=sda", "host-paths=../x", "exec,/mnt"]
        {
            let error = text.parse::<Allow>().unwrap_err().to_string();
            assert!(
                error.contains("--allow") && error.contains("host-paths=/PATH"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_file_that_a_person_changed_is_left_alone_and_the_difference_shown() {
        let wanted = allow("exec");
        assert_eq!(wanted.writing(None, false), Writing::Write(wanted.file()));
        let shipped = include_str!("../../../config/policy.toml");
        assert_eq!(wanted.writing(Some(shipped), true), Writing::Write(wanted.file()));
        // Their own words for the same.
        assert_eq!(wanted.writing(Some("exec = true # for anna\n"), false), Writing::Already);
        let own = "# ours\nprivileged = true\n";
        let lines = vec!["-privileged = true".to_owned(), "+exec = true".to_owned()];
        assert_eq!(wanted.writing(Some(own), false), Writing::Differs(lines));
    }

    #[test]
    fn a_file_of_an_earlier_installing_is_replaced_until_somebody_changes_it() {
        let (before, wanted) = (allow("exec").file(), allow("devices=/dev/ttyUSB0"));
        assert_eq!(wanted.writing(Some(&before), false), Writing::Write(wanted.file()));
        let changed = before.replace("exec = true", "exec = true\nprivileged = true");
        assert!(matches!(wanted.writing(Some(&changed), false), Writing::Differs(_)));
    }
}
