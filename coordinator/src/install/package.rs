//! Which package a board gets: the one of this very version, for its processor.

use std::path::{Path, PathBuf};

/// Of the programs that are installed together.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where Debian packages put what they bring for others.
const SHARED: &str = "/usr/share/pith/packages";

/// A package file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Where it is here.
    pub path: PathBuf,
    /// What its name says; the board asks the file itself before it is installed.
    pub name: Named,
}

/// What the name of a package file says, `pith-agent_0.1.0_arm64.deb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Its version, and the processor it is for.
    As {
        /// `0.1.0`
        version: String,
        /// As dpkg says: `arm64`.
        architecture: String,
    },
    /// Nothing: somebody has given it another name.
    Otherwise,
}

/// Why there is no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPackage {
    /// Not in any of the places.
    #[error(
        "there is no {file} here; looked in {looked}\n`make dist` in the sources makes it (dist/); name one that is elsewhere with \
         --package FILE"
    )]
    NotFound {
        /// Its name.
        file: String,
        /// In which folders.
        looked: String,
    },
    /// `--package`
    #[error("--package {path}: {problem}", path = .path.display())]
    Unusable {
        /// What was named.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The name of the package of this version.
#[must_use]
pub fn file_name(architecture: &str) -> String {
    format!("pith-agent_{VERSION}_{architecture}.deb")
}

/// Where packages are looked for: beside `pith`, in `dist/` (here, and in the sources that it was built in), and where a Debian package
/// would bring them.
#[must_use]
pub fn folders(program: Option<&Path>, here: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(beside) = program.and_then(Path::parent) {
        folders.push(beside.to_owned());
        folders.push(beside.join("dist"));
        // target/release/pith of the sources.
        folders.extend(beside.parent().and_then(Path::parent).map(|top| top.join("dist")));
    }
    folders.extend(here.map(|here| here.join("dist")));
    folders.push(PathBuf::from(SHARED));
    let mut known = std::collections::BTreeSet::new();
    folders.retain(|folder| known.insert(folder.clone()));
    folders
}

/// The package for a processor, in the first folder that has it.
///
/// # Errors
/// Says where it was looked for.
pub fn find(architecture: &str, folders: &[PathBuf]) -> Result<Package, NoPackage> {
    let file = file_name(architecture);
    let found = folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file());
    let Some(path) = found else {
        let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        return Err(NoPackage::NotFound { file, looked: looked.join(", ") });
    };
    let name = Named::of(&path);
    Ok(Package { path, name })
}

/// The one that was named.
///
/// # Errors
/// Where it is no package file.
pub fn named(path: &Path) -> Result<Package, NoPackage> {
    let unusable = |problem: String| NoPackage::Unusable { path: path.to_owned(), problem };
    let mut head = [0; 8];
    let read = std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.map_err(|error| unusable(error.to_string()))?;
    if &head != b"!<arch>\n" {
        return Err(unusable("this is no Debian package".to_owned()));
    }
    Ok(Package { path: path.to_owned(), name: Named::of(path) })
}

impl Named {
    fn of(path: &Path) -> Self {
        let stem =
            path.file_name().and_then(|name| name.to_str()).and_then(|n| n.strip_suffix(".deb"));
        let mut parts = stem.unwrap_or_default().split('_');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("pith-agent"), Some(version), Some(architecture), None) => {
                Self::As { version: version.to_owned(), architecture: architecture.to_owned() }
            }
            _ => Self::Otherwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_looked_for_beside_the_program_in_dist_and_where_debian_has_it() {
        let folders = folders(Some(Path::new("/src/target/release/pith")), Some(Path::new("/src")));
        let shown: Vec<&str> = folders.iter().map(|f| f.to_str().unwrap()).collect();
        assert_eq!(shown, ["/src/target/release", "/src/target/release/dist", "/src/dist", SHARED]);
        let error = find("arm64", &folders).unwrap_err().to_string();
        assert!(error.contains(&file_name("arm64")) && error.contains("/src/dist"), "{error}");
        assert!(error.contains("make dist") && error.contains("--package FILE"), "{error}");
    }

    #[test]
    fn the_name_says_version_and_processor() {
        let of = |name: &str| Named::of(Path::new(name));
        let as_named = Named::As { version: "0.1.0".into(), architecture: "arm64".into() };
        assert_eq!(of("/a/pith-agent_0.1.0_arm64.deb"), as_named);
        for other in
            ["agent.deb", "pith-agent_0.1.0.deb", "pith_0.1.0_arm64.deb", "pith-agent_1_2_3.deb"]
        {
            assert_eq!(of(other), Named::Otherwise, "{other}");
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pith-agent_0.1.0_arm64.deb");
        assert!(named(&file).unwrap_err().to_string().contains("No such file"));
        std::fs::write(&file, "not an archive").unwrap();
        assert!(named(&file).unwrap_err().to_string().contains("no Debian package"));
        std::fs::write(&file, "!<arch>\ndebian-binary").unwrap();
        assert!(named(&file).is_ok());
    }
}
