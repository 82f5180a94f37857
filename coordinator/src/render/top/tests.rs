//! Golden output: what a person sees, letter by letter.

use super::fixture::{NOW_MS, detailed, node, offline};
use super::*;
use crate::state::shown::NodesShown;

/// One node told twice, two seconds apart; others as they are.
fn told(mut all: Vec<NodeShown>) -> (Vec<NodeShown>, Tracks) {
    let mut tracks = Tracks::default();
    for (up_s, heard_ms) in [(273_600, NOW_MS - 2_000), (273_602, NOW_MS)] {
        (all[0].load, all[0].heard_ms) = (Some(detailed(up_s)), heard_ms);
        let nodes = NodesShown { nodes: all.clone(), lobby: Vec::new(), absent: Vec::new() };
        tracks.take(&nodes);
    }
    (all, tracks)
}

#[test]
fn the_table_says_what_is_known_and_who_is_away() {
    let fresh = NodeShown { load: None, ..node(2, None) };
    let stuck = NodeShown { status: "engine unavailable".to_owned(), ..node(10, None) };
    let (all, tracks) = told(vec![node(1, None), fresh, offline(3), stuck]);
    let all: Vec<&NodeShown> = all.iter().collect();
    assert_eq!(
        nodes(&all, &tracks, NOW_MS),
        "\
NODE    CPU  MEM          SWAP        DISK        TEMP  LOAD1  PRESSURE  NET IN/OUT  IO R/W     UP
opi-1   39%  31% of 985M  2% of 512M  41% of 29G  54°C  0.42   12/0/3%   1.0K/2.0K   1.0K/2.0K  3d 4h
opi-2   -    -            -           -           -     -      -         -           -          -
opi-3   -    -            -           -           -     -      -         -           -          offline, 3m ago
opi-10  -    31% of 985M  -           41% of 29G  54°C  0.42   -         -           -          16m, engine unavailable
"
    );
    assert!(nodes(&[], &tracks, NOW_MS).contains("pith node token"));
}

#[test]
fn the_largest_figure_is_first_and_what_is_not_known_last() {
    let all = [node(1, None), node(2, Some(0.2)), offline(3), node(4, Some(0.9))];
    let order = |sort: Sort| -> Vec<&str> {
        let mut nodes: Vec<&NodeShown> = all.iter().collect();
        sort.apply(&mut nodes, NOW_MS);
        nodes.iter().map(|node| node.name.as_str()).collect()
    };
    assert_eq!(order(Sort::Cpu), ["opi-4", "opi-2", "opi-1", "opi-3"], "offline: 99% once");
    assert_eq!(order(Sort::Name), ["opi-1", "opi-2", "opi-3", "opi-4"]);
    assert_eq!(order(Sort::Memory), ["opi-1", "opi-2", "opi-4", "opi-3"], "alike: by name");
}

#[test]
fn one_node_is_shown_whole() {
    let (all, tracks) = told(vec![node(1, None)]);
    assert_eq!(
        super::node(&all[0], tracks.of(&all[0].id), NOW_MS),
        "\
node       opi-1 (00000000000000000000000000000001), default
status     ready
board      arm64, 4 cores, 10.0.0.1
software   agent 0.1.0, kernel 6.1.0, engine 20.10.24
up         3d 4h
cpu        39%, iowait 1%, steal 0%, load of one minute 0.42
cores      12% 45% 0% 100%
frequency  1200 of 1800 MHz, throttled
memory     31% of 985M
swap       2% of 512M
zram       12M in 4.0M of memory
disk       41% of 29G
inodes     12% of 1.9M
io         1.0K/s read, 2.0K/s written
network    1.0K/s in, 2.0K/s out
pressure   cpu 12%, memory 0%, io 3% of the last ten seconds
temp       54°C: cpu-thermal 54°C, gpu-thermal 51°C
services   web

INSTANCE    SERVICE  CPU   MEM/LIMIT  NET IN/OUT  RESTARTS  OOMS
pith-web-0  web      125%  45M/128M   1.0K/1.0K   3         1
pith-web-1  web      -     -          -           0         -
"
    );
    let away = super::node(&offline(3), None, NOW_MS);
    assert!(away.contains("status     offline, 3m ago\n"), "{away}");
    assert!(away.contains("cpu        -, iowait -") && away.contains("up         -\n"), "{away}");
}

#[test]
fn there_is_no_share_of_what_is_not_there() {
    let mut board = BoardLoad { swap_used: Some(0), swap_total: Some(0), ..BoardLoad::default() };
    (board.inodes_used, board.inodes_total) = (Some(0), Some(0));
    assert_eq!(swap(&board).unwrap(), "none");
    assert_eq!(inodes(&board).unwrap(), "made as needed");
    assert_eq!(frequency(&board), None);
    board.throttled = Some(false);
    assert_eq!(frequency(&board).unwrap(), "not throttled");
}

#[test]
fn what_a_node_says_does_not_reach_the_terminal_as_it_is() {
    let mut evil = node(1, Some(f32::MAX));
    let mut load = detailed(10);
    let board = load.board.as_mut().unwrap();
    board.zones = vec![("\x1b[2Jzone\r\n".to_owned(), f32::MIN)];
    board.kernel = Some("6\x07\u{202e}".to_owned());
    load.instances[0].instance = "\x1b]0;title\x07".to_owned();
    (evil.load, evil.status) = (Some(load), "ready\x1b[31m".to_owned());
    evil.agent_version = "\u{9b}31m".to_owned();
    let mut tracks = Tracks::default();
    tracks.take(&NodesShown { nodes: vec![evil.clone()], lobby: Vec::new(), absent: Vec::new() });
    let shown = super::node(&evil, tracks.of(&evil.id), NOW_MS) + &nodes(&[&evil], &tracks, NOW_MS);
    let is_safe = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(shown.chars().all(is_safe), "{shown:?}");
    assert!(shown.contains("zone") && shown.contains("-999°C"), "{shown}");
}
