//! What somebody may have meant.

/// Longer words than any name are no typing mistake of one.
const LONGEST: usize = 64;

/// The known word that is nearest to `word`, if it is near: the same but for case, `-` and `_`, or
/// within one edit for each three letters.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() > LONGEST {
        return None;
    }
    let plain = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|c| !matches!(c, '-' | '_'));
        letters.flat_map(char::to_lowercase).collect()
    };
    let meant = plain(word);
    known
        .into_iter()
        .map(|candidate| (distance(&meant, &plain(candidate)), candidate))
        .filter(|(edits, candidate)| {
            let letters = candidate.chars().count().min(meant.len().max(1));
            *edits <= letters.div_ceil(3).min(3) && *edits < letters.max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits that make one word the other: a letter more, fewer or another, or two neighbours swapped.
fn distance(from: &[char], to: &[char]) -> usize {
    // Rows of the usual table: for the first i letters, and for one and two fewer.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(a != b)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let is_swap = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if is_swap {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [&str; 6] = ["maxSize", "maxDelay", "min", "max", "scaleToZeroAfter", "uri"];

    #[track_caller]
    fn check(word: &str, expected: Option<&str>) {
        assert_eq!(nearest(word, KNOWN), expected, "{word}");
    }

    #[test]
    fn table() {
        check("maxsize", Some("maxSize"));
        check("max_size", Some("maxSize"));
        check("maxSzie", Some("maxSize"));
        check("MaxDelays", Some("maxDelay"));
        check("mx", Some("max"));
        check("url", Some("uri"));
        check("scaleToZero", None);
        check("replicas", None);
        check("x", None);
        check("", None);
        check(&"m".repeat(100_000), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_for_equals(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
