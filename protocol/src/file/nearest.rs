//! The word that was probably meant.

/// The candidate nearest to `word` by edit distance (Damerau: a swap of neighbours counts once), if it is near enough
/// to be a slip: a third of the word's length, at least one.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let word: Vec<char> = word.to_lowercase().replace('-', "_").chars().take(64).collect();
    let allowed = (word.len() / 3).max(1);
    candidates
        .map(|candidate| (distance(&word, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_key_and_another_word_finds_none() {
        let keys = ["replicas", "rollout", "resources", "read_only"];
        let find = |word| nearest(word, keys.into_iter());
        assert_eq!(find("replcas"), Some("replicas"));
        assert_eq!(find("repilcas"), Some("replicas"));
        assert_eq!(find("read-only"), Some("read_only"));
        assert_eq!(find("banana"), None);
        assert_eq!(find(""), None);
    }
}
