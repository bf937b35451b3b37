//! Takes out of objects what must not leave a cluster, and what only makes them longer.

use serde_json::{Map, Value, json};

/// In place of what was taken out.
pub const MASK: &str = "[redacted]";

/// Parts of names whose values are secrets.
const SECRET_WORDS: [&str; 11] = [
    "token",
    "password",
    "passwd",
    "secret",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "private",
    "access_key",
    "auth",
];

/// Whether a name says that its value is a secret.
#[must_use]
pub fn is_secret_like(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
        || lower.ends_with("_key")
        || lower.ends_with("-key")
}

/// Redacts one object in place: of a Secret only its type and keys stay, of a ConfigMap its keys;
/// values of environment variables and arguments whose names say that they are secrets are masked;
/// managed fields and the copies that tools keep in annotations are dropped.
pub fn object(object: &mut Value) {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("selfLink");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.ends_with("last-applied-configuration"));
            mask_map(annotations);
        }
    }
    match kind.as_str() {
        // All but a list of what may stay: what Kubernetes adds tomorrow is left out too.
        "Secret" => {
            fields.retain(|key, _| {
                ["apiVersion", "kind", "metadata", "type", "data"].contains(&key.as_str())
            });
            keys_only(fields, "data");
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|key, _| {
                    ["name", "namespace", "uid", "creationTimestamp", "ownerReferences"]
                        .contains(&key.as_str())
                });
            }
        }
        "ConfigMap" => {
            keys_only(fields, "data");
            keys_only(fields, "binaryData");
        }
        "Node" => {
            // A list of all images, which no diagnosis reads.
            if let Some(status) = fields.get_mut("status").and_then(Value::as_object_mut) {
                status.remove("images");
            }
        }
        _ => {}
    }
    for (key, value) in fields.iter_mut() {
        if key != "metadata" && kind != "Secret" {
            walk(value);
        }
    }
}

/// Masks what looks like a secret in a line of a log.
#[must_use]
pub fn line(line: &str) -> String {
    words(line)
}

fn keys_only(fields: &mut Map<String, Value>, name: &str) {
    if let Some(data) = fields.get_mut(name).and_then(Value::as_object_mut) {
        data.values_mut().for_each(|value| *value = json!(MASK));
    } else {
        fields.remove(name);
    }
}

fn mask_map(map: &mut Map<String, Value>) {
    for (key, value) in map.iter_mut() {
        if is_secret_like(key) && value.is_string() {
            *value = json!(MASK);
        } else if let Value::String(text) = value {
            *text = words(text);
        }
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Array(items) => {
            let texts = items.iter().filter(|item| item.is_string()).count();
            if texts == items.len() {
                arguments(items);
            } else {
                items.iter_mut().for_each(walk);
            }
        }
        Value::Object(fields) => {
            let named = fields.get("name").and_then(Value::as_str).is_some_and(is_secret_like);
            if named && fields.get("value").is_some_and(Value::is_string) {
                fields.insert("value".to_owned(), json!(MASK));
            }
            for (key, value) in fields.iter_mut() {
                // Names of Secrets, and of keys in them, are what diagnoses name.
                let is_value = value.is_string() && is_secret_like(key) && !is_reference(key);
                if is_value {
                    *value = json!(MASK);
                } else {
                    walk(value);
                }
            }
        }
        Value::String(text) => *text = words(text),
        _ => {}
    }
}

/// Fields of Kubernetes that name a Secret or say something about one.
fn is_reference(key: &str) -> bool {
    key.ends_with("Name") || key.ends_with("Secret") || key.ends_with("Ref")
}

/// `--token=x` and `--token`, `x`.
fn arguments(items: &mut [Value]) {
    let mut mask_next = false;
    for item in items {
        let Value::String(text) = item else { continue };
        if mask_next && !text.starts_with('-') {
            *text = MASK.to_owned();
            mask_next = false;
            continue;
        }
        mask_next = text.starts_with('-') && !text.contains('=') && is_secret_like(text);
        *text = words(text);
    }
}

/// Prefixes of tokens that services hand out, with the least length of the whole.
const TOKENS: [(&str, usize); 10] = [
    ("hf_", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("sk-", 20),
    ("xoxb-", 20),
    ("AKIA", 20),
    ("eyJ", 40),
    ("nvapi-", 20),
];

/// Masks words that are `NAME=VALUE` or `NAME: VALUE` of a secret, credentials in addresses, and
/// tokens by their shape.
fn words(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut after_name = false;
    for piece in text.split_inclusive(|c: char| c.is_whitespace()) {
        let word = piece.trim_end();
        let (blank, bare) =
            (&piece[word.len()..], word.trim_matches(['"', '\'', ',', ';', '}', '{', '(', ')']));
        if after_name && !bare.is_empty() {
            // `Authorization: Bearer x` has the word in between.
            if bare.eq_ignore_ascii_case("bearer") || bare.eq_ignore_ascii_case("basic") {
                result.push_str(word);
            } else {
                result.push_str(MASK);
                after_name = false;
            }
        } else {
            let (masked, next) = word_of(word, bare);
            result.push_str(&masked);
            after_name = next;
        }
        result.push_str(blank);
    }
    result
}

/// A word as it may be shown, and whether the next one is a secret.
fn word_of(word: &str, bare: &str) -> (String, bool) {
    let is_token = |part: &str| {
        let part = part.trim_matches(['"', '\'', ',', ';', ')', '(', '}', '{']);
        TOKENS.iter().any(|(prefix, least)| part.starts_with(prefix) && part.len() >= *least)
    };
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
        && (is_secret_like(name.rsplit(['?', '&']).next().unwrap_or(name)) || is_token(value))
    {
        return (format!("{name}={MASK}"), false);
    }
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((login, host)) = rest.split_once('@')
        && !login.contains('/')
    {
        return (format!("{scheme}://{MASK}@{host}"), false);
    }
    if is_token(word) {
        return (MASK.to_owned(), false);
    }
    // `password: x`; a name alone is a plain word, such as the name of a Secret.
    let next = bare.eq_ignore_ascii_case("bearer")
        || word.strip_suffix(':').is_some_and(|name| {
            let name = name.trim_matches(['"', '\'', '{', ',']);
            let lower = name.to_ascii_lowercase();
            ["password", "token", "authorization", "api_key", "apikey", "secret_key", "access_key"]
                .iter()
                .any(|it| lower == *it || lower.ends_with(&format!("_{it}")))
        });
    (word.to_owned(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_only_its_keys_stay() {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "hf", "annotations": {"a": "never"}, "labels": {"b": "never"}},
            "data": {"token": "bmV2ZXI="}, "stringData": {"token": "never"}, "other": "never",
        });
        object(&mut secret);
        assert_eq!(
            secret,
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "hf"},
                "data": {"token": MASK},
            })
        );
    }

    #[test]
    fn secrets_in_other_objects_are_masked() {
        let mut pod = json!({
            "kind": "Pod",
            "metadata": {"name": "a", "managedFields": [{}], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "never", "team": "x",
                "vault.io/auth-token": "never",
            }},
            "spec": {"containers": [{
                "env": [
                    {"name": "HF_TOKEN", "value": "never"},
                    {"name": "AWS_SECRET_ACCESS_KEY", "value": "never"},
                    {"name": "LEVEL", "value": "debug"},
                    {"name": "DATABASE", "value": "postgres://user:never@db/x"},
                    {"name": "TOKEN_FROM", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
                ],
                "args": ["--api-key", "never", "--token=never", "--model", "a/b", "export PASSWORD=never; run"],
            }]},
            "status": {"message": "Authorization: Bearer never said no to hf_neverneverneverneverx"},
        });
        object(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains("never"), "{text}");
        for kept in [
            "debug",
            "a/b",
            "secretKeyRef",
            "\"name\":\"hf\"",
            "\"key\":\"token\"",
            "run",
            "said no",
        ] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
        assert!(pod["metadata"].get("managedFields").is_none());
        let mut map = json!({"kind": "ConfigMap", "data": {"a": "never"}, "binaryData": 3});
        object(&mut map);
        assert_eq!(map, json!({"kind": "ConfigMap", "data": {"a": MASK}}));
    }

    #[test]
    fn lines_stay_readable() {
        let check = |text: &str, expected: &str| assert_eq!(line(text), expected);
        check("loading model a/b  with token budget: 5", "loading model a/b  with token budget: 5");
        check("password: x y", "password: [redacted] y");
        check("GET https://h/p?token=abc 200", "GET https://h/p?token=[redacted] 200");
        check("secret \"hf-token\" not found", "secret \"hf-token\" not found");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = line(&text);
        }

        /// Whatever shape a Secret has, none of its texts gets out.
        #[test]
        fn no_value_of_a_secret_gets_out(key in "[a-z]{1,12}", inner in "[a-z]{1,12}") {
            let marker = "0123456789-value";
            let mut secret = json!({"kind": "Secret", "data": {&inner: marker}});
            let fields = secret.as_object_mut().unwrap();
            if !["kind", "type", "metadata"].contains(&key.as_str()) {
                fields.insert(key, json!({&inner: [marker, {&inner: marker}]}));
            }
            object(&mut secret);
            proptest::prop_assert!(!secret.to_string().contains(marker), "{}", secret);
        }
    }
}
