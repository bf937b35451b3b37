//! What an API server takes of a scalar is what the reader takes.

use kube::core::cel::{compile_schema, validate_compiled};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::*;

/// What a rule says of texts: the interpreter here cannot ask for a type, and what an API server does
/// with whole numbers is asked of one in `tests/cluster/test_admission.py`.
fn of_text(rule: &str) -> &str {
    if let Some(or) = rule.strip_prefix("type(self) == int || ") {
        return or;
    }
    let branches = rule.strip_prefix("type(self) == int ? ");
    branches.and_then(|branches| branches.split_once(" : ")).map_or(rule, |(_, text)| text)
}

/// What a schema says of a text, as an API server reads it.
fn schema_takes(kind: &ScalarKind, text: &str) -> bool {
    let rule = |(rule, message): &(&str, &str)| json!({"rule": of_text(rule), "message": message});
    let rules: Vec<Value> = kind.rules.iter().map(rule).collect();
    let schema = json!({"type": "string", "x-kubernetes-validations": rules});
    let is_shaped = Regex::new(kind.pattern).is_ok_and(|pattern| pattern.is_match(text))
        && text.chars().count() as u64 <= kind.longest;
    let rules = compile_schema(&schema);
    assert!(!rules.has_errors(), "{}: {:?}", kind.name, rules.compilation_errors());
    is_shaped && validate_compiled(&rules, &Value::String(text.to_owned()), None).is_ok()
}

/// What the reader says of it.
fn reader_takes(kind: &ScalarKind, text: &str) -> bool {
    text.chars().count() as u64 <= kind.longest && (kind.check)(text).is_ok()
}

#[track_caller]
fn agree(kind: &ScalarKind, text: &str) {
    let (reader, schema) = (reader_takes(kind, text), schema_takes(kind, text));
    assert_eq!(reader, schema, "{} `{text}`: reader {reader}, schema {schema}", kind.name);
}

#[test]
fn table() {
    for text in [
        "file:///m",
        "file://localhost/m",
        "file://localhost",
        "file://.",
        "file://..m",
        "file://m",
        "file://./m",
        "pvc://a",
        "pvc://a/../b",
        "pvc://a/..",
        "pvc://a/..b",
        "pvc://../b",
        "s3://",
        "s3://a b",
        "s3://a/b c",
        "s3://-a",
        "gs://a_b/",
        "az://a:b",
        "https://h",
        "https://h/",
        "https://h/p",
        "https://u@h/p",
        "https://h/p@q",
        "https://h/p q",
        "https://h/p\u{a0}q",
        "https:///p",
        "oci://h/r:t",
        "oci://h",
        "oci://h/",
        "oci:///r",
        "oci://h/r@sha256:0",
        "mlflow://models/m",
        "mlflow://models/m@",
        "mlflow://models/m@a:b",
        "mlflow://models/m@a@b",
        "mlflow://models/m/1",
        "mlflow://models/m/x",
        "mlflow://models/a/b@c",
        "mlflow://models//1",
        "mlflow://models/m/18446744073709551615",
        "http://h/p",
        "S3://a",
        "/m",
        "",
        "s3://a\u{85}",
    ] {
        agree(&uri::KIND, text);
    }
    for text in ["0", "1s", "1h30m", "1.s", ".5ms", "1", "-1s", "2 s", "1d", ""] {
        agree(&duration::KIND, text);
    }
    for text in ["1/4", "4/4", "5/4", "0/4", "1/0", "01/04", "1/65536", "65535/65535", "1", "1/2/3"]
    {
        agree(&share::KIND, text);
    }
    for text in ["70%", "0%", "9999%", "10000%", "1.2345%", "1.23456%", "70", "%", "1.%"] {
        agree(&percent::KIND, text);
    }
    for text in
        ["1", "500m", "0.5", "1e3", "1M", "1000001", "1Ei", "0", "0.0", "-1", "two", "1.2.3", ""]
    {
        agree(&quantity::CPU_KIND, text);
    }
    for text in [
        "8Gi", "1.5Gi", "1e9", "1Ei", "2Ei", "100m", "1000m", "1u", "1.5", "1.0", "0", "0Ki",
        "8GB", "-1", "",
    ] {
        agree(&quantity::BYTES_KIND, text);
    }
    // Longer than either takes.
    let long = |start: &str| format!("{start}{}", "1".repeat(2100));
    agree(&uri::KIND, &long("s3://m/"));
    agree(&quantity::CPU_KIND, &long("0."));
}

proptest! {
    #[test]
    fn places_of_models(
        scheme in "file|pvc|s3|gs|az|https|oci|mlflow|http|S3",
        rest in "(models/)?[a-z0-9./@:_ %?-]{0,20}|\\PC{0,10}|\\.{0,3}/?\\.{0,3}",
    ) {
        agree(&uri::KIND, &format!("{scheme}://{rest}"));
    }

    #[test]
    fn shares(text in "[0-9]{0,6}/[0-9]{0,6}|[0-9/]{0,8}") {
        agree(&share::KIND, &text);
    }

    #[test]
    fn percentages(text in "[0-9]{0,5}(\\.[0-9]{0,5})?%?") {
        agree(&percent::KIND, &text);
    }
}
