//! On the bytes that boards were found with.

use super::*;

/// An ELF header of 64 bits, one loaded segment, a loader, and text behind them.
fn elf(machine: u16, size: u64) -> Program {
    let mut head = vec![0; 256];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[18..20].copy_from_slice(&machine.to_le_bytes());
    head[32..40].copy_from_slice(&64u64.to_le_bytes());
    head[54..56].copy_from_slice(&56u16.to_le_bytes());
    head[56..58].copy_from_slice(&2u16.to_le_bytes());
    for (at, kind, offset, len) in [(64, PT_LOAD, 0u64, 5000u64), (120, PT_INTERP, 200, 12)] {
        head[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        head[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
        head[at + 32..at + 40].copy_from_slice(&len.to_le_bytes());
    }
    head[200..211].copy_from_slice(b"/lib/ld.so.");
    Program { path: "/app".to_owned(), size, head }
}

fn file(bytes: &[u8]) -> Program {
    Program { path: "/app".to_owned(), size: bytes.len() as u64, head: bytes.to_vec() }
}

fn judged(program: Program, log: &str) -> Judged {
    let log = log.lines().map(str::to_owned).collect();
    judge(&Autopsy { programs: vec![program], log }, "arm64", false)
}

const RUNC: &str = "exec /app: exec format error";
/// Docker's init in an image without a shell.
const TINI: &str = "[FATAL tini (7)] exec /app failed: No such file or directory";

fn damage(judged: Judged) -> String {
    match judged {
        Judged::Damaged(what) => what,
        Judged::Sound | Judged::OtherMachine { .. } | Judged::Text { .. } => panic!("{judged:?}"),
    }
}

#[test]
fn an_empty_a_zeroed_and_a_cut_off_program_are_damaged_whatever_was_said() {
    for log in [RUNC, TINI, ""] {
        assert_eq!(damage(judged(file(b""), log)), "/app in it is empty");
        let zeroes = "/app in it is nothing but zeroes";
        assert_eq!(damage(judged(file(&[0; 4096]), log)), zeroes);
        let header = elf(183, 0).head[..40].to_vec();
        assert_eq!(damage(judged(file(&header), log)), "/app in it is cut off after 40 bytes");
        assert_eq!(damage(judged(elf(183, 4999), log)), "/app in it is cut off after 4999 bytes");
    }
}

#[test]
fn a_program_for_another_processor_is_no_damage_and_named_only_where_it_was_not_run() {
    for log in [RUNC, TINI, "/app: 1: Syntax error: \"(\" unexpected"] {
        let foreign = Judged::OtherMachine { path: "/app".to_owned(), machine: "x86-64" };
        assert_eq!(judged(elf(62, 5000), log), foreign, "{log}");
    }
    assert_eq!(judged(elf(62, 5000), "no configuration"), Judged::Sound, "an emulator ran it");
    let refused = judge(&Autopsy { programs: vec![elf(40, 5000)], log: vec![] }, "arm64", true);
    assert!(matches!(refused, Judged::OtherMachine { machine: "ARM (32 bit)", .. }), "{refused:?}");
}

#[test]
fn a_sound_program_of_the_nodes_own_kind_is_not_to_blame() {
    for log in [RUNC, TINI, "", "panicked at main.rs"] {
        assert_eq!(judged(elf(183, 5000), log), Judged::Sound, "{log}");
    }
    assert_eq!(judge(&Autopsy::default(), "arm64", true), Judged::Sound, "it is not there");
}

#[test]
fn text_needs_a_line_that_says_what_runs_it() {
    assert_eq!(judged(file(b"echo hello\n"), RUNC), Judged::Text { path: "/app".to_owned() });
    assert_eq!(judged(file(b"echo hello\n"), "hello"), Judged::Sound, "a shell ran it");
    assert_eq!(judged(file(b"#!/bin/sh\nexit 1\n"), RUNC), Judged::Sound);
}

#[test]
fn what_runs_a_program_is_looked_at_too() {
    assert_eq!(elf(183, 5000).run_by().as_deref(), Some("/lib/ld.so."));
    assert_eq!(file(b"#! /bin/sh -e\nexit\n").run_by().as_deref(), Some("/bin/sh"));
    assert_eq!(file(b"echo\n").run_by(), None);
    let loader = Program { path: "/lib/ld.so.".to_owned(), ..file(b"") };
    let both = Autopsy { programs: vec![elf(183, 5000), loader], log: Vec::new() };
    assert_eq!(damage(judge(&both, "arm64", false)), "/lib/ld.so. in it is empty");
    let library = "/app: error while loading shared libraries: libz.so.1: file too short";
    let what = damage(judged(elf(183, 5000), library));
    assert_eq!(what, "libz.so.1 in it is not whole (file too short)");
}

#[test]
fn bytes_that_mean_harm_are_read_within_their_bounds() {
    let mut wild = elf(183, u64::MAX).head;
    wild[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    wild[54..58].copy_from_slice(&[0xff; 4]);
    assert_eq!(file(&wild).run_by(), None);
    for len in 0..wild.len() {
        let _ = judged(file(&wild[..len]), RUNC);
    }
}
