//! Which documents of a YAML file are ours: a folder of manifests holds other people's too.

/// A file's documents by whom they are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sorted {
    /// The text with every document that is not ours blanked out, so that places stay what they are.
    pub(super) ours: String,
    pub(super) has_ours: bool,
    pub(super) secrets: Vec<SecretDocument>,
    /// Resources of others, such as "apps/v1 Deployment".
    pub(super) foreign: Vec<String>,
}

/// A `Secret`, whose text no message may quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretDocument {
    pub(super) text: String,
    /// Its first line in the file, from 1.
    pub(super) line: usize,
}

/// Sorts the documents of a text. A document that is no resource at all is ours only in a file that
/// was named (`must_be_ours`): there it is a mistake.
pub(super) fn sort(text: &str, must_be_ours: bool) -> Sorted {
    let mut sorted = Sorted::default();
    for (line, document) in split(text) {
        let top = |key: &str| top_level(document, key);
        let (version, kind) = (top("apiVersion"), top("kind"));
        let is_json = document.trim_start().starts_with('{');
        let is_blank = document.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line.starts_with("---")
        });
        let ours = match (version, kind) {
            _ if is_blank => false,
            _ if is_json => true,
            (Some("v1"), Some("Secret")) => {
                sorted.secrets.push(SecretDocument { text: document.to_owned(), line });
                false
            }
            (Some(version), Some(kind))
                if !version.starts_with("trainyard.dev")
                    && !matches!(kind, "ModelService" | "TrainingJob") =>
            {
                sorted.foreign.push(format!("{version} {kind}"));
                false
            }
            (None, None) => must_be_ours || top("spec").is_some(),
            _ => true,
        };
        if ours {
            sorted.has_ours = true;
            sorted.ours.push_str(document);
        } else {
            // A space for each byte keeps lines, columns and offsets of what follows.
            let kept = if document.starts_with("---") { "---" } else { "" };
            let rest = document.get(kept.len()..).unwrap_or_default();
            sorted.ours.push_str(kept);
            sorted.ours.extend(rest.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
    }
    sorted
}

/// Documents with the number of their first line; each begins with its `---`, if it has one.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let begins = line.trim_end() == "---" || line.starts_with("--- ");
        if begins && at > start {
            documents.push((first_line, &text[start..at]));
            (start, first_line) = (at, index + 1);
        }
        at += line.len();
    }
    if at > start {
        documents.push((first_line, &text[start..at]));
    }
    documents
}

/// The plain value of a key at the left margin; `""` if it is a mapping or a list.
fn top_level<'a>(document: &'a str, key: &str) -> Option<&'a str> {
    document.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.trim_start().strip_prefix(':')?;
        let value = value.split(" #").next().unwrap_or_default().trim();
        Some(value.trim_matches(['"', '\'']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "\
# A comment
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {alice: hidden}
---
apiVersion: trainyard.dev/v1alpha1
kind: ModelService
metadata: {name: iris}
---
apiVersion: apps/v1
kind: Deployment
---
name: übrig
";

    #[test]
    fn documents_are_told_apart_and_places_stay() {
        let sorted = sort(MIXED, false);
        assert!(sorted.has_ours);
        assert_eq!(sorted.foreign, ["apps/v1 Deployment"]);
        assert_eq!(sorted.secrets.len(), 1);
        assert_eq!(sorted.secrets[0].line, 1);
        assert!(!sorted.ours.contains("hidden") && !sorted.ours.contains("Deployment"));
        assert_eq!(sorted.ours.len(), MIXED.len());
        assert_eq!(sorted.ours.find("kind: ModelService"), MIXED.find("kind: ModelService"));
        assert_eq!(sorted.ours.lines().count(), MIXED.lines().count());
    }

    #[track_caller]
    fn check(text: &str, named: bool, ours: bool) {
        assert_eq!(sort(text, named).has_ours, ours, "{text}");
    }

    #[test]
    fn whose_it_is() {
        check("services: {web: {image: nginx}}", false, false);
        check("services: {web: {image: nginx}}", true, true);
        check("apiVersoin: trainyard.dev/v1alpha1\nkind: ModelService", false, true);
        check("apiVersion: trainyard.dev/v1alpha1\nkind: ModelServce", false, true);
        check("kind: ModelService", false, true);
        check("spec:\n  model: {}", false, true);
        check("apiVersion: 'v1'\nkind: \"Secret\"", false, false);
        check("{\"kind\": \"ModelService\"}", false, true);
        check("", true, false);
        check("# nothing\n---\n", true, false);
    }
}
