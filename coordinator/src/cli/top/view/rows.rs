//! The three lists: a line that names each, a head, rows.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::{Look, window};
use crate::cli::top::layout::{Columns, curve, wrapped};
use crate::cli::top::model::{Model, Pane};
use crate::render::figures::plain;
use crate::render::top::{cells, is_heard, known_load, status};
use crate::render::{node_line, service_state};
use crate::state::shown::{NodeShown, RolloutShown, ServiceShown};

/// Totals stand beside shares from this width on.
const WIDE: usize = 72;
/// The column of the curve.
const CURVE: usize = 3;
/// What a node is waited for begins there, where it takes more than a line.
const INDENT: usize = 4;
/// Above this share something is about to be full.
const HIGH: f32 = 0.9;

/// A head, and each row's lines.
type Table = (Line<'static>, Vec<Vec<Line<'static>>>);

/// One pane: its lines, and which of them belongs to which row.
pub(super) struct Listed {
    pane: Pane,
    name: Line<'static>,
    head: Line<'static>,
    /// Each row's lines; only the first can be chosen.
    rows: Vec<Vec<Line<'static>>>,
}

/// As it is called.
pub(super) const fn name(pane: Pane) -> &'static str {
    match pane {
        Pane::Nodes => "nodes",
        Pane::Services => "services",
        Pane::Rollouts => "rollouts",
    }
}

impl Listed {
    pub(super) fn of(model: &Model, pane: Pane, look: Look, here_ms: u64) -> Self {
        let (head, rows) = match pane {
            Pane::Nodes => nodes(model, look, here_ms),
            Pane::Services => services(model, look),
            Pane::Rollouts => rollouts(model, look),
        };
        Self { pane, name: heading(model, pane, rows.len()), head, rows }
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> usize {
        let rows: usize = self.rows.iter().map(Vec::len).sum();
        if rows == 0 { 1 } else { rows + 2 }
    }

    /// All of them.
    pub(super) fn all(self) -> Vec<Line<'static>> {
        let has_rows = !self.rows.is_empty();
        let head = has_rows.then_some(self.head);
        std::iter::once(self.name).chain(head).chain(self.rows.into_iter().flatten()).collect()
    }

    /// As many as fit, with the chosen row among them and set off.
    pub(super) fn shown(self, height: usize, model: &Model) -> Vec<Line<'static>> {
        let is_focused = model.pane() == self.pane;
        let chosen = model.chosen_at(self.pane);
        let mut lines = Vec::new();
        let mut chosen_line = 0;
        let has_rows = !self.rows.is_empty();
        for (at, row) in self.rows.into_iter().enumerate() {
            if at == chosen {
                chosen_line = lines.len();
            }
            for (number, line) in row.into_iter().enumerate() {
                let is_chosen = is_focused && at == chosen && number == 0;
                let reversed = Style::new().add_modifier(Modifier::REVERSED);
                lines.push(if is_chosen { line.patch_style(reversed) } else { line });
            }
        }
        let set_off = match is_focused {
            true => Style::new().add_modifier(Modifier::BOLD),
            false => Style::new(),
        };
        let heads = [Some(self.name.patch_style(set_off)), has_rows.then_some(self.head)];
        let mut all: Vec<Line<'static>> = heads.into_iter().flatten().take(height).collect();
        let left = height.saturating_sub(all.len());
        all.extend(window(lines, chosen_line, left));
        all
    }
}

/// `NODES 1 of 3, by cpu, /web`
fn heading(model: &Model, pane: Pane, shown: usize) -> Line<'static> {
    let all = model.count(pane);
    let (filter, _) = model.filter();
    let mut text = name(pane).to_uppercase();
    match (shown, filter.is_empty()) {
        (0, true) => text.push_str(match pane {
            Pane::Nodes => "  none has joined yet",
            Pane::Services => "  nothing is deployed",
            Pane::Rollouts => "  none in flight",
        }),
        (_, true) => text.push_str(&format!(" {all}")),
        (_, false) => text.push_str(&format!(" {shown} of {all}, /{}", plain(filter))),
    }
    if pane == Pane::Nodes && all > 1 {
        text.push_str(&format!(", by {}", model.sort().as_str()));
    }
    Line::raw(text)
}

fn nodes(model: &Model, look: Look, here_ms: u64) -> Table {
    let Look { width, paint, .. } = look;
    let now_ms = model.now_ms(here_ms);
    let nodes = model.nodes(here_ms);
    let heads = ["NODE", "STATUS", "CPU", "LAST 60", "MEM", "DISK", "TEMP"];
    let row = |node: &&NodeShown| {
        let [cpu, mem, disk, temp] = cells(known_load(node, now_ms), width >= WIDE);
        let status = plain(&status(node, now_ms));
        vec![node.name.to_string(), status, cpu, String::new(), mem, disk, temp]
    };
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    table.extend(nodes.iter().map(row));
    let columns = Columns::fit(&table, width, &[0, 1], Some((CURVE, look.curve)));
    let wide = columns.widths[CURVE];
    for (row, node) in table[1..].iter_mut().zip(&nodes) {
        if let Some(track) =
            model.tracks().of(&node.id).filter(|_| known_load(node, now_ms).is_some())
        {
            row[CURVE] = curve(track.cpu(), wide);
        }
    }
    let styled = |(row, node): (&Vec<String>, &&NodeShown)| {
        let mut styles = [Style::new(); 7];
        styles[1] = paint.of(status_colour(node, now_ms));
        if known_load(node, now_ms).and_then(|load| load.cpu).is_some_and(|cpu| cpu > HIGH) {
            styles[2] = paint.of(Color::Red);
        }
        styles[CURVE] = paint.of(Color::Cyan);
        vec![line(&columns, row, &styles)]
    };
    let rows = table[1..].iter().zip(&nodes).map(styled).collect();
    (head(&columns, &table[0]), rows)
}

fn status_colour(node: &NodeShown, now_ms: u64) -> Color {
    match (is_heard(node, now_ms), status(node, now_ms) == "ready") {
        (true, true) => Color::Green,
        (true, false) => Color::Yellow,
        (false, _) => Color::Red,
    }
}

/// `web`, or `staging/web` where there are several environments.
fn called(model: &Model, environment: &str, name: &str) -> String {
    let services = model.services();
    match services.iter().all(|one| one.environment.as_str() == environment) {
        true => name.to_owned(),
        false => format!("{environment}/{name}"),
    }
}

/// `web:v3` of `registry.example/team/web:v3@sha256:…`
pub(super) fn short_image(image: &str) -> String {
    let named = image.split_once('@').map_or(image, |(named, _)| named);
    plain(named.rsplit('/').next().unwrap_or(named))
}

fn services(model: &Model, look: Look) -> Table {
    let Look { width, paint, .. } = look;
    let services = model.services();
    let heads = ["SERVICE", "REV", "READY", "IMAGE", "STATE"];
    let row = |service: &&ServiceShown| {
        vec![
            called(model, service.environment.as_str(), service.name.as_str()),
            service.revision.to_string(),
            format!("{}/{}", service.ready, service.desired),
            short_image(&service.image),
            plain(&service_state(service)),
        ]
    };
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    table.extend(services.iter().map(row));
    let columns = Columns::fit(&table, width, &[0, 3, 4], None);
    let styled = |(row, service): (&Vec<String>, &&ServiceShown)| {
        let mut styles = [Style::new(); 5];
        styles[2] = match service.ready >= service.desired {
            true => paint.of(Color::Green),
            false => paint.of(Color::Yellow),
        };
        vec![line(&columns, row, &styles)]
    };
    let rows = table[1..].iter().zip(&services).map(styled).collect();
    (head(&columns, &table[0]), rows)
}

fn rollouts(model: &Model, look: Look) -> Table {
    let Look { width, paint, .. } = look;
    let rollouts = model.rollouts();
    let heads = ["SERVICE", "REV", "STATE", "NODES", "WAITS FOR"];
    let row = |rollout: &&RolloutShown| {
        let from = rollout.from_revision.map_or(String::new(), |from| format!("{from}>"));
        let updated = rollout.nodes.iter().filter(|node| node.state == "updated").count();
        vec![
            called(model, rollout.environment.as_str(), rollout.service.as_str()),
            format!("{from}{}", rollout.revision),
            rollout.state.clone(),
            format!("{updated}/{}", rollout.nodes.len()),
            plain(&rollout.message),
        ]
    };
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    table.extend(rollouts.iter().map(row));
    let columns = Columns::fit(&table, width, &[0, 4], None);
    let styled = |(row, rollout): (&Vec<String>, &&RolloutShown)| {
        let mut styles = [Style::new(); 5];
        styles[2] = match rollout.state.as_str() {
            "pending" | "in_progress" => paint.of(Color::Cyan),
            _ => paint.of(Color::Yellow),
        };
        let moving = rollout.nodes.iter().filter(|node| is_waited_for(&node.state));
        let told = moving.flat_map(|node| wrapped(&plain(&node_line(node)), width, INDENT));
        let nodes = told.map(Line::raw);
        std::iter::once(line(&columns, row, &styles)).chain(nodes).collect()
    };
    let rows = table[1..].iter().zip(&rollouts).map(styled).collect();
    (head(&columns, &table[0]), rows)
}

/// Whether a rollout is about a node in this state now: neither before its turn nor done with it.
fn is_waited_for(state: &str) -> bool {
    !matches!(state, "waiting" | "updated" | "reverted")
}

fn head(columns: &Columns, heads: &[String]) -> Line<'static> {
    let style = Style::new().add_modifier(Modifier::DIM);
    line(columns, heads, &vec![style; heads.len()])
}

fn line(columns: &Columns, row: &[String], styles: &[Style]) -> Line<'static> {
    let cells = columns.row(row).into_iter();
    Line::from(cells.map(|(at, text)| Span::styled(text, styles[at])).collect::<Vec<_>>())
}
