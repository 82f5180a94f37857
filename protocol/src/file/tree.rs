//! A typed walk over the tree of a TOML text that knows where every key and value stands.
//!
//! Each read reports what it does not like and goes on with nothing, so that one pass finds all problems.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::problem::{Problem, Problems};
use crate::units::Millis;

/// Bytes of one string.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Elements of one list and entries of one table.
pub const MAX_ENTRIES: usize = 256;

/// The keys of one table.
#[derive(Debug)]
pub(super) struct Keys {
    /// Those that are read.
    pub(super) known: &'static [&'static str],
    /// Those of the design that are not built yet, with what to do instead (may be empty).
    pub(super) later: &'static [(&'static str, &'static str)],
    /// What people type who come from elsewhere, with what is meant.
    pub(super) elsewhere: &'static [(&'static str, &'static str)],
}

impl Keys {
    /// Every key is let through: it is checked elsewhere.
    pub(super) const fn any() -> Self {
        Self { known: &[], later: &[], elsewhere: &[] }
    }

    fn is_any(&self) -> bool {
        self.known.is_empty()
    }
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Item<'t> {
    /// The dotted path of its key.
    pub(super) path: String,
    /// Its own key, the last part of the path.
    pub(super) name: &'t str,
    /// Where its key stands.
    pub(super) key: Range<usize>,
    /// Where it stands.
    pub(super) span: Range<usize>,
    value: &'t DeValue<'t>,
}

/// A table whose keys were checked.
#[derive(Debug)]
pub(super) struct Table<'t> {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    items: Vec<Item<'t>>,
}

impl<'t> Table<'t> {
    /// The whole file.
    pub(super) fn root(table: &'t DeTable<'t>, keys: &Keys, problems: &mut Problems<'_>) -> Self {
        let root = Self { path: String::new(), span: 0..0, items: items_of(table, "") };
        root.check(keys, problems);
        root
    }

    pub(super) fn get(&self, name: &str) -> Option<&Item<'t>> {
        self.items.iter().find(|item| item.name == name)
    }

    /// The value of a duration or its default.
    pub(super) fn duration(
        &self,
        name: &str,
        default: Millis,
        bounds: RangeInclusive<Millis>,
        problems: &mut Problems<'_>,
    ) -> Millis {
        self.get(name).and_then(|item| item.duration(bounds, problems)).unwrap_or(default)
    }

    /// The value of a switch, or the default of one that is not written.
    pub(super) fn switch(&self, name: &str, default: bool, problems: &mut Problems<'_>) -> bool {
        self.get(name).and_then(|item| item.switch(problems)).unwrap_or(default)
    }

    /// A number within bounds or its default.
    pub(super) fn number(
        &self,
        name: &str,
        default: u32,
        bounds: RangeInclusive<u32>,
        problems: &mut Problems<'_>,
    ) -> u32 {
        self.get(name).and_then(|item| item.number(bounds, problems)).unwrap_or(default)
    }

    fn check(&self, keys: &Keys, problems: &mut Problems<'_>) {
        for item in &self.items {
            if !keys.is_any() && !keys.known.contains(&item.name) {
                item.refuse_key(keys, problems);
            }
        }
    }
}

impl<'t> Item<'t> {
    pub(super) fn wrong_type(&self, expected: &str, problems: &mut Problems<'_>) {
        let label = format!("expected {expected}, found {}", describe(self.value));
        let message = format!("wrong type for `{}`", self.path);
        let help = self.quoted().filter(|_| expected.contains("string"));
        problems.add(&self.span, &self.path, message, label).help = help;
    }

    /// A number or a switch as it would stand as a string.
    fn quoted(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(number) => Some(format!("write it in quotes: \"{number}\"")),
            DeValue::Float(number) => Some(format!("write it in quotes: \"{number}\"")),
            DeValue::Boolean(switch) => Some(format!("write it in quotes: \"{switch}\"")),
            DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                None
            }
        }
    }

    pub(super) fn invalid<'p>(
        &self,
        expected: impl Into<String>,
        problems: &'p mut Problems<'_>,
    ) -> &'p mut Problem {
        let message = format!("invalid value for `{}`", self.path);
        problems.add(&self.span, &self.path, message, expected)
    }

    /// A value that the design knows and this version does not.
    pub(super) fn later(&self, what: &str, instead: &str, problems: &mut Problems<'_>) {
        let message = format!("{what} is not supported yet");
        let problem = problems.add(&self.span, &self.path, message, "not supported yet");
        problem.help = (!instead.is_empty()).then(|| instead.to_owned());
    }

    fn refuse_key(&self, keys: &Keys, problems: &mut Problems<'_>) {
        let find = |table: &[(&'static str, &'static str)]| {
            table.iter().find(|(name, _)| *name == self.name).map(|(_, text)| *text)
        };
        if let Some(instead) = find(keys.later) {
            let message = format!("`{}` is not supported yet", self.path);
            let problem = problems.add(&self.key, &self.path, message, "not supported yet");
            problem.help = (!instead.is_empty()).then(|| instead.to_owned());
            return;
        }
        let message = format!("unknown key `{}`", self.path.escape_debug());
        if let Some(meant) = find(keys.elsewhere) {
            problems.add(&self.key, &self.path, message, meant);
            return;
        }
        let meant = nearest(self.name, keys.known.iter().copied());
        let label = meant.map(|key| format!("did you mean `{key}`?")).unwrap_or_default();
        let problem = problems.add(&self.key, &self.path, message, label);
        if meant.is_none() {
            problem.help = Some(format!("known here: {}", keys.known.join(", ")));
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// The string, where it is one; says nothing otherwise.
    pub(super) fn as_text(&self) -> Option<&'t str> {
        match self.value {
            DeValue::String(text) => Some(text),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        }
    }

    /// The number as it was written, integer or decimal; says nothing otherwise.
    pub(super) fn as_number(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(_) => self.as_integer().map(|number| number.to_string()),
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        }
    }

    /// The integer, where it is one that fits; says nothing otherwise.
    pub(super) fn as_integer(&self) -> Option<i64> {
        match self.value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        }
    }

    pub(super) fn text(&self, problems: &mut Problems<'_>) -> Option<&'t str> {
        let Some(text) = self.as_text() else {
            self.wrong_type("a string", problems);
            return None;
        };
        if text.len() > MAX_TEXT_BYTES {
            self.invalid(
                format!("{} bytes; at most {MAX_TEXT_BYTES} are allowed", text.len()),
                problems,
            );
            return None;
        }
        if text.contains('\0') {
            self.invalid("a NUL character cannot be passed to a container", problems);
            return None;
        }
        Some(text)
    }

    pub(super) fn switch(&self, problems: &mut Problems<'_>) -> Option<bool> {
        if let DeValue::Boolean(switch) = self.value {
            return Some(*switch);
        }
        self.wrong_type("true or false", problems);
        None
    }

    pub(super) fn number(
        &self,
        bounds: RangeInclusive<u32>,
        problems: &mut Problems<'_>,
    ) -> Option<u32> {
        if !matches!(self.value, DeValue::Integer(_)) {
            self.wrong_type("a whole number", problems);
            return None;
        }
        let number = self.as_integer().and_then(|number| u32::try_from(number).ok());
        let within = number.filter(|number| bounds.contains(number));
        if within.is_none() {
            let (low, high) = (bounds.start(), bounds.end());
            self.invalid(format!("expected a whole number from {low} to {high}"), problems);
        }
        within
    }

    /// A string that parses; the error's own words say what was expected.
    pub(super) fn parsed<T>(&self, problems: &mut Problems<'_>) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        match self.text(problems)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.invalid(error.to_string(), problems);
                None
            }
        }
    }

    pub(super) fn duration(
        &self,
        bounds: RangeInclusive<Millis>,
        problems: &mut Problems<'_>,
    ) -> Option<Millis> {
        if let Some(number) = self.as_integer() {
            let label = "expected a duration such as \"10s\", found a number";
            let message = format!("wrong type for `{}`", self.path);
            problems.add(&self.span, &self.path, message, label).help =
                Some(format!("write it with its unit: \"{number}s\""));
            return None;
        }
        let value: Millis = self.parsed(problems)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        let (low, high) = (bounds.start(), bounds.end());
        self.invalid(format!("expected {low} to {high}"), problems);
        None
    }

    /// One of a few words.
    pub(super) fn word(
        &self,
        words: &[&'static str],
        problems: &mut Problems<'_>,
    ) -> Option<&'static str> {
        let text = self.text(problems)?;
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some(word);
        }
        let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let label = match nearest(text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("expected one of {}", quoted.join(", ")),
        };
        self.invalid(label, problems);
        None
    }

    /// The elements of a list; their paths end in `[0]`, `[1]`, ….
    pub(super) fn list(&self, what: &str, problems: &mut Problems<'_>) -> Option<Vec<Item<'t>>> {
        let DeValue::Array(array) = self.value else {
            self.wrong_type(what, problems);
            return None;
        };
        if array.len() > MAX_ENTRIES {
            self.invalid(
                format!("{} elements; at most {MAX_ENTRIES} are allowed", array.len()),
                problems,
            );
            return None;
        }
        let element = |(index, value): (usize, &'t toml::Spanned<DeValue<'t>>)| Item {
            path: format!("{}[{index}]", self.path),
            name: self.name,
            key: value.span(),
            span: value.span(),
            value: value.get_ref(),
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// A list of strings.
    pub(super) fn texts(&self, problems: &mut Problems<'_>) -> Option<Vec<String>> {
        let items = self.list("a list of strings", problems)?;
        items.iter().map(|item| item.text(problems).map(str::to_owned)).collect()
    }

    /// A table of free keys, in the order of the keys.
    pub(super) fn entries(&self, what: &str, problems: &mut Problems<'_>) -> Option<Vec<Item<'t>>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type(what, problems);
            return None;
        };
        if table.len() > MAX_ENTRIES {
            self.invalid(
                format!("{} entries; at most {MAX_ENTRIES} are allowed", table.len()),
                problems,
            );
            return None;
        }
        Some(items_of(table, &self.path))
    }

    /// A table of known keys.
    pub(super) fn table(&self, keys: &Keys, problems: &mut Problems<'_>) -> Option<Table<'t>> {
        let items = self.entries("a table", problems)?;
        let table = Table { path: self.path.clone(), span: self.span.clone(), items };
        table.check(keys, problems);
        Some(table)
    }
}

fn items_of<'t>(table: &'t DeTable<'t>, path: &str) -> Vec<Item<'t>> {
    let item = |(key, value): (&'t toml::Spanned<_>, &'t toml::Spanned<DeValue<'t>>)| {
        let key: &'t toml::Spanned<std::borrow::Cow<'t, str>> = key;
        let name: &'t str = key.get_ref();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        Item { path, name, key: key.span(), span: value.span(), value: value.get_ref() }
    };
    table.iter().map(item).collect()
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
