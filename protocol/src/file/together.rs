//! What only several services together can get wrong: cycles, unknown dependencies, a port used by two.

use std::collections::{BTreeMap, BTreeSet};

use super::ServiceFile;
use super::ports::overlap;
use super::problem::{FileError, Problem};
use crate::id::ServiceName;
use crate::spec::{Listen, Placement, ServiceSpec};

/// Checks files against each other and against what is deployed in the same environment. A file stands for its
/// service: a deployed one of the same name is not looked at.
///
/// # Errors
/// With every problem found, each at its place in one of the files.
pub fn check_together(files: &[&ServiceFile], deployed: &[&ServiceSpec]) -> Result<(), FileError> {
    let mut problems = Vec::new();
    let mut specs = BTreeMap::new();
    let named: BTreeSet<&ServiceName> = files.iter().map(|file| &file.spec.name).collect();
    for spec in deployed.iter().filter(|spec| !named.contains(&spec.name)) {
        specs.insert(&spec.name, (*spec, "deployed"));
    }
    for file in files {
        let place = file.source.name.as_str();
        if let Some((_, other)) = specs.insert(&file.spec.name, (&file.spec, place)) {
            let message = format!("two services are named `{}`", file.spec.name);
            problems.push(problem(
                file,
                &file.places.name,
                "name",
                message,
                format!("also in {other}"),
            ));
        }
    }
    for file in files {
        check_dependencies(file, &specs, &mut problems);
        check_ports(file, &specs, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(FileError::in_order(problems)) }
}

type Specs<'s> = BTreeMap<&'s ServiceName, (&'s ServiceSpec, &'s str)>;

fn problem(
    file: &ServiceFile,
    span: &std::ops::Range<usize>,
    key: &str,
    message: String,
    expected: String,
) -> Problem {
    let mut problem = Problem::new(&file.source, span, key, message);
    problem.expected = expected;
    problem
}

fn check_dependencies(file: &ServiceFile, specs: &Specs<'_>, problems: &mut Vec<Problem>) {
    for (name, span) in &file.places.dependencies {
        if !specs.contains_key(name) {
            let message = format!("`{}` depends on `{name}`, which does not exist", file.spec.name);
            let names = specs.keys().map(|name| name.as_str());
            let label = super::nearest::nearest(name.as_str(), names)
                .map_or("no such service".to_owned(), |meant| format!("did you mean `{meant}`?"));
            let mut unknown = problem(file, span, "depends_on", message, label);
            unknown.help = Some("deploy it first, or name both files in one deploy".to_owned());
            problems.push(unknown);
            continue;
        }
        let Some(path) = path_back(name, &file.spec.name, specs) else { continue };
        // Of the files on one cycle only the first by name tells of it, at the edge that leaves it.
        let in_files =
            path.iter().any(|step| *step < &file.spec.name && specs[step].1 != "deployed");
        if in_files {
            continue;
        }
        let names: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
        let message = format!("a cycle: {} -> {}", file.spec.name, names.join(" -> "));
        let label = "none of them could start first".to_owned();
        let mut cycle = problem(file, span, "depends_on", message, label);
        cycle.help = Some("use `uses` where the order does not matter".to_owned());
        problems.push(cycle);
    }
}

/// The shortest way along dependencies from `from` to `to`, both named; none where there is none.
fn path_back<'s>(
    from: &'s ServiceName,
    to: &ServiceName,
    specs: &Specs<'s>,
) -> Option<Vec<&'s ServiceName>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = std::collections::VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        let Some((spec, _)) = specs.get(last) else { continue };
        for next in &spec.depends_on {
            if seen.insert(next) {
                ways.push_back(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

fn check_ports(file: &ServiceFile, specs: &Specs<'_>, problems: &mut Vec<Problem>) {
    for (index, span) in &file.places.listens {
        let Some(listen) = file.spec.ports.get(*index).and_then(|port| port.listen.as_ref()) else {
            continue;
        };
        for (spec, place) in specs.values() {
            // Of two files the second by name tells of it; a deployed service cannot.
            let theirs = spec.name < file.spec.name || *place == "deployed";
            if spec.name == file.spec.name
                || !theirs
                || never_meet(&spec.placement, &file.spec.placement)
            {
                continue;
            }
            if listens_of(spec).any(|other| overlap(other, listen)) {
                let message = format!("port {} is used by two services", listen.port);
                let label = format!("`{}` ({place}) listens there already", spec.name);
                problems.push(problem(file, span, "ports", message, label));
            }
        }
    }
}

fn listens_of(spec: &ServiceSpec) -> impl Iterator<Item = &Listen> {
    spec.ports.iter().filter_map(|port| port.listen.as_ref())
}

/// Whether two services are surely on different nodes: both name nodes, and none in common.
fn never_meet(one: &Placement, two: &Placement) -> bool {
    match (&one.names, &two.names) {
        (Some(one), Some(two)) => one.is_disjoint(two),
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}
