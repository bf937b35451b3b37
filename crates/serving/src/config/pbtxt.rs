//! From the text format's tree to JSON with the message's own field names.

use serde_json::{Map, Value};

use super::did_you_mean;
use super::fields::{Field, Kind, MODEL_CONFIG, MapKey, Shape};
use super::place::{Origin, Place};
use super::tree::{self, Content, Entry, Node};

/// Reads a whole file: the JSON form, problems and warnings.
pub(super) fn read(
    file: &str,
    text: &str,
) -> (Origin, Map<String, Value>, Vec<String>, Vec<String>) {
    let origin = Origin::new(file);
    let mut reader = Reader { origin, problems: Vec::new(), warnings: Vec::new() };
    let value = match tree::parse(text) {
        Ok(entries) => reader.message(entries, MODEL_CONFIG, ""),
        Err((place, message)) => {
            reader.problem(place, &message);
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
    fn problem(&mut self, place: Place, message: &str) {
        self.problems.push(self.origin.at(place, &message));
    }

    fn message(
        &mut self,
        entries: Vec<Entry>,
        fields: &'static [Field],
        path: &str,
    ) -> Map<String, Value> {
        let mut message = Map::new();
        let mut chosen: Vec<(&str, &str)> = Vec::new();
        for Entry { name, place, value } in entries {
            let Some(field) = fields.iter().find(|field| field.name == name) else {
                let hint = did_you_mean(&name, fields.iter().map(|field| field.name));
                self.problem(place, &format!("unknown field '{name}'{hint}"));
                continue;
            };
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if let Some(choice) = field.choice {
                if let Some((_, other)) =
                    chosen.iter().find(|(known, other)| *known == choice && *other != field.name)
                {
                    let message = format!("'{name}' excludes '{other}', which is given as well");
                    self.problem(place, &message);
                }
                chosen.push((choice, field.name));
            }
            if !field.has_effect && says_something(&value) {
                let message = format!("{path} is not supported and has no effect");
                self.warnings.push(self.origin.at(place, &message));
            }
            self.origin.note(&path, place);
            match field.shape {
                _ if matches!(field.kind, Kind::Opaque) => {}
                Shape::One if message.contains_key(&name) => {
                    self.problem(place, &format!("'{name}' is given twice"));
                }
                Shape::One => {
                    if let Some(value) = self.value(value, field, &path) {
                        message.insert(name, value);
                    }
                }
                Shape::Many => {
                    let list = message.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                    if let Value::Array(list) = list {
                        self.append(value, field, &path, list);
                    }
                }
                Shape::Map(key) => {
                    let map = message.entry(name).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(map) = map {
                        self.entries(value, field, key, &path, map);
                    }
                }
            }
        }
        message
    }

    fn append(&mut self, node: Node, field: &Field, path: &str, list: &mut Vec<Value>) {
        let nodes = match node {
            Node { content: Content::List(nodes), .. } => nodes,
            node => vec![node],
        };
        for node in nodes {
            let path = format!("{path}[{}]", list.len());
            self.origin.note(&path, node.place);
            if let Some(value) = self.value(node, field, &path) {
                list.push(value);
            }
        }
    }

    fn entries(
        &mut self,
        node: Node,
        field: &Field,
        key_kind: MapKey,
        path: &str,
        map: &mut Map<String, Value>,
    ) {
        let nodes = match node {
            Node { content: Content::List(nodes), .. } => nodes,
            node => vec![node],
        };
        for node in nodes {
            let Content::Message(entries) = node.content else {
                self.problem(node.place, "expected an entry such as { key: ... value: ... }");
                continue;
            };
            let (mut key, mut value) = (None, None);
            for entry in entries {
                let place = entry.place;
                let slot = match entry.name.as_str() {
                    "key" => &mut key,
                    "value" => &mut value,
                    other => {
                        let message = format!("unknown field '{other}' in an entry of {path}");
                        self.problem(place, &message);
                        continue;
                    }
                };
                if slot.replace(entry.value).is_some() {
                    self.problem(place, &format!("'{}' is given twice", entry.name));
                }
            }
            let key = match (key.map(|node| (node.place, node.content)), key_kind) {
                (Some((_, Content::Text(key))), MapKey::Text) => key,
                (Some((_, Content::Plain(key))), MapKey::Uint64) if key.parse::<u64>().is_ok() => {
                    key
                }
                (None, MapKey::Text) => String::new(),
                (None, MapKey::Uint64) => "0".to_owned(),
                (Some((place, _)), MapKey::Text) => {
                    self.problem(place, "expected a string as key");
                    continue;
                }
                (Some((place, _)), MapKey::Uint64) => {
                    self.problem(place, "expected a whole number as key");
                    continue;
                }
            };
            let path = format!("{path}[{key}]");
            self.origin.note(&path, node.place);
            let value = match value {
                Some(value) => self.value(value, field, &path),
                None if matches!(field.kind, Kind::Text) => Some(Value::String(String::new())),
                None => Some(Value::Object(Map::new())),
            };
            if let Some(value) = value
                && map.insert(key.clone(), value).is_some()
            {
                self.problem(node.place, &format!("the key '{key}' is given twice"));
            }
        }
    }

    /// One value, or `None` after a problem.
    fn value(&mut self, node: Node, field: &Field, path: &str) -> Option<Value> {
        let Node { place, content } = node;
        match (field.kind, content) {
            (Kind::Message(fields), Content::Message(entries)) => {
                return Some(Value::Object(self.message(entries, fields, path)));
            }
            (Kind::Text, Content::Text(text)) => return Some(Value::String(text)),
            (Kind::Bool, Content::Plain(text)) => match text.as_str() {
                "true" | "True" | "t" | "1" => return Some(Value::Bool(true)),
                "false" | "False" | "f" | "0" => return Some(Value::Bool(false)),
                _ => {}
            },
            (Kind::Int(least, most), Content::Plain(text)) => match whole_number(&text) {
                Some(number) if i128::from(least) <= number && number <= i128::from(most) => {
                    return Some(json_number(number));
                }
                Some(_) => {
                    let message = format!("{} is {text}, expected {least} to {most}", field.name);
                    self.problem(place, &message);
                    return None;
                }
                None => {}
            },
            (Kind::Enum(names), Content::Plain(text)) => {
                let by_number = || names.get(text.parse::<usize>().ok()?).copied();
                let name = names.iter().find(|name| **name == text).copied().or_else(by_number);
                if let Some(name) = name {
                    return Some(Value::String(name.to_owned()));
                }
                let hint = did_you_mean(&text, names.iter().copied());
                let message = format!("unknown value '{text}' of {}{hint}", field.name);
                self.problem(place, &message);
                return None;
            }
            (Kind::Opaque, _) => return None,
            _ => {}
        }
        let expected = match field.kind {
            Kind::Bool => "true or false",
            Kind::Int(..) => "a whole number",
            Kind::Text => "a string in quotes",
            Kind::Enum(_) => "the name of a value, without quotes",
            Kind::Message(_) | Kind::Opaque => "a message in braces",
        };
        self.problem(place, &format!("{}: expected {expected}", field.name));
        None
    }
}

/// Whether a value without effect would have one: a default says nothing.
fn says_something(node: &Node) -> bool {
    match &node.content {
        Content::Text(text) => !text.is_empty(),
        Content::Plain(text) => {
            !matches!(text.as_str(), "false" | "False" | "f" | "0" | "FORMAT_NONE")
        }
        Content::List(nodes) => nodes.iter().any(says_something),
        Content::Message(entries) => {
            entries.is_empty() || entries.iter().any(|entry| says_something(&entry.value))
        }
    }
}

/// Decimal, `0x` or octal with a leading `0`, as the format has them.
fn whole_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    // What `from_str_radix` takes and the format does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let magnitude = match lower.strip_prefix("0x") {
        Some(hexadecimal) if !hexadecimal.starts_with(['+', '-']) => {
            u64::from_str_radix(hexadecimal, 16)
        }
        Some(_) => return None,
        None if lower.len() > 1 && lower.starts_with('0') => u64::from_str_radix(&lower, 8),
        None => lower.parse(),
    };
    let magnitude = i128::from(magnitude.ok()?);
    Some(if negative { -magnitude } else { magnitude })
}

/// Bounds were checked, so that the number fits one of the two.
pub(super) fn json_number(number: i128) -> Value {
    match u64::try_from(number) {
        Ok(number) => number.into(),
        Err(_) => i64::try_from(number).unwrap_or(i64::MIN).into(),
    }
}
