//! `${name}` in the texts of runs and environments. Pure.
//!
//! A name without a value is refused, never handed on as it stands: nobody means the letters `${git_sha}`.
//! `$${` stands for `${` itself, and `${{ ... }}` belongs to others (GitHub, Railway) and stays.

use std::collections::BTreeMap;

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, behind) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            all.extend([Piece::Text(before), Piece::Text("${")]);
            rest = behind;
            continue;
        }
        all.push(Piece::Text(before));
        match behind.split_once('}').filter(|(name, _)| !name.is_empty() && name.chars().all(is_part)) {
            Some((name, after)) => {
                all.push(Piece::Name(name));
                rest = after;
            }
            None => {
                all.push(Piece::Text("${"));
                rest = behind;
            }
        }
    }
    all.push(Piece::Text(rest));
    all
}

/// Why this text cannot be filled in: its first name that is not among the known ones.
pub fn unknown(text: &str, known: &[&str]) -> Option<String> {
    pieces(text).into_iter().find_map(|piece| match piece {
        Piece::Name(name) if !known.contains(&name) => {
            let known: Vec<String> = known.iter().map(|name| format!("${{{name}}}")).collect();
            Some(format!(
                "has ${{{name}}}, which has no value here: there are {} ($${{ stands for ${{ itself)",
                known.join(", ")
            ))
        }
        _ => None,
    })
}

/// The text with every name replaced once, each value as a whole.
pub fn filled(text: &str, values: &BTreeMap<&str, String>) -> Result<String, String> {
    let known: Vec<&str> = values.keys().copied().collect();
    if let Some(why) = unknown(text, &known) {
        // Not the text itself, which may be a secret.
        return Err(format!("a text of this phase {why}"));
    }
    let of = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Name(name) => values.get(name).map_or("", String::as_str),
    };
    Ok(pieces(text).into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_once_and_what_is_others_stays() {
        let values = BTreeMap::from([("a", "${b}".to_owned()), ("b", "x".to_owned())]);
        for (text, whole) in [
            ("nothing", "nothing"),
            ("${a}-${b}-${", "${b}-x-${"),
            ("${{ github.sha }} $${b} ${}", "${{ github.sha }} ${b} ${}"),
            ("ä${b}ü$", "äxü$"),
        ] {
            assert_eq!(filled(text, &values).as_deref(), Ok(whole));
        }
    }

    #[test]
    fn a_name_without_a_value_is_refused_with_those_that_have_one() {
        let values = BTreeMap::from([("run_id", "run-1".to_owned())]);
        assert_eq!(
            filled("--commit=${git_sha}", &values),
            Err("a text of this phase has ${git_sha}, which has no value here: there are ${run_id} \
                 ($${ stands for ${ itself)"
                .to_owned())
        );
    }
}
