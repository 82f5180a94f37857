//! What `pith top` looks like: from the model to lines, and from lines to a frame of any size. Decides nothing that a key could change.

mod rows;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};

use super::layout::{cells, first_shown, split};
use super::model::{Model, Pane, Screen};
use crate::render::figures::{plain, span};
use crate::render::top::tracks::HISTORY;
use rows::Listed;

/// Lines of a frame below which one pane is shown at a time.
const LEAST_FOR_ALL: usize = 20;

const KEYS: [(&str, &str); 9] = [
    ("up, down, j, k", "choose a row; scroll"),
    ("page up, page down, g, G", "by pages; to the beginning, the end"),
    ("tab, shift-tab", "the next pane, the one before"),
    ("enter", "a node or a service whole"),
    ("/", "filter by name, environment, status; enter keeps it"),
    ("s", "order nodes by name, cpu, memory, disk, temp"),
    ("esc", "back: out of this, of a filter, of pith top"),
    ("?", "this"),
    ("q, ctrl-c", "end"),
];

/// Colours, or none of them (no-color.org); what is chosen is shown by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Colours,
    Plain,
}

/// How a frame is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Cells of a line.
    width: usize,
    paint: Paint,
    /// Cells that the curve of a processor may take; 0: it is left out.
    curve: usize,
}

impl Paint {
    fn of(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }
}

/// One frame.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, paint: Paint, here_ms: u64) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let look = Look { width, paint, curve: HISTORY };
    let rows = height.saturating_sub(2);
    let mut lines = vec![title(model, look, here_ms)];
    match model.screen() {
        Screen::List if rows >= LEAST_FOR_ALL => {
            let panes = Pane::ALL.map(|pane| Listed::of(model, pane, look, here_ms));
            let wanted = [panes[0].lines() + 1, panes[1].lines() + 1, panes[2].lines()];
            for (listed, given) in panes.into_iter().zip(split(rows, wanted)) {
                lines.extend(fill(listed.shown(given, model), given));
            }
        }
        Screen::List => {
            let listed = Listed::of(model, model.pane(), look, here_ms);
            lines.extend(listed.shown(rows, model));
        }
        Screen::Help => lines.extend(help()),
        Screen::Node(_, first) | Screen::Service(_, first) => {
            let text = model.detail(here_ms);
            let first = (*first).min(text.len().saturating_sub(rows));
            lines.extend(text.into_iter().skip(first).take(rows).map(Line::raw));
        }
    }
    lines = fill(lines, rows + 1);
    lines.push(foot(model, look, here_ms));
    // On one line alone there is what cannot be guessed: that the coordinator is away.
    let skipped = lines.len().saturating_sub(height);
    let lines: Vec<Line<'_>> =
        lines.into_iter().skip(if height < 2 { skipped } else { 0 }).collect();
    frame.render_widget(Text::from(lines), Rect { ..area });
}

/// One frame as plain text, as long as it takes.
pub(super) fn text(model: &Model, width: u16, here_ms: u64) -> String {
    // One look is no curve.
    let look = Look { width: usize::from(width), paint: Paint::Plain, curve: 0 };
    let mut lines = vec![title(model, look, here_ms)];
    for pane in Pane::ALL {
        let listed = Listed::of(model, pane, look, here_ms);
        lines.push(Line::default());
        lines.extend(listed.all());
    }
    lines.iter().map(|line| format!("{}\n", line.to_string().trim_end())).collect()
}

/// As many lines, empty ones at the end.
fn fill(mut lines: Vec<Line<'static>>, count: usize) -> Vec<Line<'static>> {
    lines.resize_with(count, Line::default);
    lines
}

/// `pith top  nodes 3  services 2  rollouts 1`, with the pane that has the keys set off.
fn title(model: &Model, look: Look, here_ms: u64) -> Line<'static> {
    let (called, gap) = if look.width < 48 { ("top", " ") } else { ("pith top", "  ") };
    let mut spans = vec![Span::styled(called, Style::new().add_modifier(Modifier::BOLD))];
    for pane in Pane::ALL {
        spans.push(Span::raw(gap));
        let style = match pane == model.pane() && *model.screen() == Screen::List {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            false => Style::new(),
        };
        spans.push(Span::styled(format!("{} {}", rows::name(pane), model.count(pane)), style));
    }
    if model.away_ms(here_ms).is_some() {
        spans.push(Span::styled(format!("{gap}away"), look.paint.of(Color::Red)));
    }
    Line::from(spans)
}

fn foot(model: &Model, look: Look, here_ms: u64) -> Line<'static> {
    let Look { width, paint, .. } = look;
    if let Some(ago) = model.away_ms(here_ms) {
        let seconds = ago / 1000;
        let ago = if seconds < 120 { format!("{seconds} s") } else { span(seconds) };
        let text = match width {
            0..48 => format!("coordinator away, seen {ago} ago"),
            _ => format!("coordinator away, last seen {ago} ago"),
        };
        return Line::styled(text, paint.of(Color::Red).add_modifier(Modifier::BOLD));
    }
    let (filter, is_typing) = model.filter();
    if is_typing {
        // Its end is what is being typed.
        let shown: String = filter.chars().rev().take(width.saturating_sub(3)).collect();
        return Line::raw(format!("/{}_", plain(&shown.chars().rev().collect::<String>())));
    }
    let keys = match model.screen() {
        Screen::List => [
            "q quit  tab pane  enter whole  / filter  s sort  ? help",
            "q quit  tab pane  enter whole  ? help",
        ],
        Screen::Help => ["any key goes back", "any key goes back"],
        Screen::Node(..) | Screen::Service(..) => {
            ["esc back  j k scroll  q quit  ? help", "esc back  j k scroll"]
        }
    };
    let fits = |line: &&&str| cells(line) <= width;
    Line::raw(*keys.iter().find(fits).unwrap_or(&"q quit"))
}

fn help() -> Vec<Line<'static>> {
    let line = |(keys, what): &(&str, &str)| Line::raw(format!("  {keys:<26}{what}"));
    std::iter::once(Line::default()).chain(KEYS.iter().map(line)).collect()
}

/// Which lines of a list are shown where so many fit.
fn window(listed: Vec<Line<'static>>, chosen: usize, height: usize) -> Vec<Line<'static>> {
    let first = first_shown(chosen, listed.len(), height);
    listed.into_iter().skip(first).take(height).collect()
}

#[cfg(test)]
mod tests;
