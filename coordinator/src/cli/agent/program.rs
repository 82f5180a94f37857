//! What a file says of itself, if it is an agent's program: for which processor, which version, and whether it needs anything but a kernel.
//! Read, never run: it may be for another board.

use protocol::agent_release::{AgentVersion, MAX_PROGRAM_BYTES};

/// Before the version in each agent; the version's place ends with `;` (agent/src/version.rs).
const MARK: &[u8] = b"pith-agent-version:";
const ROOM: usize = 48;

/// An agent's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentProgram {
    /// In the words of images.
    pub(super) platform: &'static str,
    pub(super) version: AgentVersion,
    pub(super) linking: Linking,
}

/// What a program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linking {
    /// A kernel.
    Static,
    /// A loader and libraries, which a board may not have.
    Dynamic,
}

/// Why a file is no agent for boards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnAgent {
    #[error("not a program (ELF): the file `pith-agent` itself is expected, not a package of it")]
    NoProgram,
    #[error("for a processor that no board here has (ELF machine {0})")]
    Machine(u16),
    #[error("no pith-agent: a version stands in each since this one")]
    NoVersion,
    #[error("{0} bytes; an agent has {MAX_PROGRAM_BYTES} at most (without `strip` it is larger)")]
    TooLarge(u64),
}

/// Reads it.
pub(super) fn read(bytes: &[u8]) -> Result<AgentProgram, NotAnAgent> {
    if bytes.len() as u64 > MAX_PROGRAM_BYTES {
        return Err(NotAnAgent::TooLarge(bytes.len() as u64));
    }
    // ELF, 64 bits, little end first (System V ABI, "ELF Header").
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err(NotAnAgent::NoProgram);
    }
    let platform = match number(bytes, 18, 2).ok_or(NotAnAgent::NoProgram)? {
        62 => "amd64",
        183 => "arm64",
        machine => return Err(NotAnAgent::Machine(u16::try_from(machine).unwrap_or(u16::MAX))),
    };
    let linking = linking(bytes).ok_or(NotAnAgent::NoProgram)?;
    let version = version(bytes).ok_or(NotAnAgent::NoVersion)?;
    Ok(AgentProgram { platform, version, linking })
}

/// A program header of type PT_INTERP names a loader.
fn linking(bytes: &[u8]) -> Option<Linking> {
    const PT_INTERP: u64 = 3;
    let table = usize::try_from(number(bytes, 32, 8)?).ok()?;
    let (size, count) = (number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let headers = (0..count).map(|n| {
        let at = table.checked_add(usize::try_from(n * size).ok()?)?;
        number(bytes, at, 4)
    });
    let types: Option<Vec<u64>> = headers.collect();
    Some(if types?.contains(&PT_INTERP) { Linking::Dynamic } else { Linking::Static })
}

fn version(bytes: &[u8]) -> Option<AgentVersion> {
    let places = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let mut found = places.filter_map(|(at, _)| {
        let room = bytes.get(at + MARK.len()..=at + MARK.len() + ROOM)?;
        let (text, end) = room.split_at(ROOM);
        let text = std::str::from_utf8(text).ok().filter(|_| end == b";")?;
        text.trim_end().parse().ok()
    });
    let version = found.next()?;
    // Two that differ would be a program about agents, not one.
    found.all(|other| other == version).then_some(version)
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(size)?)?;
    Some(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one program header of this type, and what follows it.
    fn elf(machine: u16, kind: u32, rest: &str) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        (bytes[54], bytes[56]) = (56, 1);
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }

    fn mark(version: &str) -> String {
        format!("pith-agent-version:{version:<48};")
    }

    #[test]
    fn an_agent_says_for_whom_it_is_and_which() {
        let arm = read(&elf(183, 1, &mark("0.3.0-rc.1"))).unwrap();
        assert_eq!((arm.platform, arm.linking), ("arm64", Linking::Static));
        assert_eq!(arm.version.to_string(), "0.3.0-rc.1");
        let pc = read(&elf(62, 3, &mark("0.3.0"))).unwrap();
        assert_eq!((pc.platform, pc.linking), ("amd64", Linking::Dynamic));
    }

    #[test]
    fn anything_else_is_named() {
        assert_eq!(read(b"!<arch>\ndebian-binary"), Err(NotAnAgent::NoProgram));
        assert_eq!(read(b"\x7fELF\x02\x01"), Err(NotAnAgent::NoProgram));
        assert_eq!(read(&elf(40, 1, &mark("0.3.0"))), Err(NotAnAgent::Machine(40)));
        assert_eq!(read(&elf(183, 1, "pith")), Err(NotAnAgent::NoVersion));
        assert_eq!(read(&elf(183, 1, &mark("three"))), Err(NotAnAgent::NoVersion));
        let two = mark("0.3.0") + &mark("0.4.0");
        assert_eq!(read(&elf(183, 1, &two)), Err(NotAnAgent::NoVersion));
        let mut cut = elf(183, 1, &mark("0.3.0"));
        cut[56] = 255;
        assert_eq!(read(&cut), Err(NotAnAgent::NoProgram));
    }
}
