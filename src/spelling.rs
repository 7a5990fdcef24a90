//! Which known name was probably meant by one that is not known. Pure; refuses to guess from afar.

/// Of names shorter than this, one edit makes another word as well as a misspelt one.
const SHORT: usize = 6;

/// The known name that differs from this one by a slip of the fingers, or only in its capitals.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let near = |ours: &&str| {
        let away = distance(&lower, ours);
        *ours != name && away <= if ours.len() < SHORT { 1 } else { 2 }
    };
    known.iter().copied().filter(near).min_by_key(|ours| distance(&lower, ours))
}

/// Edits between two names: insert, delete, replace, swap neighbours.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let ours = ["build", "deploy", "smoke", "artifacts", "phases"];
        for (slip, meant) in
            [("smokee", "smoke"), ("phase", "phases"), ("Phases", "phases"), ("artefacts", "artifacts")]
        {
            assert_eq!(nearest(slip, &ours), Some(meant));
        }
        for other in ["by", "note", "phases", "deploy", "ticket", "stake", ""] {
            assert_eq!(nearest(other, &ours), None, "{other}");
        }
    }
}
