//! Keys and answers.

use super::*;
use crate::cli::top::fixture::answer;
use crate::render::top::fixture::{NOW_MS, load, node};

fn model() -> Model {
    let mut model = Model::new(Sort::Name);
    model.take(answer(), NOW_MS);
    model
}

/// Presses what is typed: `^` up, `v` down, `>` the next pane, `!` enter, `<` escape, `~` backspace, others as they are.
fn press(model: &mut Model, keys: &str) -> Then {
    let key = |c| match c {
        '^' => Key::Up,
        'v' => Key::Down,
        '>' => Key::NextPane,
        '!' => Key::Enter,
        '<' => Key::Escape,
        '~' => Key::Backspace,
        c => Key::Char(c),
    };
    keys.chars().map(|c| model.press(key(c), NOW_MS)).last().unwrap()
}

fn names(model: &Model) -> Vec<&str> {
    model.nodes(NOW_MS).iter().map(|node| node.name.as_str()).collect()
}

fn chosen(model: &Model) -> &str {
    names(model)[model.chosen_at(Pane::Nodes)]
}

#[test]
fn the_choice_stays_with_a_node_wherever_it_goes() {
    let mut model = model();
    press(&mut model, "v");
    assert_eq!(chosen(&model), "opi-2");
    press(&mut model, "s");
    assert_eq!((names(&model), chosen(&model)), (vec!["opi-2", "opi-1", "opi-10"], "opi-2"));
    let mut next = answer();
    next.nodes.nodes[0].load = Some(load(Some(0.99), 1));
    model.take(next.clone(), NOW_MS);
    assert_eq!((names(&model)[0], chosen(&model)), ("opi-1", "opi-2"));
    next.nodes.nodes.remove(1);
    model.take(next, NOW_MS);
    assert_eq!(chosen(&model), "opi-10", "it is gone: what is in its place");
    press(&mut model, "vvvv");
    assert_eq!(chosen(&model), "opi-10", "no further than the end");
    press(&mut model, "g");
    assert_eq!(chosen(&model), "opi-1");
}

#[test]
fn a_filter_is_typed_kept_and_taken_away() {
    let mut model = model();
    press(&mut model, "/OPI-1qs?");
    assert_eq!(model.filter(), ("OPI-1qs?", true), "letters are not keys while it is typed");
    press(&mut model, "~~~");
    assert_eq!(names(&model), ["opi-1", "opi-10"], "case is not looked at");
    assert!(model.services().is_empty(), "neither name has it");
    press(&mut model, "!");
    assert_eq!(model.filter(), ("OPI-1", false));
    assert_eq!(press(&mut model, "<"), Then::GoOn);
    assert_eq!(names(&model).len(), 3);
    press(&mut model, "/offline!");
    assert_eq!(names(&model), ["opi-10"], "a status is found too");
    press(&mut model, "/");
    assert_eq!(press(&mut model, "<"), Then::GoOn, "Esc ends the typing, and with it the filter");
    assert_eq!(press(&mut model, "<"), Then::Quit);
}

#[test]
fn ctrl_c_ends_it_from_everywhere_and_q_where_nothing_is_typed() {
    for keys in ["?", "!", ">!", "/x", "v"] {
        let mut model = model();
        press(&mut model, keys);
        assert_eq!(model.clone().press(Key::Interrupt, NOW_MS), Then::Quit, "{keys}");
        let then = if keys == "/x" { Then::GoOn } else { Then::Quit };
        assert_eq!(press(&mut model, "q"), then, "{keys}");
    }
}

#[test]
fn enter_opens_what_is_chosen_and_escape_goes_back() {
    let mut model = model();
    press(&mut model, "v!");
    assert_eq!(*model.screen(), Screen::Node(node(2, None).id, 0));
    assert!(model.detail(NOW_MS)[0].starts_with("node       opi-2"));
    assert_eq!(press(&mut model, "<"), Then::GoOn);
    press(&mut model, ">v!");
    assert!(matches!(model.screen(), Screen::Service(id, 0) if id.name.as_str() == "web"));
    assert!(model.detail(NOW_MS).join("\n").contains("503 not ready"));
    press(&mut model, "<>!");
    assert!(matches!(model.screen(), Screen::Service(id, 0) if id.name.as_str() == "web"));
    let mut gone = answer();
    gone.services.services.clear();
    model.take(gone, NOW_MS);
    assert_eq!(model.detail(NOW_MS), ["it is gone; Esc goes back"]);
}

#[test]
fn a_long_page_scrolls_to_its_end_and_back_at_once() {
    let mut model = model();
    model.measure(80, 10);
    press(&mut model, "!G");
    let last = model.detail(NOW_MS).len() - 10;
    assert_eq!(*model.screen(), Screen::Node(node(1, None).id, last));
    press(&mut model, "v^");
    assert_eq!(*model.screen(), Screen::Node(node(1, None).id, last - 1));
}

#[test]
fn a_coordinator_that_is_away_keeps_its_last_frame_and_comes_back() {
    let mut model = model();
    assert_eq!(model.away_ms(NOW_MS + 3_000), None);
    assert_eq!(model.away_ms(NOW_MS + 12_000), Some(12_000), "it hangs");
    model.miss();
    assert_eq!(model.away_ms(NOW_MS + 500), Some(500), "it says so at once");
    assert_eq!(names(&model).len(), 3);
    model.take(answer(), NOW_MS + 20_000);
    assert_eq!(model.away_ms(NOW_MS + 20_000), None);
}
