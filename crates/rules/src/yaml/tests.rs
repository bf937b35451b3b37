use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Documents {
    Documents::read(vec![Source { name: "a.yaml".into(), text: text.into() }])
}

#[track_caller]
fn errors(text: &str, expected: &[(usize, usize, &str)], documents: usize) {
    let read = read(text);
    let found: Vec<(usize, usize, &str)> =
        read.errors.iter().map(|e| (e.line, e.column, e.message.as_str())).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (expected.0, expected.1), "{found:?}");
        assert!(found.2.contains(expected.2), "{found:?}");
    }
    assert_eq!(read.roots().count(), documents);
}

#[test]
fn a_broken_document_costs_no_other() {
    errors("a: 1\n---\nb: [\n---\nc: 3\n", &[(3, 4, "not YAML")], 2);
    errors("a: 1\n---\nb:\n\tc: 1\n---\nd: 3\n", &[(4, 2, "not YAML")], 2);
    errors("---\n---\n# nothing\n---\na: 1\n", &[], 1);
}

#[test]
fn templates_are_told_as_such() {
    errors("a: {{ .Values.x }}\n", &[(1, 4, "Helm template")], 0);
    errors("{{- if .Values.on }}\na: 1\n{{- end }}\n", &[(1, 1, "Helm template")], 0);
    errors("a: {{ x }}\n", &[(1, 4, "Go template")], 0);
    errors("{% if x %}\na: 1\n{% endif %}\n", &[(1, 1, "Jinja")], 0);
    // In quotes it is a text, as in Argo's workflows.
    errors("a: '{{ x }}'\n", &[], 1);
}

#[test]
fn keys_that_are_there_twice_are_told_and_the_last_counts() {
    errors("a: 1\nb: 2\na: 3\n", &[(3, 1, "first in line 1")], 1);
    let text = "a: 1\nb: 2\na: 3\n";
    assert_eq!(read(text).roots().next().unwrap().get("a").int(), Some(3));
    let many: String = (0..50).map(|n| format!("k{}: 1\n", n % 40)).collect();
    assert_eq!(read(&many).errors.len(), 10);
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let read = read("base: &b {x: 1, y: 2}\na:\n  <<: *b\n  y: 3\nc: *b\n");
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    let root = read.roots().next().unwrap();
    assert_eq!(root.path("a.x").int(), Some(1));
    assert_eq!(root.path("a.y").int(), Some(3));
    assert_eq!(root.path("a.<<").int(), None);
    assert_eq!(root.path("c.y").int(), Some(2));
}

#[test]
fn many_documents_are_read_as_each_of_them() {
    let mut text = String::new();
    for n in 0..3000 {
        if n % 700 == 699 {
            text.push_str("---\nb: [\n\n\n");
        } else {
            writeln!(text, "---\na: &a {{x: {n}}}\nb: *a\nc: \"\\t{n}\"\nd: [1, {n}]").unwrap();
        }
    }
    let read = read(&text);
    let broken: Vec<usize> = read.errors.iter().map(|error| error.line).collect();
    assert_eq!(broken.len(), 4, "{:?}", read.errors);
    for (line, n) in broken.iter().zip([699, 1399, 2099, 2799]) {
        // Whole documents have five lines, broken ones four.
        let before = n * 5 - n / 700;
        assert!((1..=4).contains(&(line - before)), "{line} in document {n}");
    }
    let whole = (0..3000).filter(|n| n % 700 != 699);
    assert_eq!(read.roots().count(), whole.clone().count());
    for (root, n) in read.roots().zip(whole) {
        assert_eq!(root.path("b.x").int(), Some(n));
        assert_eq!(root.get("c").str(), format!("\t{n}"));
        assert_eq!(root.get("d").items().last().and_then(|item| item.int()), Some(n));
        assert_eq!(root.path("a.x").path_text(), "a.x");
    }
}

#[test]
fn bombs_do_not_go_off() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let before = format!("*a{}", n - 1);
        let list = vec![before; 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    errors(&bomb, &[(7, 15, "aliases stand for more nodes")], 0);
    errors("a: &a [*a]\n", &[(1, 8, "alias inside")], 0);
    assert_eq!(read(&"[".repeat(200_000)).errors.len(), 1);
    assert_eq!(read(&"{a: ".repeat(200_000)).errors.len(), 1);
    assert_eq!(read(&"- ".repeat(100_000)).errors.len(), 1);
}

#[test]
fn every_part_knows_its_place() {
    let read = read(
        "# c\nspec:\n  \"k\": 'v é' # x\n  list:\n  - a: |\n      two\n      lines\n    é: x\n",
    );
    let file = &read.files[0];
    let root = read.roots().next().unwrap();
    let value = root.path("spec.k");
    assert_eq!(value.text(), Some("v é"));
    assert_eq!(file.place(value.place().start), Place { line: 3, column: 8 });
    assert_eq!(file.slice(value.key_span().unwrap()), "\"k\"");
    assert_eq!(value.key(), "k");
    let item = root.path("spec.list").item(0);
    assert_eq!(item.get("a").text(), Some("two\nlines\n"));
    assert_eq!(item.get("a").path_text(), "spec.list[0].a");
    assert_eq!(file.place(item.place().start), Place { line: 5, column: 5 });
    assert_eq!(file.place(item.get("é").place().start), Place { line: 8, column: 8 });
    // What is missing points to what lacks it.
    let missing = root.path("spec.no.such");
    assert!(!missing.exists());
    assert_eq!(file.place(missing.place().start), Place { line: 2, column: 1 });
    assert_eq!(file.place(item.get("a").find("lines").start), Place { line: 7, column: 7 });
}

#[test]
fn scalars_mean_what_they_mean_to_kubernetes() {
    let read = read("a: yes\nb: 'yes'\nc: 017\nd: ~\ne: \"\"\nf: 8Gi\ng: 1h30m\nh: !!str 5\n");
    let root = read.roots().next().unwrap();
    assert_eq!(root.get("a").bool(), Some(true));
    assert_eq!((root.get("b").bool(), root.get("b").text()), (None, Some("yes")));
    assert_eq!(root.get("c").int(), Some(15));
    assert!(root.get("d").exists() && !root.get("d").is_set());
    assert!(root.get("e").is_set());
    assert_eq!(root.get("f").quantity().map(|q| q.units()), Some(8 << 30));
    assert_eq!(root.get("g").duration(), Some(5400.0));
    assert_eq!((root.get("h").int(), root.get("h").text()), (None, Some("5")));
}

#[test]
fn json_is_read_too() {
    let read = read("{\n\t\"a\": {\"b\": [1, \"x\\ny\"]}\n}\n");
    assert!(read.errors.is_empty(), "{:?}", read.errors);
    let root = read.roots().next().unwrap();
    assert_eq!(root.path("a.b").item(1).text(), Some("x\ny"));
}

#[test]
fn other_bytes_are_refused_with_their_place() {
    let error = Source::from_bytes("a", b"x: 1\ny: \xff\n".to_vec()).unwrap_err();
    assert_eq!((error.line, error.column), (2, 4));
    let bom = Source::from_bytes("a", b"\xef\xbb\xbfa: 1\n".to_vec()).unwrap();
    assert_eq!(Documents::read(vec![bom]).roots().next().unwrap().get("a").int(), Some(1));
}

/// A value that can be written as YAML in any style.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        "[a-zA-Zäß# :'\"{}\\[\\],&*!|>%@`\\n-]{0,12}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|map| { serde_json::Value::Object(map.into_iter().collect()) }),
        ]
    })
}

#[track_caller]
fn same(node: Node<'_>, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            assert!(node.is_map());
            assert_eq!(node.len(), map.len());
            for (key, value) in map {
                same(node.get(key), value);
            }
        }
        serde_json::Value::Array(items) => {
            assert!(node.is_list());
            assert_eq!(node.len(), items.len());
            for (node, value) in node.items().zip(items) {
                same(node, value);
            }
        }
        serde_json::Value::String(text) => assert_eq!(node.text(), Some(text.as_str())),
        serde_json::Value::Bool(value) => assert_eq!(node.bool(), Some(*value)),
        serde_json::Value::Number(number) => assert_eq!(node.int(), number.as_i64()),
        serde_json::Value::Null => assert!(node.is_null()),
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(value in value()) {
        // Compact and indented JSON are YAML in flow style.
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let read = read(&text);
            prop_assert!(read.errors.is_empty(), "{:?}\n{}", read.errors, text);
            same(read.roots().next().unwrap(), &value);
        }
    }

    #[test]
    fn places_lie_in_the_text(text in "([a-z:#&*{}\\[\\]|>'\" \\-\\n]|ä|---\\n){0,80}") {
        let read = read(&text);
        let file = &read.files[0];
        for raw in &file.nodes {
            prop_assert!(raw.span.end as usize <= file.text.len());
            prop_assert!(file.text.is_char_boundary(raw.span.start as usize), "{:?}", raw);
            let _ = file.place(raw.span.start);
        }
        for error in &read.errors {
            prop_assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1);
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,200}") {
        let documents = read(&text);
        let _ = crate::lint(&documents, &crate::Settings::default());
    }
}

#[test]
fn columns_of_a_long_line_are_those_that_counting_gives() {
    let text = format!("a: {}b", "äx€".repeat(6000));
    let read = read(&text);
    let file = &read.files[0];
    let mut byte = 0;
    for (at, character) in text.chars().enumerate() {
        if at % 97 == 0 || byte + 9 > text.len() {
            let place = Place { line: 1, column: at + 1 };
            assert_eq!(file.place(byte as u32), place, "byte {byte}");
        }
        byte += character.len_utf8();
    }
    assert_eq!(file.place(byte as u32), Place { line: 1, column: 18_005 });
}
