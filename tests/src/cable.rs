//! Two machines on one cable, as two network namespaces: what goes between them is a real network, with multicast. Needs root.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static CABLES: AtomicU32 = AtomicU32::new(0);

/// The cable, with a machine at each end; gone when dropped.
#[derive(Debug)]
pub struct Cable {
    ends: [String; 2],
}

impl Cable {
    /// Lays it; the machines have 10.77.0.1 and 10.77.0.2 on `eth0`.
    ///
    /// # Panics
    /// Where `ip` fails.
    #[must_use]
    pub fn lay() -> Self {
        let number = CABLES.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("pith-{}-{number}-{end}", std::process::id());
        let cable = Self { ends: [name("a"), name("b")] };
        for end in &cable.ends {
            ip(&["netns", "add", end]);
            ip(&["-n", end, "link", "set", "lo", "up"]);
        }
        let [a, b] = &cable.ends;
        ip(&[
            "link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b,
        ]);
        for (end, address) in cable.ends.iter().zip(["10.77.0.1/24", "10.77.0.2/24"]) {
            ip(&["-n", end, "address", "add", address, "dev", "eth0"]);
            ip(&["-n", end, "link", "set", "eth0", "up"]);
        }
        cable
    }

    /// The same command on a machine, 0 or 1.
    #[must_use]
    pub fn on(&self, machine: usize, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.ends[machine]]);
        there.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                there.env(key, value);
            }
        }
        there
    }

    /// Gives a machine another address instead of its own.
    pub fn readdress(&self, machine: usize, from: &str, to: &str) {
        let end = &self.ends[machine];
        ip(&["-n", end, "address", "add", to, "dev", "eth0"]);
        ip(&["-n", end, "address", "del", from, "dev", "eth0"]);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.ends {
            let _ = Command::new("ip").args(["netns", "delete", end]).status();
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip can be run");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
