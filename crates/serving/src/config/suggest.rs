//! The name that was probably meant.

/// ` (did you mean 'x'?)` for the known name nearest to a wrong one, or nothing.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Hostile names must not make this quadratic in their length.
    if wrong.len() > 64 {
        return String::new();
    }
    let nearest = known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len().min(wrong.len()) / 4);
    nearest.map_or_else(String::new, |(_, name)| format!(" (did you mean '{name}'?)"))
}

/// Levenshtein's edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (turn, a) in left.chars().enumerate() {
        let mut diagonal = turn;
        let mut last = turn + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(last);
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            last = (diagonal + usize::from(a != *b)).min(above + 1).min(last + 1);
            diagonal = *above;
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let check = |wrong: &str, meant: &str| {
            let known = ["name", "max_batch_size", "input"];
            let want = if meant.is_empty() {
                String::new()
            } else {
                format!(" (did you mean '{meant}'?)")
            };
            assert_eq!(did_you_mean(wrong, known), want, "{wrong}");
        };
        check("max_batch_sise", "max_batch_size");
        check("maxBatchSize", "max_batch_size");
        check("inputs", "input");
        check("nmae", "name");
        check("surprise", "");
        check("", "");
        check(&"x".repeat(100), "");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
