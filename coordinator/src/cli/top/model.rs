//! What `pith top` shows: answers and keys come in, time is passed, nothing is done here.
//!
//! ```text
//! List --enter--> Node | Service --esc--> List      List --?--> Help --any--> List      List --/--> typing --enter, esc--> List
//! ```

use protocol::id::{NodeId, ServiceId};

use super::gather::Answer;
use super::layout::{curve, wrapped};
use crate::render::top::tracks::Tracks;
use crate::render::top::{self, Sort, now_ms};
use crate::state::shown::{NodeShown, RolloutShown, ServiceShown};

/// An answer that is older than this is of a coordinator that is away.
const AWAY_MS: u64 = 6_000;
/// Nobody types a longer filter.
const MAX_FILTER_CHARS: usize = 64;
/// What fits on a screen nobody has measured, beside its first and last line.
const COLUMNS: usize = 80;
const ROWS: usize = 22;
/// Facts of a node begin there.
const FACTS_AT: usize = 11;

/// What a person presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    NextPane,
    PaneBefore,
    Enter,
    Escape,
    Backspace,
    Interrupt,
    Char(char),
}

/// What follows from a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Quit,
}

/// A list on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pane {
    #[default]
    Nodes,
    Services,
    Rollouts,
}

impl Pane {
    pub(super) const ALL: [Self; 3] = [Self::Nodes, Self::Services, Self::Rollouts];

    const fn index(self) -> usize {
        match self {
            Self::Nodes => 0,
            Self::Services => 1,
            Self::Rollouts => 2,
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Nodes => Self::Services,
            Self::Services => Self::Rollouts,
            Self::Rollouts => Self::Nodes,
        }
    }
}

/// What fills the screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Screen {
    /// The panes.
    #[default]
    List,
    /// The keys.
    Help,
    /// A node whole, from this line on.
    Node(NodeId, usize),
    /// A service whole, from this line on.
    Service(ServiceId, usize),
}

/// The row that is chosen in a pane: by what it is, and by where it was, for when that is gone.
#[derive(Debug, Clone, Default)]
struct Chosen {
    key: Option<String>,
    at: usize,
}

/// All that is shown.
#[derive(Debug, Clone)]
pub(super) struct Model {
    answer: Option<Answer>,
    tracks: Tracks,
    seen_ms: u64,
    has_missed: bool,
    columns: usize,
    rows: usize,
    sort: Sort,
    filter: String,
    is_typing: bool,
    pane: Pane,
    screen: Screen,
    chosen: [Chosen; 3],
}

impl Model {
    pub(super) fn new(sort: Sort) -> Self {
        Self {
            answer: None,
            tracks: Tracks::default(),
            seen_ms: 0,
            has_missed: false,
            columns: COLUMNS,
            rows: ROWS,
            sort,
            filter: String::new(),
            is_typing: false,
            pane: Pane::default(),
            screen: Screen::default(),
            chosen: Default::default(),
        }
    }

    /// The coordinator has answered.
    pub(super) fn take(&mut self, answer: Answer, here_ms: u64) {
        self.tracks.take(&answer.nodes);
        (self.seen_ms, self.has_missed) = (here_ms, false);
        self.answer = Some(answer);
        for pane in Pane::ALL {
            self.choose_again(pane, here_ms);
        }
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key, here_ms: u64) -> Then {
        if key == Key::Interrupt {
            return Then::Quit;
        }
        if self.is_typing {
            self.type_filter(key);
            self.choose_again(self.pane, here_ms);
            return Then::GoOn;
        }
        if key == Key::Char('q') {
            return Then::Quit;
        }
        match &self.screen {
            Screen::List => self.press_in_list(key, here_ms),
            Screen::Help => {
                self.screen = Screen::List;
                Then::GoOn
            }
            Screen::Node(..) | Screen::Service(..) => {
                self.press_in_detail(key, here_ms);
                Then::GoOn
            }
        }
    }

    fn press_in_detail(&mut self, key: Key, here_ms: u64) {
        let by = match key {
            Key::Up | Key::Char('k') => -1,
            Key::Down | Key::Char('j') => 1,
            Key::PageUp => -self.page(),
            Key::PageDown | Key::Char(' ') => self.page(),
            Key::Home | Key::Char('g') => isize::MIN,
            Key::End | Key::Char('G') => isize::MAX,
            Key::Escape | Key::Enter | Key::Backspace => {
                self.screen = Screen::List;
                return;
            }
            Key::Char('?') => {
                self.screen = Screen::Help;
                return;
            }
            Key::NextPane | Key::PaneBefore | Key::Interrupt | Key::Char(_) => return,
        };
        let last = self.detail(here_ms).len().saturating_sub(self.rows);
        match &mut self.screen {
            Screen::Node(_, line) | Screen::Service(_, line) => {
                *line = line.saturating_add_signed(by).min(last);
            }
            Screen::List | Screen::Help => {}
        }
    }

    fn press_in_list(&mut self, key: Key, here_ms: u64) -> Then {
        match key {
            Key::Up | Key::Char('k') => self.step(-1, here_ms),
            Key::Down | Key::Char('j') => self.step(1, here_ms),
            Key::PageUp => self.step(-self.page(), here_ms),
            Key::PageDown | Key::Char(' ') => self.step(self.page(), here_ms),
            Key::Home | Key::Char('g') => self.step(isize::MIN, here_ms),
            Key::End | Key::Char('G') => self.step(isize::MAX, here_ms),
            Key::NextPane => self.pane = self.pane.next(),
            Key::PaneBefore => self.pane = self.pane.next().next(),
            Key::Enter => self.open(here_ms),
            Key::Char('?') => self.screen = Screen::Help,
            Key::Char('/') => self.is_typing = true,
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.choose_again(Pane::Nodes, here_ms);
            }
            Key::Escape if self.filter.is_empty() => return Then::Quit,
            Key::Escape => {
                self.filter.clear();
                self.choose_again(self.pane, here_ms);
            }
            Key::Backspace | Key::Interrupt | Key::Char(_) => {}
        }
        Then::GoOn
    }

    fn page(&self) -> isize {
        isize::try_from(self.rows).unwrap_or(isize::MAX)
    }

    /// A node or a service whole, where one is open.
    pub(super) fn detail(&self, here_ms: u64) -> Vec<String> {
        let answer = self.answer.as_ref();
        let text = match &self.screen {
            Screen::List | Screen::Help => return Vec::new(),
            Screen::Node(id, _) => {
                let node = answer.and_then(|all| all.nodes.nodes.iter().find(|one| one.id == *id));
                let now_ms = self.now_ms(here_ms);
                node.map(|node| top::node(node, self.tracks.of(id), now_ms))
            }
            Screen::Service(id, _) => {
                let is_it =
                    |one: &&ServiceShown| one.name == id.name && one.environment == id.environment;
                answer.and_then(|all| all.services.services.iter().find(is_it)).map(top::service)
            }
        };
        let Some(text) = text else { return vec!["it is gone; Esc goes back".to_owned()] };
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Screen::Node(id, _) = &self.screen {
            let at = lines.iter().position(|line| line.starts_with("cores"));
            lines.splice(at.map_or(0..0, |at| at..at), self.curve_of(id));
        }
        let wrapped = |line: String| wrapped(&line, self.columns, FACTS_AT);
        lines.into_iter().flat_map(wrapped).collect()
    }

    /// A node's processor, the newest at the end, as a line among its facts.
    fn curve_of(&self, id: &NodeId) -> Option<String> {
        let track = self.tracks.of(id)?;
        let wide = self.columns.saturating_sub(FACTS_AT).min(track.cpu().len());
        Some(format!("{:<FACTS_AT$}{}", "", curve(track.cpu(), wide)))
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if !c.is_control() && self.filter.chars().count() < MAX_FILTER_CHARS => {
                self.filter.push(c);
            }
            Key::Char(_) | Key::Up | Key::Down | Key::PageUp | Key::PageDown => {}
            Key::Home | Key::End | Key::NextPane | Key::PaneBefore | Key::Interrupt => {}
        }
    }

    fn step(&mut self, by: isize, here_ms: u64) {
        let keys = self.keys(self.pane, here_ms);
        let chosen = &mut self.chosen[self.pane.index()];
        chosen.at = chosen.at.saturating_add_signed(by).min(keys.len().saturating_sub(1));
        chosen.key = keys.get(chosen.at).cloned();
    }

    fn open(&mut self, here_ms: u64) {
        let at = self.chosen_at(self.pane);
        let service = |environment: &_, name: &_| {
            let id = ServiceId { environment: Clone::clone(environment), name: Clone::clone(name) };
            Screen::Service(id, 0)
        };
        let screen = match self.pane {
            Pane::Nodes => self.nodes(here_ms).get(at).map(|n| Screen::Node(n.id.clone(), 0)),
            Pane::Services => self.services().get(at).map(|s| service(&s.environment, &s.name)),
            Pane::Rollouts => self.rollouts().get(at).map(|r| service(&r.environment, &r.service)),
        };
        self.screen = screen.unwrap_or_default();
    }

    /// The choice stays with what was chosen, wherever it is now.
    fn choose_again(&mut self, pane: Pane, here_ms: u64) {
        let keys = self.keys(pane, here_ms);
        let chosen = &mut self.chosen[pane.index()];
        let found = chosen.key.as_ref().and_then(|key| keys.iter().position(|one| one == key));
        chosen.at = found.unwrap_or(chosen.at).min(keys.len().saturating_sub(1));
        if found.is_some() || chosen.key.is_none() {
            return;
        }
        // What was chosen may be back with the next answer, or when the filter is gone; the row at its place is shown meanwhile.
        if self.filter.is_empty() {
            chosen.key = keys.get(chosen.at).cloned();
        }
    }

    fn keys(&self, pane: Pane, here_ms: u64) -> Vec<String> {
        match pane {
            Pane::Nodes => self.nodes(here_ms).iter().map(|node| node.id.to_string()).collect(),
            Pane::Services => {
                self.services().iter().map(|s| format!("{}/{}", s.environment, s.name)).collect()
            }
            Pane::Rollouts => {
                self.rollouts().iter().map(|r| format!("{}/{}", r.environment, r.service)).collect()
            }
        }
    }

    /// Whether something by one of these names is wanted.
    fn is_wanted(&self, names: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        names.iter().any(|name| name.to_lowercase().contains(&wanted))
    }

    /// In the order in which they are shown; those that the filter leaves.
    pub(super) fn nodes(&self, here_ms: u64) -> Vec<&NodeShown> {
        let all = self.answer.as_ref().map_or(&[][..], |answer| &answer.nodes.nodes);
        let wanted = |node: &&NodeShown| {
            self.is_wanted(&[node.name.as_str(), node.environment.as_str(), &node.status])
        };
        let mut nodes: Vec<&NodeShown> = all.iter().filter(wanted).collect();
        self.sort.apply(&mut nodes, now_ms(all, here_ms));
        nodes
    }

    /// Those that the filter leaves.
    pub(super) fn services(&self) -> Vec<&ServiceShown> {
        let all = self.answer.as_ref().map_or(&[][..], |answer| &answer.services.services);
        let wanted = |service: &&ServiceShown| {
            self.is_wanted(&[service.name.as_str(), service.environment.as_str()])
        };
        all.iter().filter(wanted).collect()
    }

    /// In flight, those that the filter leaves.
    pub(super) fn rollouts(&self) -> Vec<&RolloutShown> {
        let all = self.answer.as_ref().map_or(&[][..], |answer| &answer.rollouts);
        let wanted = |rollout: &&RolloutShown| {
            self.is_wanted(&[rollout.service.as_str(), rollout.environment.as_str()])
        };
        all.iter().filter(wanted).collect()
    }

    /// How many there are of a pane, whatever the filter says.
    pub(super) fn count(&self, pane: Pane) -> usize {
        self.answer.as_ref().map_or(0, |answer| match pane {
            Pane::Nodes => answer.nodes.nodes.len(),
            Pane::Services => answer.services.services.len(),
            Pane::Rollouts => answer.rollouts.len(),
        })
    }

    /// The coordinator's time.
    pub(super) fn now_ms(&self, here_ms: u64) -> u64 {
        now_ms(self.answer.as_ref().map_or(&[][..], |answer| &answer.nodes.nodes), here_ms)
    }

    /// Since when the coordinator has not answered, in milliseconds; none: it has just now.
    pub(super) fn away_ms(&self, here_ms: u64) -> Option<u64> {
        let ago = here_ms.saturating_sub(self.seen_ms);
        (self.has_missed || ago >= AWAY_MS).then_some(ago)
    }

    /// The coordinator did not answer: it is called away at once.
    pub(super) fn miss(&mut self) {
        self.has_missed = true;
    }

    /// The screen is so wide, and so many lines fit between its first and its last.
    pub(super) fn measure(&mut self, columns: usize, rows: usize) {
        (self.columns, self.rows) = (columns, rows);
    }

    pub(super) fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    pub(super) fn pane(&self) -> Pane {
        self.pane
    }

    pub(super) fn screen(&self) -> &Screen {
        &self.screen
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    /// What is looked for, and whether it is being typed.
    pub(super) fn filter(&self) -> (&str, bool) {
        (&self.filter, self.is_typing)
    }

    /// Which row of a pane is chosen.
    pub(super) fn chosen_at(&self, pane: Pane) -> usize {
        self.chosen[pane.index()].at
    }
}

#[cfg(test)]
mod tests;
