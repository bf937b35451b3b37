//! The JSON form of a configuration, as clients of the model repository API send it.

use serde_json::{Map, Value};

use super::did_you_mean;
use super::fields::{Field, Kind, MODEL_CONFIG, MapKey, Shape};
use super::pbtxt::json_number;
use super::place::Origin;

/// Reads JSON: the form with the message's own field names, problems and warnings.
///
/// As protocol buffers have it, names may also be in camel case, numbers may be strings, and an
/// enumeration's value may be its number.
pub(super) fn read(text: &str) -> (Origin, Map<String, Value>, Vec<String>, Vec<String>) {
    let origin = Origin::new("config");
    let mut reader = Reader { origin, problems: Vec::new(), warnings: Vec::new() };
    let value = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => reader.message(object, MODEL_CONFIG, ""),
        Ok(_) => {
            reader.problems.push(reader.origin.whole(&"expected a JSON object"));
            Map::new()
        }
        Err(error) => {
            reader.problems.push(reader.origin.whole(&format!("not valid JSON: {error}")));
            Map::new()
        }
    };
    (reader.origin, value, reader.problems, reader.warnings)
}

struct Reader {
    origin: Origin,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Reader {
    fn message(
        &mut self,
        object: Map<String, Value>,
        fields: &'static [Field],
        path: &str,
    ) -> Map<String, Value> {
        let mut message = Map::new();
        let mut chosen: Vec<(&str, &str)> = Vec::new();
        for (name, value) in object {
            if value.is_null() {
                continue;
            }
            let field =
                fields.iter().find(|field| field.name == name || camel_case(field.name) == name);
            let Some(field) = field else {
                let hint = did_you_mean(&name, fields.iter().map(|field| field.name));
                let place = if path.is_empty() { String::new() } else { format!(" in {path}") };
                self.problems
                    .push(self.origin.whole(&format!("unknown field '{name}'{place}{hint}")));
                continue;
            };
            let path = match path {
                "" => field.name.to_owned(),
                path => format!("{path}.{}", field.name),
            };
            if let Some(choice) = field.choice {
                if let Some((_, other)) = chosen.iter().find(|(known, _)| *known == choice) {
                    let message = format!("excludes '{other}', which is given as well");
                    self.problems.push(self.origin.field(&path, &message));
                }
                chosen.push((choice, field.name));
            }
            if !field.has_effect && says_something(&value) {
                let message = format!("{path} is not supported and has no effect");
                self.warnings.push(self.origin.whole(&message));
            }
            if matches!(field.kind, Kind::Opaque) {
                continue;
            }
            if let Some(value) = self.field(value, field, &path)
                && message.insert(field.name.to_owned(), value).is_some()
            {
                self.problems.push(self.origin.field(&path, &"is given twice"));
            }
        }
        message
    }

    fn field(&mut self, value: Value, field: &Field, path: &str) -> Option<Value> {
        match (field.shape, value) {
            (Shape::One, value) => self.value(value, field, path),
            (Shape::Many, Value::Array(values)) => {
                let mut list = Vec::with_capacity(values.len());
                for (index, value) in values.into_iter().enumerate() {
                    list.extend(self.value(value, field, &format!("{path}[{index}]")));
                }
                Some(Value::Array(list))
            }
            (Shape::Map(key_kind), Value::Object(object)) => {
                let mut map = Map::new();
                for (key, value) in object {
                    let path = format!("{path}[{key}]");
                    if key_kind == MapKey::Uint64 && key.parse::<u64>().is_err() {
                        self.problems
                            .push(self.origin.field(&path, &"expected a whole number as key"));
                        continue;
                    }
                    if let Some(value) = self.value(value, field, &path) {
                        map.insert(key, value);
                    }
                }
                Some(Value::Object(map))
            }
            (Shape::Many, _) => self.expected("an array", path),
            (Shape::Map(_), _) => self.expected("an object", path),
        }
    }

    fn value(&mut self, value: Value, field: &Field, path: &str) -> Option<Value> {
        match (field.kind, value) {
            (Kind::Bool, value @ Value::Bool(_)) | (Kind::Text, value @ Value::String(_)) => {
                Some(value)
            }
            (Kind::Int(least, most), value @ (Value::Number(_) | Value::String(_))) => {
                let Some(number) = whole_number(&value) else {
                    return self.expected("a whole number", path);
                };
                if i128::from(least) <= number && number <= i128::from(most) {
                    return Some(json_number(number));
                }
                let message = format!("is {number}, expected {least} to {most}");
                self.problems.push(self.origin.field(path, &message));
                None
            }
            (Kind::Enum(names), Value::String(name)) => {
                if names.contains(&name.as_str()) {
                    return Some(Value::String(name));
                }
                let hint = did_you_mean(&name, names.iter().copied());
                let message = format!("unknown value '{name}'{hint}");
                self.problems.push(self.origin.field(path, &message));
                None
            }
            (Kind::Enum(names), Value::Number(number)) => {
                let index = number.as_u64().and_then(|number| usize::try_from(number).ok());
                match index.and_then(|index| names.get(index)) {
                    Some(name) => Some(Value::String((*name).to_owned())),
                    None => self.expected("the name of a value", path),
                }
            }
            (Kind::Message(fields), Value::Object(object)) => {
                Some(Value::Object(self.message(object, fields, path)))
            }
            (Kind::Opaque, _) => None,
            (Kind::Bool, _) => self.expected("true or false", path),
            (Kind::Int(..), _) => self.expected("a whole number", path),
            (Kind::Text, _) => self.expected("a string", path),
            (Kind::Enum(_), _) => self.expected("the name of a value", path),
            (Kind::Message(_), _) => self.expected("an object", path),
        }
    }

    fn expected(&mut self, what: &str, path: &str) -> Option<Value> {
        self.problems.push(self.origin.field(path, &format!("expected {what}")));
        None
    }
}

fn whole_number(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Some(number.into()),
            (_, Some(number)) => Some(number.into()),
            _ => None,
        },
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.as_str(), "" | "0" | "FORMAT_NONE"),
        Value::Array(values) => values.iter().any(says_something),
        Value::Object(object) => object.is_empty() || object.values().any(says_something),
    }
}

/// The name of a field in protocol buffers' JSON.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut characters = part.chars();
        camel.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
    }
    camel
}
