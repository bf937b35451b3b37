//! How a knob's value is written, and read again where a person wrote it.

use serde::{Deserialize, Deserializer};
use trainyard_api::scalar::Bytes;

use crate::gpu::Part;

/// Text with at most one amount in it, such as `0={mebibytes}M`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    before: String,
    amount: Option<Amount>,
    after: String,
}

/// What stands in the braces.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    /// Of the card's memory, times this.
    Fraction(f64),
    Bytes,
    /// Bytes with a unit.
    Size,
    Mebibytes,
    /// Bytes of a pool of tensors.
    Pool,
    /// Of the card's compute.
    Percent,
}

/// An amount that a person wrote, in terms of the contract.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Taken {
    Fraction(f64),
    Bytes(u64),
    Percent(f64),
    /// It is what it should be, or not; there is no more and no less.
    Equal(bool),
}

impl Template {
    fn parse(text: &str) -> Option<Self> {
        let Some((before, rest)) = text.split_once('{') else {
            return Some(Self { before: text.to_owned(), amount: None, after: String::new() });
        };
        let (name, after) = rest.split_once('}')?;
        let amount = match name.split_once('*') {
            Some(("fraction", factor)) => Amount::Fraction(factor.parse().ok()?),
            Some(_) => return None,
            None => match name {
                "fraction" => Amount::Fraction(1.0),
                "bytes" => Amount::Bytes,
                "size" => Amount::Size,
                "mebibytes" => Amount::Mebibytes,
                "pool" => Amount::Pool,
                "percent" => Amount::Percent,
                _ => return None,
            },
        };
        Some(Self { before: before.to_owned(), amount: Some(amount), after: after.to_owned() })
    }

    /// The value for a part; none where the part's size is not known in these terms.
    pub(super) fn write(&self, part: &Part) -> Option<String> {
        let amount = match self.amount {
            None => String::new(),
            Some(Amount::Fraction(factor)) => thousandths(part.fraction()? * factor),
            Some(Amount::Bytes) => part.bytes()?.0.to_string(),
            Some(Amount::Size) => part.bytes()?.to_string(),
            Some(Amount::Mebibytes) => (part.bytes()?.0 >> 20).to_string(),
            Some(Amount::Pool) => pool(part.bytes()?).to_string(),
            Some(Amount::Percent) => part.compute_percent()?.to_string(),
        };
        Some([self.before.as_str(), &amount, &self.after].concat())
    }

    /// What somebody's value takes; none where it is about something else, or cannot be read.
    pub(super) fn read(&self, value: &str, is_list: bool) -> Option<Taken> {
        let mut entries: Vec<&str> = if is_list { value.split(',').collect() } else { vec![value] };
        // The last one of a list holds.
        entries.reverse();
        entries.into_iter().find_map(|entry| self.read_one(entry.trim()))
    }

    fn read_one(&self, value: &str) -> Option<Taken> {
        let Some(amount) = self.amount else {
            return Some(Taken::Equal(value.eq_ignore_ascii_case(&self.before)));
        };
        let inner = value.strip_prefix(self.before.as_str())?;
        // What stands after the amount is its unit, which a person may choose.
        match amount {
            Amount::Fraction(_) => number(inner).map(Taken::Fraction),
            Amount::Percent => number(inner.trim_end_matches('%')).map(Taken::Percent),
            Amount::Bytes | Amount::Size | Amount::Mebibytes | Amount::Pool => {
                size(inner).map(Taken::Bytes)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("no amount in `{text}`")))
    }
}

/// Rounded down, so that the sum over all parts of a card is no more than the card.
fn thousandths(fraction: f64) -> String {
    // A double may be a hair below the thousandth that it stands for.
    ((fraction * 1000.0 + 1e-6).floor() / 1000.0).to_string()
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

/// Bytes as Kubernetes and as CUDA write them: `8Gi`, `8G`, `8192M`, `8589934592`. CUDA's units are
/// binary.
fn size(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(['b', 'B']).trim_end_matches('i');
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The pool for tensors of a part of a GPU: Triton's 64 MiB, and less where that were more than a
/// sixteenth of the part.
fn pool(part: Bytes) -> u64 {
    (part.0 / 16).min(64 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, value: &str, expected: Option<Taken>) {
        let template = Template::parse(template).expect("a template");
        assert_eq!(template.read(value, value.contains(',')), expected, "{value}");
    }

    #[test]
    fn what_people_write() {
        check("{fraction*0.9}", "0.25", Some(Taken::Fraction(0.25)));
        check("{fraction}", "a lot", None);
        check("{fraction}", "-1", None);
        check("{fraction}", "nan", None);
        check("true", "TRUE", Some(Taken::Equal(true)));
        check("true", "0", Some(Taken::Equal(false)));
        check("{size}", "8Gi", Some(Taken::Bytes(8 << 30)));
        check("0={mebibytes}M", "0=8G", Some(Taken::Bytes(8 << 30)));
        check("0={mebibytes}M", "1=8G,0=512M", Some(Taken::Bytes(512 << 20)));
        check("0={mebibytes}M", "1=8G", None);
        check("0:{pool}", "0:67108864", Some(Taken::Bytes(64 << 20)));
        check("{percent}", "25", Some(Taken::Percent(25.0)));
        check("tensorflow,x={fraction}", "tensorflow,x=0.5", None);
        let named = Template::parse("tensorflow,x={fraction}").expect("a template");
        assert_eq!(named.read("tensorflow,x=0.5", false), Some(Taken::Fraction(0.5)));
        assert_eq!(named.read("onnxruntime,x=0.5", false), None);
        let option = "per_process_memory_fraction:{fraction}";
        check(
            option,
            "expandable_segments:True,per_process_memory_fraction:0.5",
            Some(Taken::Fraction(0.5)),
        );
        check("{size}", "99999999999999999999G", None);
        check("{size}", "", None);
    }

    #[test]
    fn fractions_are_rounded_down() {
        assert_eq!(thousandths(0.25 * 0.9), "0.225");
        assert_eq!(thousandths(1.0 / 3.0), "0.333");
        assert_eq!(thousandths(1.0), "1");
    }
}
