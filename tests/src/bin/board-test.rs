//! `make board-test`: the cases of the emulated board, or those that are named; what they show stands in one table.
//!
//!   board-test --image FOLDER --package FILE.deb --demo FILE.tar --agent FILE --folder FOLDER [CASE...]

use std::path::PathBuf;
use std::process::ExitCode;

use tests::board::Image;
use tests::board::cases::{ALL, Case};
use tests::board::lab::{Parts, Wanted};
use tests::board::results::Results;

const USAGE: &str = "usage: board-test --image FOLDER --package FILE.deb --demo FILE.tar --agent FILE --folder FOLDER [CASE...]";

/// Of others, as they publish it.
const BESIDE: &str = "Beside it, as published: the agent of Eclipse Ankaios 5.56 MiB (PSS) on a Raspberry Pi 4; that of k3s 268 MB.";

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok((parts, cases)) => run(&parts, &cases),
        Err(problem) => {
            eprintln!("board-test: {problem}\n{USAGE}\ncases:");
            for case in ALL {
                eprintln!("  {:<11} {}", case.name, case.what);
            }
            ExitCode::from(2)
        }
    }
}

fn run(parts: &Parts, cases: &[Case]) -> ExitCode {
    let results = Results::of(&parts.folder, &parts.package_id());
    let mut broken = Vec::new();
    for case in cases {
        eprintln!("board-test: {}: {}", case.name, case.what);
        let begun = std::time::Instant::now();
        let word = if case.run(parts, &results) { "passed" } else { "FAILED" };
        eprintln!("board-test: {}: {word} in {:.0} s", case.name, begun.elapsed().as_secs_f64());
        if word == "FAILED" {
            broken.push(case.name);
        }
    }
    println!("{}\n\n{BESIDE}", results.table());
    if !broken.is_empty() {
        eprintln!(
            "board-test: failed: {}; each alone: make board-test CASE=name",
            broken.join(", ")
        );
    } else if !results.is_met() {
        eprintln!("board-test: a target was missed, see above");
    } else {
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(Parts, Vec<Case>), String> {
    let (mut image, mut package, mut demo, mut agent, mut folder) = (None, None, None, None, None);
    let mut cases = Vec::new();
    while let Some(word) = given.next() {
        let mut value = || given.next().map(PathBuf::from).ok_or(format!("{word} needs a path"));
        match word.as_str() {
            "--image" => image = Some(value()?),
            "--package" => package = Some(value()?),
            "--demo" => demo = Some(value()?),
            "--agent" => agent = Some(value()?),
            "--folder" => folder = Some(value()?),
            name => cases.push(
                *ALL.iter().find(|case| case.name == name).ok_or(format!("no case `{name}`"))?,
            ),
        }
    }
    let needed = |path: Option<PathBuf>, option: &str| path.ok_or(format!("{option} is missing"));
    // A disk names the one below it, from wherever it lies.
    let there = |path: PathBuf| path.canonicalize().map_err(|e| format!("{}: {e}", path.display()));
    let parts = Parts {
        image: Image::new(there(needed(image, "--image")?)?),
        package: there(needed(package, "--package")?)?,
        demo: there(needed(demo, "--demo")?)?,
        agent: there(needed(agent, "--agent")?)?,
        folder: there(needed(folder, "--folder")?)?,
        wanted: if cases.is_empty() { Wanted::All } else { Wanted::Some },
    };
    let cases = if cases.is_empty() { ALL.to_vec() } else { cases };
    Ok((parts, cases))
}
