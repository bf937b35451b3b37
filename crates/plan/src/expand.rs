//! `$(NAME)` in arguments and environment variables, as Kubernetes expands it.

/// Replaces each `$(NAME)` by what `lookup` has for `NAME`, and `$$` by `$`.
///
/// A reference to an unknown name stays as it is, and so does every other dollar sign: these are
/// the rules of a container's `command`, `args` and `env` (Kubernetes,
/// `third_party/forked/golang/expansion`). The result is not expanded again.
pub fn expand(text: &str, mut lookup: impl FnMut(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        match after.strip_prefix('(').and_then(|open| open.split_once(')')) {
            Some((name, tail)) => {
                match lookup(name) {
                    Some(value) => expanded.push_str(&value),
                    None => expanded.extend(["$(", name, ")"]),
                }
                rest = tail;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "TWICE" => Some("$(PORT)".to_owned()),
            "" => Some("nobody".to_owned()),
            _ => None,
        };
        assert_eq!(expand(text, lookup), expected);
    }

    #[test]
    fn table() {
        check("--port=$(PORT)", "--port=8080");
        check("$(PORT)$(PORT)", "80808080");
        check("$$(PORT)", "$(PORT)");
        check("$$$(PORT)", "$8080");
        check("$(UNKNOWN)", "$(UNKNOWN)");
        check("$(TWICE)", "$(PORT)");
        check("$PORT ${PORT}", "$PORT ${PORT}");
        check("$(PORT", "$(PORT");
        check("$", "$");
        check("$$", "$");
        check("", "");
    }

    proptest! {
        #[test]
        fn a_literal_stays_itself(text in "[$()a-z]{0,20}|\\PC{0,20}") {
            let Value::Text(literal) = Value::literal(&text) else { unreachable!() };
            prop_assert_eq!(expand(&literal, |_| Some("x".into())), text);
        }
    }
}
