//! `[[secrets]]`: which secrets of its environment a service finds as files. Their values are in no file (`pith secret set`).

use std::collections::BTreeSet;

use super::container::read_path;
use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::id::SecretName;
use crate::secret::SECRETS_DIR;
use crate::spec::SecretFile;

/// Secrets of one service.
const MAX_SECRETS: usize = 32;
const DEFAULT_MODE: u32 = 0o400;

const KEYS: Keys = Keys {
    known: &["name", "path", "mode"],
    later: &[("uid", "a secret belongs to the container's user"), ("gid", "")],
    elsewhere: &[
        ("secret", "did you mean `name`?"),
        ("target", "did you mean `path`?"),
        ("value", "no value stands in a file: `pith secret set NAME`"),
        ("file", "no value stands in a file: `pith secret set NAME --from-file FILE`"),
        ("env", "write env = { NAME = { secret = \"…\" } }"),
    ],
};

/// `taken` are the paths inside the container where something else is mounted.
pub(super) fn read(
    item: Option<&Item<'_>>,
    mut taken: BTreeSet<String>,
    problems: &mut Problems<'_>,
) -> Vec<SecretFile> {
    let mut files = Vec::<SecretFile>::new();
    let Some(item) = item else { return files };
    let items = item.list("tables, each under `[[secrets]]`", problems).unwrap_or_default();
    if items.len() > MAX_SECRETS {
        item.invalid(format!("at most {MAX_SECRETS} secrets"), problems);
        return files;
    }
    for item in &items {
        if let Some(name) = item.as_text() {
            let message = format!("wrong type for `{}`", item.path);
            problems.add(&item.span, &item.path, message, "expected a table").help =
                Some(format!("write [[secrets]] and below it: name = {name:?}"));
            continue;
        }
        let Some(table) = item.table(&KEYS, problems) else { continue };
        let Some(file) = read_one(&table, problems) else { continue };
        if !taken.insert(file.path.clone()) {
            let at = table.get("path").or_else(|| table.get("name"));
            if let Some(item) = at {
                item.invalid("something else is mounted there already", problems);
            }
        }
        files.push(file);
    }
    files
}

fn read_one(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<SecretFile> {
    let Some(item) = table.get("name") else {
        let key = format!("{}.name", table.path);
        let message = format!("missing key `{key}`");
        let label = "expected a secret of the environment, such as name = \"db-password\"";
        problems.add(&table.span, &key, message, label);
        return None;
    };
    let name: SecretName = item.parsed(problems)?;
    let path = match table.get("path") {
        None => format!("{SECRETS_DIR}/{name}"),
        Some(item) => {
            let path = read_path(item, problems)?;
            if path.ends_with('/') {
                item.invalid("expected the path of a file, such as \"/run/secrets/db\"", problems);
                return None;
            }
            path
        }
    };
    let mode = match table.get("mode") {
        None => DEFAULT_MODE,
        Some(item) => read_mode(item, problems)?,
    };
    Some(SecretFile { name, path, mode })
}

/// As `chmod` takes it; nobody writes a secret, and only its owner and group may read it.
fn read_mode(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<u32> {
    let text = item.text(problems)?;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o550 == 0 && *mode != 0);
    if mode.is_none() {
        let label = "expected permission bits of owner and group without writing, such as \"0400\" or \"0440\"";
        item.invalid(label, problems);
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse;

    #[track_caller]
    fn check_refused(text: &str, says: &[&str]) {
        let error = parse("web.toml", &format!("name = \"web\"\n{text}")).unwrap_err().to_string();
        for part in says {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }

    #[test]
    fn a_secret_is_a_file_of_its_name_or_a_variable() {
        let text = "name = \"web\"\nenv = { A = \"b\", DB = { secret = \"db\" } }\n[[secrets]]\nname = \"tls-key\"\n\
                    [[secrets]]\nname = \"db\"\npath = \"/etc/db\"\nmode = \"0440\"\n";
        let spec = parse("web.toml", text).unwrap_or_else(|error| panic!("{error}")).spec;
        let of = |name: &str, path: &str, mode| SecretFile {
            name: name.parse().unwrap(),
            path: path.to_owned(),
            mode,
        };
        let files = [of("tls-key", "/run/secrets/tls-key", 0o400), of("db", "/etc/db", 0o440)];
        assert_eq!(spec.secrets, files);
        assert_eq!(spec.container.secret_env["DB"].as_str(), "db");
        assert_eq!(spec.container.env.len(), 1);
        let names: Vec<&str> = spec.secret_names().map(SecretName::as_str).collect();
        assert_eq!(names, ["tls-key", "db", "db"]);
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_mend() {
        check_refused("secrets = [\"db\"]\n", &["web.toml:2", "expected a table", "name = \"db\""]);
        check_refused("[[secrets]]\npath = \"/a\"\n", &["`secrets[0].name`", "db-password"]);
        check_refused("[[secrets]]\nname = \"DB\"\n", &["secret name", "lower-case"]);
        check_refused("[[secrets]]\nname = \"db\"\nvalue = \"x\"\n", &["pith secret set"]);
        check_refused("[[secrets]]\nname = \"db\"\nmode = \"0644\"\n", &["\"0400\""]);
        check_refused("[[secrets]]\nname = \"db\"\nmode = \"0600\"\n", &["without writing"]);
        check_refused("[[secrets]]\nname = \"db\"\npath = \"run\"\n", &["absolute path"]);
        let twice = "[[secrets]]\nname = \"db\"\n[[secrets]]\nname = \"db\"\n";
        check_refused(twice, &["web.toml:5", "mounted there already"]);
        let over = "tmpfs = [\"/run/secrets/db\"]\n[[secrets]]\nname = \"db\"\n";
        check_refused(over, &["mounted there already"]);
        check_refused("env = { A = { secrets = \"db\" } }\n", &["did you mean `secret`?"]);
        check_refused("env = { A = {} }\n", &["{ secret = "]);
        let hook = "[hooks.pre_deploy]\ncommand = [\"/a\"]\nenv = { A = { secret = \"db\" } }\n";
        check_refused(hook, &["secrets of its service", "at the top of the file"]);
    }
}
