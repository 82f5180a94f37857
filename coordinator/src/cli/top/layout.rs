//! Columns that fit a width, lines that fit an area, and a curve in one line of text. Pure.

use ratatui::text::Span;

/// A curve is not drawn narrower.
const LEAST_CURVE: usize = 8;
/// What a column may be cut to.
const LEAST_COLUMN: usize = 5;
/// Eighths of a line, from below (Unicode, block elements).
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Columns of text between which gaps are.
#[derive(Debug)]
pub(super) struct Columns {
    /// Of each column; 0: it is left out.
    pub(super) widths: Vec<usize>,
    gap: usize,
}

impl Columns {
    /// As wide as their widest cell, at most as `most` says; where that is more than `width`, the widest of those in `yielding` give
    /// way. `curve`: the column that takes what is left, of at most so many cells, or goes where too little is.
    pub(super) fn fit(
        rows: &[Vec<String>],
        width: usize,
        yielding: &[usize],
        curve: Option<(usize, usize)>,
    ) -> Self {
        let count = rows.first().map_or(0, Vec::len);
        let widest = |column: usize| rows.iter().map(|row| cells(&row[column])).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..count).map(widest).collect();
        if let Some((at, _)) = curve {
            widths[at] = 0;
        }
        let gap = if width < 60 { 1 } else { 2 };
        let mut columns = Self { widths, gap };
        while columns.total() > width {
            let widest = yielding.iter().copied().max_by_key(|at| columns.widths[*at]);
            let Some(at) = widest.filter(|at| columns.widths[*at] > LEAST_COLUMN) else { break };
            columns.widths[at] -= 1;
        }
        if let Some((at, most)) = curve {
            let left = width.saturating_sub(columns.total() + gap).min(most);
            columns.widths[at] = if left < LEAST_CURVE { 0 } else { left };
        }
        columns
    }

    fn total(&self) -> usize {
        let shown = self.widths.iter().filter(|width| **width > 0);
        shown.map(|width| width + self.gap).sum::<usize>().saturating_sub(self.gap)
    }

    /// The cells of a row, cut or filled, without columns that are left out.
    pub(super) fn row(&self, row: &[String]) -> Vec<(usize, String)> {
        let gap = " ".repeat(self.gap);
        let shown = self.widths.iter().zip(row).enumerate().filter(|(_, (width, _))| **width > 0);
        shown.map(|(at, (width, cell))| (at, fitted(cell, *width) + &gap)).collect()
    }
}

/// How many cells of a terminal a text takes.
pub(super) fn cells(text: &str) -> usize {
    Span::raw(text).width()
}

/// Cut, with `…` at its end, or filled with blanks.
pub(super) fn fitted(text: &str, width: usize) -> String {
    let wide = cells(text);
    if wide <= width {
        return format!("{text}{}", " ".repeat(width - wide));
    }
    let mut cut = String::new();
    let mut taken = 0;
    for c in text.chars() {
        let wide = cells(c.encode_utf8(&mut [0; 4]));
        if taken + wide >= width {
            break;
        }
        cut.push(c);
        taken += wide;
    }
    if width > 0 {
        cut.push('…');
    }
    cut + &" ".repeat(width.saturating_sub(taken + 1))
}

/// Text over as many lines as it takes, parted between words where that can be; those after the first begin with blanks.
pub(super) fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let indent = " ".repeat(if indent + LEAST_COLUMN <= width { indent } else { 0 });
    let (mut lines, mut left) = (Vec::new(), text.trim_end().to_owned());
    while cells(&left) > width.max(1) {
        let mut taken = 0;
        let over = left.char_indices().find(|(_, c)| {
            taken += cells(c.encode_utf8(&mut [0; 4]));
            taken > width
        });
        // A letter that is wider than the line goes there as well.
        let first = left.chars().next().map_or(0, char::len_utf8);
        let most = over.map_or(left.len(), |(at, _)| at).max(first);
        let words = left[..most].trim_end_matches(|c: char| c != ' ').trim_end().len();
        let at = if words > indent.len() { words } else { most };
        let rest = format!("{indent}{}", left[at..].trim_start());
        left.truncate(at);
        if rest.len() >= text.len() + indent.len() {
            break;
        }
        lines.push(std::mem::replace(&mut left, rest));
    }
    if lines.is_empty() || !left.trim().is_empty() {
        lines.push(left);
    }
    lines
}

/// The newest shares, 0 to 1, one cell each, at the right of so many cells.
pub(super) fn curve(shares: impl DoubleEndedIterator<Item = f32>, width: usize) -> String {
    let eighth = |share: f32| EIGHTHS[((share.clamp(0.0, 1.0) * 8.0) as usize).min(7)];
    let newest: Vec<char> = shares.rev().take(width).map(eighth).collect();
    let drawn: String = newest.iter().rev().collect();
    format!("{drawn:>width$}")
}

/// Lines for each of three panes that want so many: a third at least where it is wanted, and the first ones get what others leave.
pub(super) fn split(height: usize, wanted: [usize; 3]) -> [usize; 3] {
    let mut given = wanted.map(|wanted| wanted.min(height / 3));
    let mut left = height.saturating_sub(given.iter().sum());
    for (given, wanted) in given.iter_mut().zip(wanted) {
        let more = left.min(wanted - *given);
        *given += more;
        left -= more;
    }
    given
}

/// The first line to show of `all`, so that line `chosen` is among the `height` that fit.
pub(super) fn first_shown(chosen: usize, all: usize, height: usize) -> usize {
    let least = (chosen + 1).saturating_sub(height);
    least.min(all.saturating_sub(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_cells_and_not_to_letters() {
        assert_eq!(fitted("node-1", 8), "node-1  ");
        assert_eq!(fitted("node-11", 5), "node…");
        assert_eq!(fitted("日本語", 4), "日… ");
        assert_eq!(fitted("日本語", 6), "日本語");
        assert_eq!((fitted("x", 0), fitted("xy", 1)), (String::new(), "…".to_owned()));
    }

    #[test]
    fn what_is_waited_for_is_told_over_several_lines() {
        let text = "  opi-2  updating  waiting for GET /ready: 503";
        let expected = ["  opi-2  updating", "    waiting for GET", "    /ready: 503"];
        assert_eq!(wrapped(text, 20, 4), expected);
        assert_eq!(wrapped(text, 80, 4), [text]);
        assert_eq!(wrapped("abcdefgh", 3, 4), ["abc", "def", "gh"]);
        assert_eq!(wrapped("日本", 1, 4), ["日", "本"]);
        assert_eq!(wrapped("", 10, 4), [""]);
    }

    #[test]
    fn a_curve_ends_with_the_newest() {
        assert_eq!(curve([0.0, 0.5, 1.0, 7.0].into_iter(), 6), "  ▁▅██");
        assert_eq!(curve([0.0, 0.5, 1.0].into_iter(), 2), "▅█");
        assert_eq!(curve(std::iter::empty(), 3), "   ");
    }

    #[test]
    fn panes_share_what_there_is() {
        assert_eq!(split(30, [5, 5, 5]), [5, 5, 5]);
        assert_eq!(split(30, [50, 5, 5]), [20, 5, 5]);
        assert_eq!(split(30, [50, 50, 2]), [18, 10, 2]);
        assert_eq!(split(0, [5, 5, 5]), [0, 0, 0]);
        assert_eq!([first_shown(0, 9, 3), first_shown(4, 9, 3), first_shown(8, 9, 3)], [0, 2, 6]);
        assert_eq!(first_shown(3, 2, 0), 2);
    }
}
