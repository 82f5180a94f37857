//! Figures as people read them at a glance, and text from elsewhere that may stand beside them on a terminal.

/// What is not known.
pub(crate) const UNKNOWN: &str = "-";
/// Nothing that is a share of something is shown above this: a board that lies does not push columns apart.
const MAX_PERCENT: f32 = 9_999.0;
const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// `23%` of a share from 0 to 1.
pub(crate) fn percent(share: f32) -> String {
    format!("{:.0}%", (share * 100.0).clamp(0.0, MAX_PERCENT))
}

/// `640B`, `1.9K`, `312M`, `29G`: in powers of 1024.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "K", "M", "G", "T"])
}

/// `640`, `1.9k`, `312k`, `1.9M`: in powers of 1000.
pub(crate) fn count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T"])
}

fn scaled(value: u64, base: u64, units: &[&str]) -> String {
    let (mut divisor, mut unit) = (1_u64, 0);
    while unit + 1 < units.len() && value / divisor >= base {
        divisor *= base;
        unit += 1;
    }
    let tenths = u128::from(value) * 10 / u128::from(divisor);
    match unit {
        0 => format!("{value}{}", units[0]),
        _ if tenths < 100 => format!("{}.{}{}", tenths / 10, tenths % 10, units[unit]),
        _ => format!("{}{}", tenths / 10, units[unit]),
    }
}

/// `32% of 985M`; nothing where there is no such thing.
pub(crate) fn share_of(used: u64, total: u64) -> Option<String> {
    Some(format!("{} of {}", part(used, total)?, bytes(total)))
}

/// `32%`; nothing where there is no such thing.
pub(crate) fn part(used: u64, total: u64) -> Option<String> {
    let percent = u128::from(used).saturating_mul(100).checked_div(u128::from(total))?;
    Some(format!("{}%", percent.min(9_999)))
}

/// `45s`, `12m`, `4h 12m`, `3d 4h`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..MINUTE_S => format!("{seconds}s"),
        MINUTE_S..HOUR_S => format!("{}m", seconds / MINUTE_S),
        HOUR_S..DAY_S => format!("{}h {}m", seconds / HOUR_S, seconds % HOUR_S / MINUTE_S),
        DAY_S.. => format!("{}d {}h", seconds / DAY_S, seconds % DAY_S / HOUR_S),
    }
}

/// `3m ago`: the largest unit alone.
pub(crate) fn ago(then_ms: u64, now_ms: u64) -> String {
    let span = span(now_ms.saturating_sub(then_ms) / 1000);
    format!("{} ago", span.split(' ').next().unwrap_or(&span))
}

/// Text from a node or a person, on one line of a terminal: no control characters, nothing that turns the writing direction
/// around or hides (Unicode, UAX 9 and the zero-width ones).
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || hides(c) { ' ' } else { c }).collect()
}

/// What an application writes, on a terminal: it steers nothing there, and its lines and tabs stay.
pub(crate) fn harmless(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n'));
    kept.map(|c| if hides(c) { ' ' } else { c }).collect()
}

/// A JSON document in which what would steer a terminal stands as `\u` and four digits, as JSON has it; serde_json does that for the first 32
/// characters alone (RFC 8259 asks for no more).
pub(crate) fn harmless_json(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            '\n' => text.push(c),
            c if c.is_control() || hides(c) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

const fn hides(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_say_their_unit() {
        let shown = [0, 640, 1_024, 1_945, 10_239, 327_155_712, u64::MAX].map(bytes);
        assert_eq!(shown, ["0B", "640B", "1.0K", "1.8K", "9.9K", "312M", "16777215T"]);
        assert_eq!([999, 1_900, 1_900_000].map(count), ["999", "1.9k", "1.9M"]);
        assert_eq!(
            [0.0, 0.234, 1.0, -1.0, f32::MAX].map(percent),
            ["0%", "23%", "100%", "0%", "9999%"]
        );
        assert_eq!(share_of(312 << 20, 985 << 20).unwrap(), "31% of 985M");
        assert_eq!(share_of(0, 0), None);
        assert_eq!([45, 725, 15_120, 273_600].map(span), ["45s", "12m", "4h 12m", "3d 4h"]);
        assert_eq!(ago(1_000, 15_121_000), "4h ago");
        assert_eq!(ago(2_000, 1_000), "0s ago");
    }

    #[test]
    fn what_a_terminal_would_obey_becomes_blank() {
        assert_eq!(plain("a\x1b[31mb\u{9b}c\u{202e}d\n"), "a [31mb c d ");
    }

    #[test]
    fn what_steers_a_terminal_is_taken_out_or_written_as_digits() {
        let evil = "a\tb\u{1b}[2J\u{9b}1m\u{7f}\u{202e}c\u{200b}\nd é";
        assert_eq!(harmless(evil), "a\tb[2J1m c \nd é");
        let document = harmless_json(&serde_json::json!({ "line": evil }).to_string());
        assert_eq!(document, r#"{"line":"a\tb\u001b[2J\u009b1m\u007f\u202ec\u200b\nd é"}"#);
        let read: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(read["line"], evil);
    }
}
