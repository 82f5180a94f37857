//! Samples of a figure.

use std::fmt;

/// Runs per figure.
pub const RUNS: usize = 5;

/// What the same measurement gave, several times.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Samples in any order.
    #[must_use]
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The middle one.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Each over the other's of the same run.
    #[must_use]
    pub fn ratios(ours: &[f64], theirs: &[f64]) -> Self {
        Self::new(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
    }
}

impl fmt::Display for Samples {
    /// `median (least to most)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.0.first(), self.0.last());
        let (least, most) = (least.copied().unwrap_or(f64::NAN), most.copied().unwrap_or(f64::NAN));
        write!(f, "{:.2} ({least:.2} to {most:.2})", self.median())
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// What it gave.
    pub figure: String,
    /// What it should be.
    pub target: String,
    /// Whether it is; none where there is no target.
    pub holds: Option<bool>,
}

impl Line {
    /// A line whose target is checked.
    #[must_use]
    pub fn checked(what: &str, figure: String, target: &str, holds: bool) -> Self {
        Self { what: what.to_owned(), figure, target: target.to_owned(), holds: Some(holds) }
    }

    /// A line for orientation.
    #[must_use]
    pub fn plain(what: &str, figure: String) -> Self {
        Self { what: what.to_owned(), figure, target: String::new(), holds: None }
    }

    /// Its cells.
    #[must_use]
    pub fn cells(&self) -> Vec<String> {
        let holds = match self.holds {
            Some(true) => "holds",
            Some(false) => "MISSED",
            None => "",
        };
        vec![self.what.clone(), self.figure.clone(), self.target.clone(), holds.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_run() {
        let ratios = Samples::ratios(&[2.0, 9.0, 4.0], &[1.0, 3.0, 4.0]);
        assert_eq!(ratios.to_string(), "2.00 (1.00 to 3.00)");
    }
}
