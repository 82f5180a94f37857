//! Golden output: whole frames, letter by letter, at three sizes; and any other size without a panic.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::*;
use crate::cli::top::fixture::answer;
use crate::cli::top::model::Key;
use crate::render::top::Sort;
use crate::render::top::fixture::{NOW_MS, load};

/// Told three times, with more and more to do on the first board.
fn model() -> Model {
    let mut model = Model::new(Sort::Name);
    for (number, cpu) in (0..).zip([0.1, 0.5, 0.39]) {
        let mut answer = answer();
        let load = answer.nodes.nodes[0].load.as_mut().unwrap();
        (load.cpu, load.up_s) = (Some(cpu), 600 + 2 * number);
        model.take(answer, NOW_MS);
    }
    model
}

fn frame(model: &Model, width: u16, height: u16, paint: Paint, here_ms: u64) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, paint, here_ms)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(model: &Model, width: u16, height: u16, here_ms: u64) -> Vec<String> {
    let frame = frame(model, width, height, Paint::Colours, here_ms);
    let line = |row: &[ratatui::buffer::Cell]| -> String {
        row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
    };
    frame.content.chunks(usize::from(width)).map(line).collect()
}

/// The frame is this, with empty lines up to its last one.
#[track_caller]
fn check(model: &Model, width: u16, height: u16, upper: &str, last: &str) {
    let mut expected: Vec<&str> = upper.lines().collect();
    expected.resize(usize::from(height) - 1, "");
    expected.push(last);
    assert_eq!(lines(model, width, height, NOW_MS).join("\n"), expected.join("\n"));
}

const KEYS_AT_THE_FOOT: &str = "q quit  tab pane  enter whole  / filter  s sort  ? help";

#[test]
fn a_wide_terminal_has_all_panes() {
    let upper = "\
pith top  nodes 3  services 2  rollouts 1
NODES 3, by name
NODE    STATUS           CPU  LAST 60                                                      MEM          DISK        TEMP
opi-1   ready            39%                                                          ▁▅▄  31% of 985M  41% of 29G  54°C
opi-2   ready            95%                                                            █  31% of 985M  41% of 29G  54°C
opi-10  offline, 3m ago  -                                                                 -            -           -

SERVICES 2
SERVICE  REV  READY  IMAGE   STATE
db       3    1/1    db:v3   running
web      3    2/3    web:v3  in_progress

ROLLOUTS 1
SERVICE  REV  STATE        NODES  WAITS FOR
web      2>3  in_progress  1/3    nodes take the new revision
  opi-2  updating  1/2 new, 1 ready  waiting_for_ready: GET /ready: 503 not ready until 10:42:11Z
";
    check(&model(), 120, 40, upper, KEYS_AT_THE_FOOT);
}

#[test]
fn an_old_terminal_has_all_panes_too() {
    let upper = "\
pith top  nodes 3  services 2  rollouts 1
NODES 3, by name
NODE    STATUS           CPU  LAST 60              MEM          DISK        TEMP
opi-1   ready            39%                  ▁▅▄  31% of 985M  41% of 29G  54°C
opi-2   ready            95%                    █  31% of 985M  41% of 29G  54°C
opi-10  offline, 3m ago  -                         -            -           -

SERVICES 2
SERVICE  REV  READY  IMAGE   STATE
db       3    1/1    db:v3   running
web      3    2/3    web:v3  in_progress

ROLLOUTS 1
SERVICE  REV  STATE        NODES  WAITS FOR
web      2>3  in_progress  1/3    nodes take the new revision
  opi-2  updating  1/2 new, 1 ready  waiting_for_ready: GET /ready: 503 not
    ready until 10:42:11Z
";
    check(&model(), 80, 24, upper, KEYS_AT_THE_FOOT);
}

#[test]
fn a_narrow_terminal_has_one_pane_at_a_time() {
    let mut model = model();
    let foot = "q quit  tab pane  enter whole  ? help";
    let upper = "\
top nodes 3 services 2 rollouts 1
NODES 3, by name
NODE   STATUS          CPU MEM DISK TEMP
opi-1  ready           39% 31% 41%  54°C
opi-2  ready           95% 31% 41%  54°C
opi-10 offline, 3m ago -   -   -    -
";
    check(&model, 40, 12, upper, foot);
    model.press(Key::NextPane, NOW_MS);
    model.press(Key::NextPane, NOW_MS);
    let upper = "\
top nodes 3 services 2 rollouts 1
ROLLOUTS 1
SERVICE REV STATE       NODES WAITS FOR
web     2>3 in_progress 1/3   nodes tak…
  opi-2  updating  1/2 new, 1 ready
    waiting_for_ready: GET /ready: 503
    not ready until 10:42:11Z
";
    check(&model, 40, 12, upper, foot);
}

#[test]
fn a_node_whole_has_the_curve_of_its_processor() {
    let mut model = model();
    model.press(Key::Enter, NOW_MS);
    let shown = lines(&model, 80, 24, NOW_MS);
    assert_eq!(shown[1], "node       opi-1 (00000000000000000000000000000001), default");
    assert_eq!(shown[6], "cpu        39%, iowait 1%, steal 0%, load of one minute 0.42");
    assert_eq!(shown[7..9], ["           ▁▅▄", "cores      12% 45% 0% 100%"]);
    assert!(shown[22].starts_with("pith-web-0  web "), "{shown:?}");
    assert_eq!(shown[23], "esc back  j k scroll  q quit  ? help");
    model.measure(80, 22);
    model.press(Key::End, NOW_MS);
    let shown = lines(&model, 80, 24, NOW_MS);
    assert!(shown[22].starts_with("pith-web-1  web "), "{shown:?}");
    assert!(lines(&model, 80, 60, NOW_MS)[1].starts_with("node "), "there is room for all of it");
}

#[test]
fn the_last_line_says_that_the_coordinator_is_away_and_what_is_looked_for() {
    let mut model = model();
    let last = |model: &Model, width, here_ms| lines(model, width, 24, here_ms)[23].clone();
    assert_eq!(last(&model, 80, NOW_MS + 12_000), "coordinator away, last seen 12 s ago");
    assert_eq!(last(&model, 40, NOW_MS + 600_000), "coordinator away, seen 10m ago");
    assert!(lines(&model, 80, 24, NOW_MS + 12_000)[3].starts_with("opi-1 "), "the frame stays");
    for c in "/web".chars() {
        model.press(Key::Char(c), NOW_MS);
    }
    assert_eq!(last(&model, 80, NOW_MS), "/web_");
    let shown = lines(&model, 80, 24, NOW_MS).join("\n");
    assert!(shown.contains("NODES 0 of 3, /web") && shown.contains("SERVICES 1 of 2, /web"));
}

#[test]
fn every_key_of_the_help_is_on_one_screen() {
    let mut model = model();
    model.press(Key::Char('?'), NOW_MS);
    let shown = lines(&model, 80, 12, NOW_MS).join("\n");
    assert!(
        KEYS.iter().all(|(keys, what)| shown.contains(keys) && shown.contains(what)),
        "{shown}"
    );
}

#[test]
fn the_row_that_is_chosen_is_always_in_sight() {
    let mut model = model();
    let mut answer = answer();
    let one = answer.nodes.nodes[1].clone();
    answer.nodes.nodes = (0..200_u32)
        .map(|number| {
            let mut node = one.clone();
            node.id = format!("{number:032}").parse().unwrap();
            node.name = format!("opi-{number}").parse().unwrap();
            node
        })
        .collect();
    model.take(answer, NOW_MS);
    for number in [7, 60, 199] {
        while model.chosen_at(Pane::Nodes) < number {
            model.press(Key::Down, NOW_MS);
        }
        for height in [12, 24, 40] {
            let shown = lines(&model, 80, height, NOW_MS);
            let is_it = |line: &String| line.starts_with(&format!("opi-{number} "));
            assert!(shown.iter().any(is_it), "{number}, {height}: {shown:?}");
            assert!(height < 24 || shown.iter().any(|line| line.starts_with("SERVICES")));
        }
    }
}

#[test]
fn without_colours_nothing_is_coloured_and_the_choice_is_still_seen() {
    let plain = frame(&model(), 80, 24, Paint::Plain, NOW_MS + 12_000);
    let is_plain =
        |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(plain.content.iter().all(is_plain));
    let is_reversed = |cell: &ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
    assert!(plain.content.iter().any(is_reversed));
    let coloured = frame(&model(), 80, 24, Paint::Colours, NOW_MS);
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Green));
}

#[test]
fn no_size_is_too_small_or_too_odd() {
    let mut away = answer();
    away.nodes.nodes[0].status = "日本\x1b[2J語\u{202e}".to_owned();
    away.rollouts[0].nodes[1].message = Some("\x1b]0;title\x07\r\n".repeat(40));
    away.services.services[0].image = "\x07".repeat(300);
    for keys in ["", "\t", "\t\t", "?", "!", "\t!", "/abc"] {
        let mut model = model();
        model.take(away.clone(), NOW_MS);
        for c in keys.chars() {
            let key = match c {
                '\t' => Key::NextPane,
                '!' => Key::Enter,
                c => Key::Char(c),
            };
            model.press(key, NOW_MS);
        }
        for width in [1, 2, 3, 7, 8, 20, 39, 40, 47, 48, 60, 71, 72, 200] {
            for height in [1, 2, 3, 4, 5, 12, 21, 22, 24, 60] {
                let shown = lines(&model, width, height, NOW_MS + 9_000).concat();
                let is_safe = |c: char| !c.is_control() && c != '\u{202e}';
                assert!(shown.chars().all(is_safe), "{width}x{height}: {shown:?}");
            }
        }
    }
}

#[test]
fn one_frame_of_text_is_as_long_as_it_takes() {
    let mut answer = answer();
    answer.nodes.nodes[0].load = Some(load(None, 5));
    let mut model = Model::new(Sort::Cpu);
    model.take(answer, NOW_MS);
    let expected = "\
pith top  nodes 3  services 2  rollouts 1

NODES 3, by cpu
NODE    STATUS           CPU  MEM          DISK        TEMP
opi-2   ready            95%  31% of 985M  41% of 29G  54°C
opi-1   ready            -    31% of 985M  41% of 29G  54°C
opi-10  offline, 3m ago  -    -            -           -

SERVICES 2
SERVICE  REV  READY  IMAGE   STATE
db       3    1/1    db:v3   running
web      3    2/3    web:v3  in_progress

ROLLOUTS 1
SERVICE  REV  STATE        NODES  WAITS FOR
web      2>3  in_progress  1/3    nodes take the new revision
  opi-2  updating  1/2 new, 1 ready  waiting_for_ready: GET /ready: 503 not ready until 10:42:11Z
";
    assert_eq!(text(&model, 100, NOW_MS), expected);
    assert_eq!(
        text(&Model::new(Sort::Name), 100, NOW_MS),
        "pith top  nodes 0  services 0  rollouts 0  away\n\nNODES  none has joined yet\n\nSERVICES  nothing is \
         deployed\n\nROLLOUTS  none in flight\n"
    );
}
