//! A missing engine is a reported skip on a person's machine and a failure in CI, never a silent pass.

use std::os::unix::fs::MetadataExt as _;

/// Whether CI runs this.
#[must_use]
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Whether `program` can be used; says so on stderr when it cannot.
///
/// # Panics
/// In CI, when it cannot: there everything is expected to be installed.
#[must_use]
pub fn has(program: &str) -> bool {
    let works = match program {
        "docker" => crate::docker::answers(),
        _ => std::process::Command::new("which")
            .arg(program)
            .output()
            .is_ok_and(|o| o.status.success()),
    };
    assert!(works || !in_ci(), "{program} is needed in CI; `make test` installs it");
    if !works {
        eprintln!("SKIPPED: {program} is not usable here; `make test` says how to get it");
    }
    works
}

/// Whether policies that are written here count: they are root's files.
///
/// # Panics
/// In CI, which runs as root, when they do not.
#[must_use]
pub fn can_write_policies() -> bool {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    assert!(is_root || !in_ci(), "CI runs as root");
    if !is_root {
        eprintln!("SKIPPED: only root can write a policy that counts");
    }
    is_root
}
