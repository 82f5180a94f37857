//! Which board an identity was made on: written down once, so that a copied state folder is known as one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable::{self, Readers};

/// In the state folder.
pub const BOARD_FILE: &str = "board.json";

pub(super) const FILES: &[&str] = &[
    "/etc/machine-id",
    "/proc/device-tree/serial-number",
    "/sys/class/net/*/address",
    "/sys/class/net/*/device/uevent",
];

/// What tells one board from another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Board {
    /// The processor's; empty: it has none.
    #[serde(default)]
    pub(super) serial: String,
    /// Addresses of network interfaces that are hardware, ascending.
    #[serde(default)]
    pub(super) macs: Vec<String>,
    /// sha256 of the system's id, which a copied card takes along.
    #[serde(default)]
    pub(super) machine_id_sha256: String,
}

/// Whether two are one board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Same {
    /// They are.
    Yes,
    /// They are not.
    No,
    /// Neither has anything of hardware to tell.
    NotTold,
}

impl Board {
    /// From what was read of [`FILES`]: `text` gives the text of one, `macs` those of hardware.
    pub(super) fn new(
        serial: Option<&str>,
        mut macs: Vec<String>,
        machine_id: Option<&str>,
    ) -> Self {
        macs.sort();
        macs.dedup();
        let of_id = |id: &str| protocol::id::sha256_hex(id.as_bytes());
        Self {
            serial: serial.unwrap_or_default().to_owned(),
            macs,
            machine_id_sha256: machine_id.map(of_id).unwrap_or_default(),
        }
    }

    /// The serial number decides, where there is none the interfaces: one that was exchanged leaves the others.
    pub(super) fn same(&self, other: &Self) -> Same {
        if !self.serial.is_empty() && !other.serial.is_empty() {
            return if self.serial == other.serial { Same::Yes } else { Same::No };
        }
        if self.macs.is_empty() || other.macs.is_empty() {
            let has_other_id = self.machine_id_sha256 != other.machine_id_sha256;
            return if has_other_id { Same::No } else { Same::NotTold };
        }
        match self.macs.iter().any(|mac| other.macs.contains(mac)) {
            true => Same::Yes,
            false => Same::No,
        }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match (self.serial.as_str(), self.macs.first()) {
            ("", Some(mac)) => format!("the board with {mac}"),
            ("", None) => "a board without a serial number".to_owned(),
            (serial, _) => format!("the board with serial number {serial}"),
        }
    }
}

/// Writes down which board this is, where that was never done; what cannot be written is left to the next start.
pub fn record(state_dir: &Path) {
    let path = state_dir.join(BOARD_FILE);
    if path.exists() {
        return;
    }
    let text = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
    };
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.path()).filter(|path| path.join("device").exists());
    let macs = names.filter_map(|path| text(&path.join("address").to_string_lossy()));
    let serial = text("/proc/device-tree/serial-number");
    let board = Board::new(serial.as_deref(), macs.collect(), text("/etc/machine-id").as_deref());
    let bytes = serde_json::to_vec(&board).expect("plain data serialises");
    if let Err(error) = durable::write(&path, &bytes, Readers::Owner) {
        tracing::debug!(%error, "which board this is could not be written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: (&str, &[&str], &str), b: (&str, &[&str], &str), expected: Same) {
        let board = |(serial, macs, id): (&str, &[&str], &str)| {
            let macs = macs.iter().map(|mac| (*mac).to_owned()).collect();
            Board::new(Some(serial).filter(|s| !s.is_empty()), macs, Some(id))
        };
        assert_eq!(board(a).same(&board(b)), expected);
    }

    #[test]
    fn a_serial_number_decides_then_the_interfaces_then_the_systems_id() {
        check(("10f3", &["a"], "x"), ("10f3", &["b"], "y"), Same::Yes);
        check(("10f3", &["a"], "x"), ("20f3", &["a"], "x"), Same::No);
        check(("", &["a", "b"], "x"), ("", &["b"], "y"), Same::Yes);
        check(("", &["a"], "x"), ("", &["b"], "x"), Same::No);
        check(("", &[], "x"), ("", &["b"], "y"), Same::No);
        check(("", &[], "x"), ("", &[], "x"), Same::NotTold);
    }

    #[test]
    fn a_board_is_written_down_once() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path());
        let path = dir.path().join(BOARD_FILE);
        let first = std::fs::read(&path).unwrap();
        assert!(serde_json::from_slice::<Board>(&first).is_ok());
        std::fs::write(&path, b"{}").unwrap();
        record(dir.path());
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }
}
