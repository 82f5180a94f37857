//! A table for people: columns as wide as they need to be, numbers to the right.

/// Lines of a table with a head.
#[must_use]
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut lines = vec![line(&head, &widths)];
    lines.extend(rows.iter().map(|row| line(row, &widths)));
    lines.join("\n")
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| {
        let is_number = cell.chars().next().is_some_and(|c| c.is_ascii_digit());
        if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["v1".to_owned(), "1200".to_owned()],
            vec!["version 2".to_owned(), "7".to_owned()],
        ];
        assert_eq!(
            render(&["what", "sent"], &rows),
            "what       sent\nv1         1200\nversion 2     7"
        );
    }
}
