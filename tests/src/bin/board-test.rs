//! `make board-test`: the cases of the emulated board, or those that are named; what they show stands in one table.
//!
//!   board-test --image FOLDER --package FILE.deb --demo FILE.tar --folder FOLDER [CASE...]

use std::path::PathBuf;
use std::process::ExitCode;

use tests::board::Image;
use tests::board::cases::{ALL, Case};
use tests::board::lab::Parts;
use tests::board::results::Results;

const USAGE: &str =
    "usage: board-test --image FOLDER --package FILE.deb --demo FILE.tar --folder FOLDER [CASE...]";

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
    std::fs::create_dir_all(&parts.folder).expect("a folder can be made");
    let mut results = Results::open(&parts.folder, &parts.package_id());
    for case in cases {
        eprintln!("board-test: {}: {}", case.name, case.what);
        let begun = std::time::Instant::now();
        case.run(parts, &mut results);
        eprintln!("board-test: {}: passed in {:.0} s", case.name, begun.elapsed().as_secs_f64());
    }
    println!("{}", results.table());
    if results.is_met() {
        ExitCode::SUCCESS
    } else {
        eprintln!("board-test: a target was missed, see above");
        ExitCode::FAILURE
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(Parts, Vec<Case>), String> {
    let (mut image, mut package, mut demo, mut folder) = (None, None, None, None);
    let mut cases = Vec::new();
    while let Some(word) = given.next() {
        let mut value = || given.next().map(PathBuf::from).ok_or(format!("{word} needs a path"));
        match word.as_str() {
            "--image" => image = Some(value()?),
            "--package" => package = Some(value()?),
            "--demo" => demo = Some(value()?),
            "--folder" => folder = Some(value()?),
            name => cases.push(
                *ALL.iter().find(|case| case.name == name).ok_or(format!("no case `{name}`"))?,
            ),
        }
    }
    let needed = |path: Option<PathBuf>, option: &str| path.ok_or(format!("{option} is missing"));
    let parts = Parts {
        image: Image::new(needed(image, "--image")?),
        package: needed(package, "--package")?,
        demo: needed(demo, "--demo")?,
        folder: needed(folder, "--folder")?,
    };
    let cases = if cases.is_empty() { ALL.to_vec() } else { cases };
    Ok((parts, cases))
}
