//! One number, flag or string of a tensor.

use half::{bf16, f16};

use super::error::{JsonError, excerpt};
use super::reader::{Kind, Number, Reader};

/// What tensors are made of.
pub(crate) trait Element: Sized {
    /// Reads one element.
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError>;
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl Element for $integer {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
                let number = reader.number("a whole number")?;
                match number.text.parse() {
                    Ok(value) => Ok(value),
                    Err(_) => Err(out_of_range(&number, <$integer>::MIN, <$integer>::MAX)),
                }
            }
        }
    )+};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

#[cold]
fn out_of_range(
    number: &Number<'_>,
    least: impl std::fmt::Display,
    most: impl std::fmt::Display,
) -> JsonError {
    let found = excerpt(number.text);
    let expected = format!("expected a whole number from {least} to {most}, found {found}");
    JsonError::new(number.offset, expected)
}

macro_rules! floats {
    ($($float:ty),+) => {$(
        impl Element for $float {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
                let number = reader.number("a number")?;
                match number.text.parse::<$float>() {
                    Ok(value) if value.is_finite() || is_token(number.text) => Ok(value),
                    _ => Err(beyond(&number, <$float>::MAX)),
                }
            }
        }
    )+};
}

floats!(f32, f64);

/// A number as an `f64`, of whatever size its digits are.
pub(super) fn double(number: &Number<'_>) -> Result<f64, JsonError> {
    match number.text.parse::<f64>() {
        Ok(value) if value.is_finite() || is_token(number.text) => Ok(value),
        _ => Err(beyond(number, f64::MAX)),
    }
}

#[cold]
fn beyond(number: &Number<'_>, most: impl std::fmt::LowerExp) -> JsonError {
    let found = excerpt(number.text);
    let problem = format!("{found} is beyond {most:e}, the largest number of its type");
    JsonError::new(number.offset, problem)
}

/// Whether a number is one of the tokens for what digits cannot express. The standard library
/// parses all of them.
fn is_token(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, b'N' | b'I'))
}

impl Element for f16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        narrow(reader, Self::from_f32, Self::is_finite, Self::MAX)
    }
}

impl Element for bf16 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, JsonError> {
        narrow(reader, Self::from_f32, Self::is_finite, Self::MAX)
    }
}

/// Reads a number and rounds it to a narrower type.
fn narrow<T: Copy + std::fmt::Display>(
    reader: &mut Reader<'_>,
    round: impl Fn(f32) -> T,
    is_finite: impl Fn(T) -> bool,
    most: T,
) -> Result<T, JsonError> {
    // The reader skips white space before it notes where a number starts.
    reader.peek()?;
    let offset = reader.offset();
    let wide = f32::read(reader)?;
    let value = round(wide);
    if wide.is_finite() && !is_finite(value) {
        let problem = format!("{wide} is beyond {most}, the largest number of its type");
        return Err(JsonError::new(offset, problem));
    }
    Ok(value)
}

/// Reads a boolean, which may also be written as 0 or 1, in the form that tensors hold it.
pub(super) fn flag(reader: &mut Reader<'_>) -> Result<u8, JsonError> {
    if reader.peek()? != Kind::Number {
        return reader.bool().map(u8::from);
    }
    let number = reader.number("true, false, 0 or 1")?;
    match number.text {
        "0" => Ok(0),
        "1" => Ok(1),
        text => {
            let problem = format!("expected true, false, 0 or 1, found {}", excerpt(text));
            Err(JsonError::new(number.offset, problem))
        }
    }
}
