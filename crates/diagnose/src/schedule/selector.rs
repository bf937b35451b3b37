//! Label selectors with their operators.

use serde_json::Value;

use crate::view::{list, text};

/// Whether labels meet one expression. An operator that nobody knows is not met.
pub(super) fn meets(expression: &Value, label: Option<&str>) -> bool {
    let values = list(expression, "/values");
    let is_among = |found: &str| values.iter().any(|value| value.as_str() == Some(found));
    match text(expression, "/operator") {
        "In" => label.is_some_and(is_among),
        "NotIn" => !label.is_some_and(is_among),
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        operator @ ("Gt" | "Lt") => {
            let number = |text: Option<&str>| text?.parse::<i64>().ok();
            let bound = number(values.first().and_then(Value::as_str));
            match (number(label), bound) {
                (Some(has), Some(bound)) => {
                    if operator == "Gt" {
                        has > bound
                    } else {
                        has < bound
                    }
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// `matchLabels` and `matchExpressions`. None selects nothing, an empty one everything.
pub(crate) fn selects<'a>(
    selector: Option<&Value>,
    label: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let Some(selector) = selector.filter(|it| it.is_object()) else { return false };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    labels.into_iter().flatten().all(|(key, value)| label(key) == value.as_str())
        && list(selector, "/matchExpressions").iter().all(|it| meets(it, label(text(it, "/key"))))
}

/// An expression in words: `gpu in (a, b)`.
pub(super) fn words(expression: &Value) -> String {
    let key = text(expression, "/key");
    let values: Vec<&str> = list(expression, "/values").iter().filter_map(Value::as_str).collect();
    let values = values.join(", ");
    match text(expression, "/operator") {
        "In" => format!("`{key}` in ({values})"),
        "NotIn" => format!("`{key}` not in ({values})"),
        "Exists" => format!("`{key}` exists"),
        "DoesNotExist" => format!("`{key}` does not exist"),
        "Gt" => format!("`{key}` > {values}"),
        "Lt" => format!("`{key}` < {values}"),
        other => format!("`{key}` {other} ({values})"),
    }
}

#[test]
fn operators() {
    use serde_json::json;
    let check = |operator: &str, values: &[&str], label: Option<&str>, expected: bool| {
        let expression = json!({"key": "k", "operator": operator, "values": values});
        assert_eq!(meets(&expression, label), expected, "{expression} {label:?}");
    };
    check("In", &["a", "b"], Some("a"), true);
    check("In", &["a"], None, false);
    check("NotIn", &["a"], None, true);
    check("NotIn", &["a"], Some("a"), false);
    check("Exists", &[], Some(""), true);
    check("DoesNotExist", &[], None, true);
    check("Gt", &["4"], Some("8"), true);
    check("Lt", &["4"], Some("8"), false);
    check("Gt", &["4"], Some("x"), false);
    check("Like", &["a"], Some("a"), false);
}
