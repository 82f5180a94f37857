//! What the kernel counts of a container, in its cgroup: version 2, or version 1 where the system still has it.

use super::Root;

const BASE: &str = "/sys/fs/cgroup";
/// Where the processor's time is counted under version 1: by the controller alone, or mounted together.
const V1_CPU: [&str; 2] = ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct"];
const V1_MEMORY: &str = "/sys/fs/cgroup/memory";
/// A limit of version 1 above this is none: it writes the largest multiple of a page that it can.
const V1_NO_LIMIT: u64 = 1 << 60;
/// How Docker names a container's cgroup, around its id: by systemd, by itself.
const FORMS: [(&str, &str); 2] = [("system.slice/docker-", ".scope"), ("docker/", "")];
/// So deep a container is looked for (user.slice/user-1000.slice/user@1000.service/...).
const MAX_DEPTH: u32 = 6;
/// Folders that are looked into for it.
const MAX_FOLDERS: u32 = 1_000;

/// Finds cgroups.
#[derive(Debug)]
pub struct Groups {
    root: Root,
    is_v2: bool,
    /// Where the processor's time and the memory are counted.
    bases: [&'static str; 2],
    /// What has led to a container before, around its id.
    forms: Vec<(String, String)>,
}

/// A container's cgroup: the folders that count its processor's time and its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    cpu: String,
    memory: String,
}

/// What it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The processor's time since its start, microseconds.
    pub cpu_us: Option<u64>,
    /// Memory without files that the kernel can drop, bytes.
    pub mem_used: Option<u64>,
    /// Its limit; none where it has none.
    pub mem_max: Option<u64>,
    /// Times that the kernel ended something in it for its memory.
    pub ooms: Option<u64>,
}

impl Groups {
    /// Sees which version there is.
    #[must_use]
    pub fn new(root: Root) -> Self {
        let is_v2 = root.has(&format!("{BASE}/cgroup.controllers"));
        let v1_cpu = V1_CPU.into_iter().find(|base| root.has(base)).unwrap_or(V1_CPU[0]);
        let bases = if is_v2 { [BASE; 2] } else { [v1_cpu, V1_MEMORY] };
        let forms = FORMS.map(|(before, after)| (before.to_owned(), after.to_owned()));
        Self { root, is_v2, bases, forms: forms.into() }
    }

    /// The cgroup of a running container, by the engine's id. Where it is in none of the usual places all are searched, and where it
    /// was is tried first for the next one.
    pub fn find(&mut self, id: &str) -> Option<Group> {
        // What is no id would be found anywhere.
        if id.len() < 12 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let is_there =
            |path: &str| self.bases.iter().any(|base| self.root.has(&format!("{base}/{path}")));
        let usual = self.forms.iter().map(|(before, after)| format!("{before}{id}{after}"));
        let path = match usual.into_iter().find(|path| is_there(path)) {
            Some(path) => path,
            None => {
                let path = self.search(id)?;
                let (before, after) = path.split_once(id)?;
                self.forms.insert(0, (before.to_owned(), after.to_owned()));
                path
            }
        };
        let [cpu, memory] = self.bases.map(|base| format!("{base}/{path}"));
        Some(Group { cpu, memory })
    }

    /// Level by level, so that a container is found before what is in it.
    fn search(&self, id: &str) -> Option<String> {
        let base = self.bases.into_iter().find(|base| self.root.has(base))?;
        let mut left = MAX_FOLDERS;
        let mut level = vec![String::new()];
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for folder in level {
                left = left.checked_sub(1)?;
                for name in self.root.folders(&format!("{base}/{folder}")) {
                    let path = format!("{folder}{name}");
                    if name.contains(id) {
                        return Some(path);
                    }
                    next.push(path + "/");
                }
            }
            level = next;
        }
        None
    }

    /// What a container uses; nothing where it has ended.
    #[must_use]
    pub fn usage(&self, group: &Group) -> Usage {
        let Group { cpu, memory } = group;
        let text = |folder: &str, file: &str| self.root.text(&format!("{folder}/{file}"));
        let number = |file: &str| text(memory, file)?.trim().parse::<u64>().ok();
        let (used, inactive, max, events) = match self.is_v2 {
            true => ("memory.current", "inactive_file", "memory.max", "memory.events"),
            false => (
                "memory.usage_in_bytes",
                "total_inactive_file",
                "memory.limit_in_bytes",
                "memory.oom_control",
            ),
        };
        let cpu_us = match self.is_v2 {
            true => text(cpu, "cpu.stat").and_then(|text| field(&text, "usage_usec")),
            false => text(cpu, "cpuacct.usage")
                .and_then(|text| text.trim().parse::<u64>().ok())
                .map(|nanoseconds| nanoseconds / 1_000),
        };
        let inactive = text(memory, "memory.stat").and_then(|text| field(&text, inactive));
        Usage {
            cpu_us,
            mem_used: number(used).zip(inactive).map(|(used, file)| used.saturating_sub(file)),
            mem_max: number(max).filter(|max| *max < V1_NO_LIMIT),
            ooms: text(memory, events).and_then(|text| field(&text, "oom_kill")),
        }
    }
}

/// The number after a name, of a file with one on each line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests;
