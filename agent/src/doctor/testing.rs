//! Boards as trees of files with what real ones say in them.

use std::path::Path;

use protocol::doctor::{Finding, Severity};

use super::facts::{Facts, Ran, StateFolder, Subject};
use super::look::{Tools, files};
use crate::engine::{EngineInfo, Placement, Survey};

/// A board's files in a folder of the test's own, and what its programs print.
#[derive(Debug)]
pub(super) struct Tree {
    dir: tempfile::TempDir,
    programs: Vec<(String, Ran)>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), programs: Vec::new() }
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        let path = self.root().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(super) fn program(mut self, command: &str, ran: Ran) -> Self {
        self.programs.push((command.to_owned(), ran));
        self
    }

    pub(super) fn prints(self, command: &str, text: &str) -> Self {
        self.program(command, Ran::Printed(text.to_owned()))
    }

    /// Read as a board is, with a healthy engine and a node that has joined.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            subject: subject(self.root()),
            as_root: true,
            unix_s: 1_795_600_000,
            floor_s: 1_795_500_000,
            files: files(self.root()),
            programs: self.programs.iter().cloned().collect(),
            volumes: Vec::new(),
            engine: Ok(survey()),
            kept: Vec::new(),
            bridges: Vec::new(),
            state: StateFolder { has_joined: true, agent_answers: true, ..StateFolder::default() },
        }
    }
}

/// Nothing is installed.
#[derive(Debug)]
pub(super) struct Bare;

impl Tools for Bare {
    fn run(&self, _command: &str) -> Ran {
        Ran::Missing
    }
}

pub(super) fn subject(dir: &Path) -> Subject {
    Subject {
        name: "opi-2".parse().unwrap(),
        environment: "default".parse().unwrap(),
        state_dir: dir.join("state"),
        root_file: dir.join("state/root.json"),
        agent_socket: dir.join("run/agent.sock"),
        fleet_port: 7484,
        listens_outside: true,
        pool: "10.213.0.0/16".parse().unwrap(),
    }
}

pub(super) fn survey() -> Survey {
    Survey {
        info: EngineInfo {
            version: "20.10.24+dfsg1".to_owned(),
            api: "1.41".to_owned(),
            architecture: "arm64".to_owned(),
            os: "linux".to_owned(),
            root_dir: "/var/lib/docker".to_owned(),
            cores: 4,
            memory_bytes: 1 << 30,
            placement: Placement::Host,
            limits_memory: true,
            limits_cpu: true,
            live_restore: true,
        },
        limits_swap: true,
        limits_pids: true,
        log_driver: "json-file".to_owned(),
        is_swarm: false,
        warnings: Vec::new(),
        neighbours: Vec::new(),
    }
}

/// Exactly these, by id and severity, each with these parts of what was seen and of its mend; an empty mend: none.
#[track_caller]
pub(super) fn check_findings(found: &[Finding], expected: &[(&str, Severity, &str, &str)]) {
    let told: Vec<(&str, Severity)> = found.iter().map(|f| (f.id.as_str(), f.severity)).collect();
    let wanted: Vec<(&str, Severity)> = expected.iter().map(|(id, s, ..)| (*id, *s)).collect();
    assert_eq!(told, wanted, "{found:#?}");
    for (finding, (_, _, seen, mend)) in found.iter().zip(expected) {
        assert!(finding.seen.contains(seen), "`{seen}` is not in {finding:#?}");
        let told = finding.mend.as_deref().unwrap_or_default();
        assert!(told.contains(mend), "`{mend}` is not in {finding:#?}");
        assert_eq!(told.is_empty(), mend.is_empty(), "{finding:#?}");
        if matches!(finding.severity, Severity::Problem | Severity::Warning) {
            assert!(finding.why.is_some() && finding.mend.is_some(), "{finding:#?}");
        }
    }
}
