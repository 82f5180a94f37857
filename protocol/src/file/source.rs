//! `[source]`: an image in an archive, for those without a registry.

use super::problem::Problems;
use super::tree::{Item, Keys, Table};
use crate::archive::Location;
use crate::id::Digest;

const KEYS: Keys = Keys {
    known: &["archive", "sha256"],
    later: &[],
    elsewhere: &[
        ("url", "did you mean `archive`?"),
        ("checksum", "did you mean `sha256`?"),
        ("digest", "did you mean `sha256`?"),
        ("image", "did you mean `image` at the top of the file?"),
    ],
};

/// An archive as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSource {
    /// Where it is, as written: a [`Location`].
    pub archive: String,
    /// Of the file.
    pub sha256: Digest,
}

pub(super) fn read(root: &Table<'_>, problems: &mut Problems<'_>) -> Option<ArchiveSource> {
    let item = root.get("source")?;
    let table = item.table(&KEYS, problems)?;
    if root.get("image").is_some() {
        let message = "`image` and `[source]` exclude each other".to_owned();
        problems.add(&item.key, "source", message, "remove one of the two").help = Some(
            "`image` names an image in a registry, `[source]` an archive that holds it".to_owned(),
        );
    }
    let sha256 = table.get("sha256").map(|item| read_sha256(item, problems));
    let Some(item) = table.get("archive") else {
        let message = "missing key `source.archive`".to_owned();
        let label =
            "expected where the archive is, such as archive = \"https://files.example/app.tar\"";
        problems.add(&table.span, "source.archive", message, label);
        return None;
    };
    let text = item.text(problems)?;
    let location = match text.parse::<Location>() {
        Ok(location) => location,
        Err(error) => {
            item.invalid(error.to_string(), problems);
            return None;
        }
    };
    let sha256 = match (location, sha256) {
        (_, Some(None)) => return None,
        (Location::Coordinator(named), Some(Some(said))) if said != named => {
            let label = "not the sha256 that `archive` names; remove the line".to_owned();
            table.get("sha256").unwrap_or(item).invalid(label, problems);
            return None;
        }
        (Location::Coordinator(named), Some(_) | None) => named,
        (Location::Web { .. }, Some(Some(said))) => said,
        (Location::Web { .. }, None) => {
            let message = "missing key `source.sha256`".to_owned();
            let label = "expected the archive's sha256: nothing else says that it is the right one";
            problems.add(&table.span, "source.sha256", message, label).help =
                Some("`sha256sum FILE` prints it".to_owned());
            return None;
        }
    };
    Some(ArchiveSource { archive: text.to_owned(), sha256 })
}

/// With or without `sha256:` before the digits.
fn read_sha256(item: &Item<'_>, problems: &mut Problems<'_>) -> Option<Digest> {
    let text = item.text(problems)?;
    let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    let digest = format!("sha256:{digits}").parse::<Digest>().ok();
    let digest = digest.filter(|digest| digest.hex().len() == 64);
    if digest.is_none() {
        item.invalid("expected 64 hexadecimal digits, as `sha256sum FILE` prints them", problems);
    }
    digest
}
