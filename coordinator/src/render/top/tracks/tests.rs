//! Rates and history.

use super::*;

fn load(up_s: u64, net_in: Option<u64>) -> Load {
    let board = BoardLoad { net_in, ..BoardLoad::default() };
    Load { cpu: Some(0.5), up_s, board: Some(Box::new(board)), ..Load::default() }
}

fn track(loads: &[(u64, u64, Option<u64>)]) -> Track {
    let mut track = Track::default();
    for (heard_ms, up_s, net_in) in loads {
        track.take(&load(*up_s, *net_in), *heard_ms);
    }
    track
}

#[test]
fn a_rate_is_what_a_counter_grew_by_in_the_time_of_the_board() {
    let net = |loads: &[_]| track(loads).net().into;
    assert_eq!(net(&[(0, 10, Some(1_000))]), None, "told once");
    assert_eq!(net(&[(0, 10, Some(1_000)), (2_000, 12, Some(5_000))]), Some(2_000.0));
    // Whole seconds of uptime are made finer by when it was heard, and never overruled by it.
    assert_eq!(net(&[(0, 10, Some(0)), (2_500, 12, Some(5_000))]), Some(2_000.0));
    assert_eq!(net(&[(0, 10, Some(0)), (900_000, 12, Some(3_000))]), Some(1_000.0));
    assert_eq!(net(&[(0, 10, None), (2_000, 12, Some(1)), (4_000, 14, Some(3))]), Some(1.0));
}

#[test]
fn a_counter_that_begins_anew_has_no_rate_rather_than_a_wrong_one() {
    let net = |loads: &[_]| track(loads).net().into;
    assert_eq!(net(&[(0, 10, Some(9_000)), (2_000, 12, Some(10))]), None, "the card was reset");
    assert_eq!(net(&[(0, 900, Some(10)), (2_000, 2, Some(20))]), None, "the board was");
    assert_eq!(net(&[(0, 10, Some(9_000)), (2_000, 12, None)]), None, "it is not told any more");
    assert_eq!(
        net(&[(0, 9, Some(0)), (2_000, 1, Some(10)), (4_000, 3, Some(30))]),
        Some(10.0),
        "what was before the reboot does not count"
    );
}

#[test]
fn the_same_load_seen_twice_is_one_sample_and_history_is_bounded() {
    let mut one = track(&[(0, 10, None), (700, 10, None)]);
    assert_eq!(one.cpu().len(), 1);
    for up_s in 11..200 {
        one.take(&load(up_s, Some(up_s)), up_s * 1_000);
    }
    assert_eq!((one.cpu().len(), one.loads.len()), (HISTORY, WINDOW));
}
