//! A JSON value as a tree, for the few places whose shape is not known beforehand.

use std::borrow::Cow;

use super::element::double;
use super::error::JsonError;
use super::reader::{Kind, Reader};

/// Any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// A number without fraction and exponent that fits; all that `u64` and `i64` hold do.
    Integer(i128),
    Float(f64),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    /// In the order of the text; no key comes twice.
    Object(Vec<(String, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads the value that stands next.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        Ok(match reader.peek()? {
            Kind::Null => {
                reader.null()?;
                Self::Null
            }
            Kind::Bool => Self::Bool(reader.bool()?),
            Kind::String => Self::String(reader.string()?),
            Kind::Number => {
                let number = reader.number("a number")?;
                match number.text.parse() {
                    Ok(integer) if number.is_integer => Self::Integer(integer),
                    _ => Self::Float(double(&number)?),
                }
            }
            Kind::Array => {
                let mut elements = Vec::new();
                reader.array(|reader, _| {
                    elements.push(Self::read(reader)?);
                    Ok(())
                })?;
                Self::Array(elements)
            }
            Kind::Object => {
                let mut members = Vec::new();
                reader.object(|reader, key| {
                    members.push((key.to_owned(), Self::read(reader)?));
                    Ok(())
                })?;
                Self::Object(members)
            }
        })
    }

    /// What kind of value it is, in words for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    #[cfg(test)]
    pub(super) fn to_serde(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Integer(value) => i64::try_from(*value).expect("in tests").into(),
            Self::Float(value) => (*value).into(),
            Self::String(text) => text.as_ref().into(),
            Self::Array(elements) => elements.iter().map(Self::to_serde).collect(),
            Self::Object(members) => {
                let pair = |(key, value): &(String, Self)| (key.clone(), value.to_serde());
                serde_json::Value::Object(members.iter().map(pair).collect())
            }
        }
    }
}
