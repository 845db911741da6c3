//! Patterns as Redis matches names with them: `*`, `?`, `[a-z]`, `[^a]`, and `\` before what stands for itself.

/// Whether the pattern covers the whole name. Linear in each star's share of the name; no pattern makes it explode.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // What follows the last star, and the part of the name that it does not cover yet.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            star = Some((rest, name));
            pattern = rest;
            continue;
        }
        match (one(pattern, name.first().copied()), name) {
            (Some(rest), [_, tail @ ..]) => (pattern, name) = (rest, tail),
            _ if pattern.is_empty() && name.is_empty() => return true,
            // Give the star one byte more.
            _ => match star {
                Some((rest, [_, tail @ ..])) => {
                    star = Some((rest, tail));
                    (pattern, name) = (rest, tail);
                }
                Some((_, [])) | None => return false,
            },
        }
    }
}

/// Matches the pattern's first element, no star, against one byte; what follows it.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<&[u8]> {
    let byte = byte?;
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => {
            let (matched, rest) = in_class(class, byte);
            matched.then_some(rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Whether the byte is in the class whose inside starts here, and what follows the class. One that never ends takes all.
fn in_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    loop {
        class = match class {
            [] => return (found != negated, class),
            [b']', rest @ ..] => return (found != negated, rest),
            [b'\\', literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, name, covers) in [
            ("*", "save", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("max*", "maxmemory", true),
            ("max*s", "maxclients", true),
            ("*m*y", "maxmemory", true),
            ("**", "x", true),
            ("max?emory", "maxmemory", true),
            ("max", "maxmemory", false),
            ("maxmemory?", "maxmemory", false),
            ("*x", "save", false),
            ("s[ae]ss:[0-9]*", "sess:42", true),
            ("s[^e]ss", "sess", false),
            ("s[^a]ss", "sess", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[a", "a", true),
            ("[\\]]", "]", true),
            ("*[0-9]x", "12x", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), covers, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_are_no_attack() {
        let (pattern, name) = (b"*a".repeat(1000), b"a".repeat(20_000));
        assert!(matches(&pattern, &name));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &name));
    }
}
