//! The service file: a person's TOML (DESIGN §4) becomes a checked [`ServiceSpec`], or all that is wrong with it.
//!
//! ```text
//! text --toml--> tree with places --service, container, ports, health, rollout, placing--> ServiceSpec + warnings
//!                                 \--> every problem, with line, caret, what was expected and the mend
//! ```
//! A key of the design that is not built yet is refused as such, never ignored. Reads no files: text in, value out.

mod container;
mod health;
mod hooks;
mod host;
mod nearest;
mod overlay;
mod placing;
mod policy;
mod ports;
mod problem;
mod rollout;
mod secrets;
mod service;
mod source;
mod strategies;
mod together;
mod tree;
mod volumes;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

pub use self::policy::parse as parse_policy;
pub use self::problem::{FileError, Problem, Warning};
use self::problem::{Problems, Source};
pub use self::service::{MAX_INSTANCES_PER_NODE, MAX_REPLICAS};
pub use self::source::ArchiveSource;
pub use self::together::check_together;
use self::tree::Table;
pub use self::tree::{MAX_ENTRIES, MAX_TEXT_BYTES};
use crate::id::{EnvironmentName, ServiceName};
use crate::spec::ServiceSpec;

/// A service file larger than this is refused: its release must fit into a manifest.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// Overlays of one file: each makes its release larger.
pub const MAX_ENVIRONMENTS: usize = 16;

/// A service file that was read and found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFile {
    /// The image as a person wrote it; none where the deploy names it.
    pub image: Option<String>,
    /// The archive that holds the image, in place of a registry.
    pub archive: Option<ArchiveSource>,
    /// The service, every default filled in: where no overlay says otherwise, or in one environment
    /// ([`ServiceFile::in_environment`]).
    pub spec: ServiceSpec,
    /// The service in each environment that has an overlay.
    pub environments: BTreeMap<EnvironmentName, ServiceSpec>,
    /// What is allowed and yet worth knowing.
    pub warnings: Vec<Warning>,
    source: Arc<Source>,
    places: Places,
    overlay_places: BTreeMap<EnvironmentName, Places>,
}

/// Where in the text stands what only other files can make wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Places {
    /// The service's name.
    name: Range<usize>,
    /// Each dependency.
    dependencies: BTreeMap<ServiceName, Range<usize>>,
    /// `listen` of each port, by the port's place in [`ServiceSpec::ports`].
    listens: BTreeMap<usize, Range<usize>>,
}

impl ServiceFile {
    /// The file's name, as given to [`parse`].
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source.name
    }

    /// The file as an environment reads it: `spec` is what runs there.
    #[must_use]
    pub fn in_environment(&self, environment: &EnvironmentName) -> Self {
        let mut file = self.clone();
        if let Some(spec) = self.environments.get(environment) {
            file.spec = spec.clone();
            file.places = self.overlay_places.get(environment).cloned().unwrap_or_default();
        }
        file
    }
}

/// Reads a service file. `source_name` is what messages call it, usually its path.
///
/// # Errors
/// With every problem found, in the order of the text.
pub fn parse(source_name: &str, text: &str) -> Result<ServiceFile, FileError> {
    let source = Arc::new(Source { name: source_name.to_owned(), text: text.to_owned() });
    let mut problems = Problems::new(&source);
    let Some(tree) = read_tree(&source.text, MAX_FILE_BYTES, &mut problems) else {
        return Err(FileError::in_order(problems.found));
    };
    let root = Table::root(tree.get_ref(), &service::KEYS, &mut problems);
    let read = service::read(&root, &mut problems);
    let is_right = problems.found.is_empty();
    let overlaid = match &read {
        // A mistake in what all environments share would be told once more for each.
        Some(_) if is_right => overlay::read(tree.get_ref(), &root, &mut problems),
        Some(_) | None => overlay::Overlaid::new(),
    };
    let Problems { found, warnings, .. } = problems;
    match read {
        Some((image, archive, spec, places)) if found.is_empty() => {
            let (mut environments, mut overlay_places) = (BTreeMap::new(), BTreeMap::new());
            for (environment, (spec, places)) in overlaid {
                environments.insert(environment.clone(), spec);
                overlay_places.insert(environment, places);
            }
            let source = Arc::clone(&source);
            let warnings = without_repeats(warnings);
            Ok(ServiceFile {
                image,
                archive,
                spec,
                environments,
                warnings,
                source,
                places,
                overlay_places,
            })
        }
        Some(_) | None => Err(FileError::in_order(found)),
    }
}

/// The text as a tree; none where it is too large or not TOML, which is among the problems then.
fn read_tree<'t>(
    text: &'t str,
    max_bytes: usize,
    problems: &mut Problems<'_>,
) -> Option<Spanned<DeTable<'t>>> {
    if text.len() > max_bytes {
        let message = format!("{} bytes are more than the {max_bytes} allowed", text.len());
        problems.add(&(0..0), "", message, "");
        return None;
    }
    let (tree, broken) = DeTable::parse_recoverable(text);
    for error in broken {
        let span = error.span().unwrap_or(0..0);
        let (message, label) = match error.message() {
            "duplicate key" => ("a key stands twice", "remove one of the two"),
            other => ("this is not TOML", other),
        };
        problems.add(&span, "", message.to_owned(), label);
    }
    problems.found.is_empty().then_some(tree)
}

/// What is worth knowing of the whole file is found again under each overlay.
fn without_repeats(warnings: Vec<Warning>) -> Vec<Warning> {
    let mut kept: Vec<Warning> = Vec::new();
    for warning in warnings {
        if !kept.contains(&warning) {
            kept.push(warning);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
