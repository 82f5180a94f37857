//! Why a program did not run: from the first bytes of it, and of what it is run by.
//!
//! A power cut leaves files of layers empty, full of zeroes or cut off; the kernel then says `exec format error`, as it does of a
//! program for another processor. Docker's init (tini) runs programs by `execvp`, which goes on to `/bin/sh`: where the image has
//! none it says `exec /app failed: No such file or directory`, and where it has one an empty program is an empty script that ends
//! well. So the bytes are asked, and the words only where the bytes leave it open. Reads nothing and decides nothing.

/// Bytes of a program that are looked at: its header, the table of its segments, the name of its loader.
pub const HEAD_BYTES: usize = 4096;
/// A script's interpreter's loader, and one more.
pub const MAX_PROGRAMS: usize = 4;

/// A regular file that a container runs, or that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it is in the container.
    pub path: String,
    /// Bytes of it.
    pub size: u64,
    /// The first of them, at most [`HEAD_BYTES`].
    pub head: Vec<u8>,
}

/// What was seen of an instance that ended as soon as it had started, or was refused its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Autopsy {
    /// Its program first, then what that is run by; empty: it is not there.
    pub programs: Vec<Program>,
    /// The end of what it wrote.
    pub log: Vec<String>,
}

/// What is to be thought of it. The sentences are parts: the reader knows whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Nothing is wrong with what was looked at.
    Sound,
    /// A file is not whole.
    Damaged(String),
    /// The program is for this machine, and it is not the node's.
    OtherMachine {
        /// Where it is in the container.
        path: String,
        /// As people call it.
        machine: &'static str,
    },
    /// It is text, and nothing says what runs it.
    Text {
        /// Where it is in the container.
        path: String,
    },
}

impl Program {
    /// What the kernel runs it by: the interpreter of a script, the loader of a program with shared libraries.
    #[must_use]
    pub fn run_by(&self) -> Option<String> {
        if let Some(line) = self.head.strip_prefix(b"#!") {
            let line = line.split(|byte| *byte == b'\n').next()?;
            let words = String::from_utf8_lossy(line).into_owned();
            return words.split_whitespace().next().map(str::to_owned);
        }
        let elf = Elf::read(&self.head)?;
        let loader = elf.segments(&self.head).find(|segment| segment.kind == PT_INTERP)?;
        let (from, len) = (usize::try_from(loader.offset).ok()?, usize::try_from(loader.len).ok()?);
        let name = self.head.get(from..from.checked_add(len)?)?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Why it is not whole; none: nothing says so.
    fn damage(&self) -> Option<String> {
        let path = &self.path;
        if self.size == 0 {
            return Some(format!("{path} in it is empty"));
        }
        if !self.head.is_empty() && self.head.iter().all(|byte| *byte == 0) {
            return Some(format!("{path} in it is nothing but zeroes"));
        }
        if !self.head.starts_with(MAGIC) {
            return None;
        }
        let needed = match Elf::read(&self.head) {
            Some(elf) => elf.segments(&self.head).map(|segment| segment.end()).max().unwrap_or(0),
            None => MIN_HEADER as u64,
        };
        let is_cut = self.size < needed || Elf::read(&self.head).is_none();
        is_cut.then(|| format!("{path} in it is cut off after {} bytes", self.size))
    }
}

/// Judges what was seen. `processor` is the node's as images name it (`arm64`); `is_refused` says that the engine refused the start with
/// `exec format error`.
#[must_use]
pub fn judge(autopsy: &Autopsy, processor: &str, is_refused: bool) -> Judged {
    if let Some(what) = autopsy.programs.iter().find_map(Program::damage) {
        return Judged::Damaged(what);
    }
    if let Some(what) = autopsy.log.iter().find_map(|line| broken_library(line)) {
        return Judged::Damaged(what);
    }
    let Some(program) = autopsy.programs.first() else { return Judged::Sound };
    let path = program.path.clone();
    if !is_refused && !autopsy.log.iter().any(|line| says_that_it_did_not_run(line, &path)) {
        return Judged::Sound;
    }
    if program.head.starts_with(MAGIC) {
        let machine = Elf::read(&program.head).map_or(0, |elf| elf.machine);
        let foreign = machine_name(machine).filter(|_| !is_native(machine, processor));
        return foreign.map_or(Judged::Sound, |machine| Judged::OtherMachine { path, machine });
    }
    let is_text = std::str::from_utf8(&program.head).is_ok() || program.head.is_ascii();
    match program.head.starts_with(b"#!") || !is_text {
        true => Judged::Sound,
        false => Judged::Text { path },
    }
}

/// Whether a line says that the program was not run: from runc, from Docker's init, or from the shell that was tried in its place.
fn says_that_it_did_not_run(line: &str, path: &str) -> bool {
    let low = line.to_lowercase();
    low.contains("exec format error")
        || low.contains(&format!("exec {} failed", path.to_lowercase()))
        || line.starts_with(&format!("{path}: "))
}

/// What a loader (glibc's) says of a library that a power cut left empty or zeroed.
fn broken_library(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("error while loading shared libraries: ")?;
    let (library, why) = rest.split_once(": ")?;
    let is_broken = why.contains("file too short") || why.contains("invalid ELF header");
    is_broken.then(|| format!("{library} in it is not whole ({})", why.trim()))
}

const MAGIC: &[u8] = b"\x7fELF";
/// The shorter of the two headers (ELF specification, figure 1-3).
const MIN_HEADER: usize = 52;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// What of an ELF header is needed.
struct Elf {
    is_64: bool,
    is_big: bool,
    machine: u16,
    table: u64,
    entry_size: usize,
    entries: usize,
}

struct Segment {
    kind: u32,
    offset: u64,
    len: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        match self.kind {
            PT_LOAD | PT_INTERP => self.offset.saturating_add(self.len),
            _ => 0,
        }
    }
}

impl Elf {
    /// None: the header is not whole.
    fn read(head: &[u8]) -> Option<Self> {
        if !head.starts_with(MAGIC) {
            return None;
        }
        let (is_64, is_big) = (*head.get(4)? == 2, *head.get(5)? == 2);
        let number = |at: usize, len: usize| number(head, at, len, is_big);
        let (table_at, size_at) = if is_64 { (32, 54) } else { (28, 42) };
        Some(Self {
            is_64,
            is_big,
            machine: u16::try_from(number(18, 2)?).ok()?,
            table: number(table_at, if is_64 { 8 } else { 4 })?,
            entry_size: usize::try_from(number(size_at, 2)?).ok()?,
            entries: usize::try_from(number(size_at + 2, 2)?).ok()?,
        })
    }

    /// Those whose entries were read.
    fn segments<'a>(&'a self, head: &'a [u8]) -> impl Iterator<Item = Segment> + 'a {
        let at =
            |entry: usize| usize::try_from(self.table).ok()?.checked_add(entry * self.entry_size);
        (0..self.entries).map_while(move |entry| {
            let at = at(entry)?;
            let number =
                |from: usize, len: usize| number(head, at.checked_add(from)?, len, self.is_big);
            let (offset_at, len_at, width) = if self.is_64 { (8, 32, 8) } else { (4, 16, 4) };
            Some(Segment {
                kind: u32::try_from(number(0, 4)?).ok()?,
                offset: number(offset_at, width)?,
                len: number(len_at, width)?,
            })
        })
    }
}

fn number(bytes: &[u8], at: usize, len: usize, is_big: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(match is_big {
        true => bytes.iter().fold(0, add),
        false => bytes.iter().rev().fold(0, add),
    })
}

/// As people call it; none: not one that boards have (`e_machine`, ELF specification and its registry).
fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        3 => "x86 (32 bit)",
        40 => "ARM (32 bit)",
        62 => "x86-64",
        183 => "ARM64",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "s390",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return None,
    })
}

/// Not run, although it is of the node's own kind, says nothing about the processor. 32-bit ARM is another machine to a node that did not
/// run it: some 64-bit processors have none of it.
fn is_native(machine: u16, processor: &str) -> bool {
    match processor {
        "amd64" => machine == 62,
        "386" => machine == 3,
        "arm64" => machine == 183,
        "arm" => machine == 40,
        "riscv64" => machine == 243,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
