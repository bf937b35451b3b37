//! Amounts of CPU and memory, written as Kubernetes quantities.
//!
//! The grammar is Kubernetes' (`apimachinery/pkg/api/resource`): a decimal number and a suffix,
//! `n u m k M G T P E` (decimal), `Ki Mi Gi Ti Pi Ei` (binary), or an exponent such as `e3`.

use std::fmt;
use std::str::FromStr;

use super::{ScalarError, ScalarKind};

/// The same pattern that Kubernetes' tools put in schemas for a quantity, without a sign: a
/// negative amount of CPU or memory means nothing.
const PATTERN: &str =
    r"^\+?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$";

/// An amount of CPU in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millicores(pub u64);

/// An amount of memory or storage in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// An amount of CPU in thousandths of a core, of which there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuBudget(pub u64);

/// An amount of memory in bytes, of which there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemoryBudget(pub u64);

pub(super) const CPU_KIND: ScalarKind = ScalarKind {
    name: "cpu",
    expected: "an amount of CPU such as `2` or `500m`",
    check: |text| text.parse::<Millicores>().map(drop),
    integer_too: true,
    pattern: PATTERN,
    longest: LONGEST,
    rules: &[(
        "type(self) == int ? self > 0 && self <= 1000000 : quantity(self).compareTo(quantity('0')) > 0 && quantity(self).compareTo(quantity('1M')) <= 0",
        "must be above zero, and no more than a machine can have",
    )],
};

pub(super) const BYTES_KIND: ScalarKind = ScalarKind {
    name: "bytes",
    expected: "an amount of memory such as `8Gi` or `512Mi`",
    check: |text| text.parse::<Bytes>().map(drop),
    integer_too: true,
    pattern: PATTERN,
    longest: LONGEST,
    rules: &[
        (
            "type(self) == int ? self > 0 && self <= 1152921504606846976 : quantity(self).compareTo(quantity('0')) > 0 && quantity(self).compareTo(quantity('1Ei')) <= 0",
            "must be above zero, and no more than a machine can have",
        ),
        (
            "type(self) == int || !self.matches('[num]$|^[+]?[0-9]*[.]0*[1-9][0-9]*$')",
            "must be a whole number of bytes, and `m` means a thousandth; write `512Mi` or `8Gi`",
        ),
    ],
};

pub(super) const CPU_BUDGET_KIND: ScalarKind = ScalarKind {
    name: "cpuBudget",
    expected: "an amount of CPU such as `64` or `500m`, or `0` for none",
    check: |text| text.parse::<CpuBudget>().map(drop),
    rules: &[(
        "type(self) == int ? self >= 0 && self <= 1000000 : quantity(self).compareTo(quantity('1M')) <= 0",
        "must be no more than a machine can have, and not negative",
    )],
    ..CPU_KIND
};

/// It stands in a list only, where rules cost too much.
pub(super) const MEMORY_BUDGET_KIND: ScalarKind = ScalarKind {
    name: "memoryBudget",
    expected: "an amount of memory such as `256Gi`, or `0` for none",
    check: |text| text.parse::<MemoryBudget>().map(drop),
    rules: &[],
    ..BYTES_KIND
};

/// Characters of an amount; more digits than 128 bits hold would not fit either.
const LONGEST: u64 = 32;
/// A million cores: more than any machine has, and no sum of them overflows.
const MOST_MILLICORES: u64 = 1_000_000_000;
/// 1Ei, for the same reason.
const MOST_BYTES: u64 = 1 << 60;

const CPU_HELP: &str = "write whole cores as `2`, thousandths as `500m`";
const BYTES_HELP: &str = "write bytes with a binary or decimal unit: `512Mi`, `8Gi`, `2G`";

impl FromStr for Millicores {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            CpuBudget(0) => Err(zero(text, "CPU", CPU_HELP)),
            CpuBudget(millicores) => Ok(Self(millicores)),
        }
    }
}

impl FromStr for CpuBudget {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = Number::parse(text, "CPU", CPU_HELP)?;
        match number.times_whole(1000) {
            Ok(millicores) if millicores <= MOST_MILLICORES => Ok(Self(millicores)),
            Err(Inexact::Fraction) => too_fine(text),
            Ok(_) | Err(Inexact::TooLarge) => Err(too_large(text, "CPU", CPU_HELP)),
        }
    }
}

impl fmt::Display for CpuBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Millicores(self.0).fmt(f)
    }
}

fn too_fine<T>(text: &str) -> Result<T, ScalarError> {
    Err(ScalarError::new(
        format!("`{text}` is finer than a thousandth of a core, the smallest step of CPU"),
        CPU_HELP,
    ))
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

impl FromStr for Bytes {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            MemoryBudget(0) => Err(zero(text, "memory", BYTES_HELP)),
            MemoryBudget(bytes) => Ok(Self(bytes)),
        }
    }
}

impl FromStr for MemoryBudget {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = Number::parse(text, "memory", BYTES_HELP)?;
        // Also where it is a whole number: nobody means thousandths of a byte.
        if text.ends_with(['n', 'u', 'm']) {
            return Err(ScalarError::new(
                format!("`{text}` is a fraction of a byte by its unit"),
                "`m` means a thousandth; write `M` or `Mi` for megabytes",
            ));
        }
        match number.times_whole(1) {
            Ok(bytes) if bytes <= MOST_BYTES => Ok(Self(bytes)),
            Ok(_) | Err(Inexact::TooLarge) => Err(too_large(text, "memory", BYTES_HELP)),
            Err(Inexact::Fraction) => Err(ScalarError::new(
                format!("`{text}` is not a whole number of bytes"),
                BYTES_HELP,
            )),
        }
    }
}

impl fmt::Display for Bytes {
    /// Prints the shortest exact form, a binary unit before a decimal one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 12] = [
            ("Ei", 1 << 60),
            ("Pi", 1 << 50),
            ("Ti", 1 << 40),
            ("Gi", 1 << 30),
            ("Mi", 1 << 20),
            ("Ki", 1 << 10),
            ("E", 1_000_000_000_000_000_000),
            ("P", 1_000_000_000_000_000),
            ("T", 1_000_000_000_000),
            ("G", 1_000_000_000),
            ("M", 1_000_000),
            ("k", 1000),
        ];
        let exact =
            UNITS.into_iter().filter(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        // `2G` is also `1953125Ki`: the fewest digits win, and the binary unit where both have as many.
        match exact.min_by_key(|(_, size)| self.0 / size) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Bytes(self.0).fmt(f)
    }
}

fn zero(text: &str, what: &str, help: &'static str) -> ScalarError {
    ScalarError::new(format!("`{text}` is no {what}; leave the field out for its default"), help)
}

fn too_large(text: &str, what: &str, help: &'static str) -> ScalarError {
    ScalarError::new(format!("`{text}` is more {what} than any machine has"), help)
}

/// `digits × 10^ten × 2^two`, exact.
#[derive(Clone, Copy)]
struct Number {
    digits: u128,
    ten: i32,
    two: u32,
}

enum Inexact {
    Fraction,
    TooLarge,
}

impl Number {
    fn parse(text: &str, what: &str, help: &'static str) -> Result<Self, ScalarError> {
        let wrong = |why: &str| {
            Err(ScalarError::new(format!("`{text}` is not an amount of {what}: {why}"), help))
        };
        if text.is_empty() {
            return wrong("it is empty");
        }
        if text.starts_with('-') {
            return wrong("it is negative");
        }
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (decimal, suffix) = unsigned.split_at(end);
        let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
        if whole.is_empty() && fraction.is_empty() {
            return wrong("it does not start with a number");
        }
        if fraction.contains('.') {
            return wrong("it has two decimal points");
        }
        // Trailing zeros of the fraction carry nothing and could overflow.
        let fraction = fraction.trim_end_matches('0');
        let mut digits: u128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            digits = match digits
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u128::from(digit - b'0')))
            {
                Some(digits) => digits,
                None => return wrong("it has too many digits"),
            };
        }
        let Ok(places) = i32::try_from(fraction.len()) else {
            return wrong("it has too many digits");
        };
        let (ten, two) = match suffix {
            "" => (0, 0),
            "n" => (-9, 0),
            "u" => (-6, 0),
            "m" => (-3, 0),
            "k" => (3, 0),
            "M" => (6, 0),
            "G" => (9, 0),
            "T" => (12, 0),
            "P" => (15, 0),
            "E" => (18, 0),
            "Ki" => (0, 10),
            "Mi" => (0, 20),
            "Gi" => (0, 30),
            "Ti" => (0, 40),
            "Pi" => (0, 50),
            "Ei" => (0, 60),
            _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i16>) {
                Some(Ok(exponent)) => (i32::from(exponent), 0),
                _ => return Err(unknown_unit(text, suffix, what, help)),
            },
        };
        Ok(Self { digits, ten: ten.saturating_sub(places), two })
    }

    /// The value times `factor`, if that is a whole number that fits.
    fn times_whole(self, factor: u128) -> Result<u64, Inexact> {
        if self.digits == 0 {
            return Ok(0);
        }
        let mut value = self
            .digits
            .checked_mul(factor)
            .and_then(|value| value.checked_mul(1u128.checked_shl(self.two)?))
            .ok_or(Inexact::TooLarge)?;
        for _ in 0..self.ten.unsigned_abs() {
            if self.ten > 0 {
                value = value.checked_mul(10).ok_or(Inexact::TooLarge)?;
            } else if value.is_multiple_of(10) {
                value /= 10;
            } else {
                return Err(Inexact::Fraction);
            }
        }
        u64::try_from(value).map_err(|_| Inexact::TooLarge)
    }
}

/// Units that people write and Kubernetes does not know, and what they mean.
fn unknown_unit(text: &str, suffix: &str, what: &str, help: &'static str) -> ScalarError {
    let meant = match suffix.trim() {
        "K" | "KB" | "kB" | "kb" => Some("k"),
        "MB" | "mb" | "Mb" => Some("M"),
        "GB" | "gb" | "g" | "Gb" => Some("G"),
        "TB" | "tb" | "t" => Some("T"),
        "KiB" | "ki" | "kib" => Some("Ki"),
        "MiB" | "mi" | "mib" => Some("Mi"),
        "GiB" | "gi" | "gib" => Some("Gi"),
        "TiB" | "ti" | "tib" => Some("Ti"),
        _ => None,
    };
    let problem = format!("`{text}` is not an amount of {what}: unknown unit `{suffix}`");
    let number = text.strip_suffix(suffix).unwrap_or(text).trim();
    match meant {
        Some(unit) => ScalarError::new(problem, format!("did you mean `{number}{unit}`?")),
        None => ScalarError::new(problem, help),
    }
}

macro_rules! quantity_scalar {
    ($type:ident, $kind:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($kind.expected)
                    }

                    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<$type, E> {
                        self.visit_str(&value.to_string())
                    }

                    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<$type, E> {
                        self.visit_str(&value.to_string())
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(|error: ScalarError| {
                            E::custom(format!("{} ({})", error.problem, error.help))
                        })
                    }
                }
                from.deserialize_any(Visitor)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $kind.schema()
            }
        }
    };
}
quantity_scalar!(Millicores, CPU_KIND);
quantity_scalar!(Bytes, BYTES_KIND);
quantity_scalar!(CpuBudget, CPU_BUDGET_KIND);
quantity_scalar!(MemoryBudget, MEMORY_BUDGET_KIND);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn cpu(text: &str, expected: Result<u64, &str>, printed: &str) {
        let parsed = text.parse::<Millicores>();
        match expected {
            Ok(millicores) => {
                assert_eq!(parsed, Ok(Millicores(millicores)));
                assert_eq!(Millicores(millicores).to_string(), printed);
            }
            Err(part) => {
                let error = parsed.expect_err("refused");
                let text = format!("{} / {}", error.problem, error.help);
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[track_caller]
    fn bytes(text: &str, expected: Result<u64, &str>, printed: &str) {
        let parsed = text.parse::<Bytes>();
        match expected {
            Ok(bytes) => {
                assert_eq!(parsed, Ok(Bytes(bytes)));
                assert_eq!(Bytes(bytes).to_string(), printed);
            }
            Err(part) => {
                let error = parsed.expect_err("refused");
                let text = format!("{} / {}", error.problem, error.help);
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn cpu_table() {
        cpu("2", Ok(2000), "2");
        cpu("500m", Ok(500), "500m");
        cpu("0.5", Ok(500), "500m");
        cpu(".25", Ok(250), "250m");
        cpu("1.", Ok(1000), "1");
        cpu("+1", Ok(1000), "1");
        cpu("1e3", Ok(1_000_000), "1000");
        cpu("2k", Ok(2_000_000), "2000");
        cpu("1000000u", Ok(1000), "1");
        cpu("0", Err("is no CPU"), "");
        cpu("0.000", Err("is no CPU"), "");
        cpu("0.0001", Err("finer than a thousandth"), "");
        cpu("1u", Err("finer than a thousandth"), "");
        cpu("-1", Err("negative"), "");
        cpu("", Err("empty"), "");
        cpu("two", Err("does not start with a number"), "");
        cpu("1.2.3", Err("two decimal points"), "");
        cpu("2 cores", Err("unknown unit ` cores`"), "");
        cpu("1e99999", Err("unknown unit"), "");
        cpu("1e999", Err("more CPU than any machine has"), "");
        cpu("1M", Ok(1_000_000_000), "1000000");
        cpu("1000001", Err("more CPU than any machine has"), "");
        cpu(&"9".repeat(60), Err("too many digits"), "");
    }

    #[test]
    fn a_budget_may_be_none() {
        let cpu = |text: &str| text.parse::<CpuBudget>().map(|it| (it.0, it.to_string()));
        assert_eq!(cpu("0"), Ok((0, "0".to_owned())));
        assert_eq!(cpu("1500m"), Ok((1500, "1500m".to_owned())));
        assert!(cpu("-1").is_err() && cpu("1u").is_err() && cpu("1000001").is_err());
        let memory = |text: &str| text.parse::<MemoryBudget>().map(|it| (it.0, it.to_string()));
        assert_eq!(memory("0Gi"), Ok((0, "0".to_owned())));
        assert_eq!(memory("512Mi"), Ok((512 << 20, "512Mi".to_owned())));
        assert!(memory("0m").is_err() && memory("2Ei").is_err());
    }

    #[test]
    fn bytes_table() {
        bytes("8Gi", Ok(8 << 30), "8Gi");
        bytes("512Mi", Ok(512 << 20), "512Mi");
        bytes("1.5Gi", Ok(3 << 29), "1536Mi");
        bytes("2G", Ok(2_000_000_000), "2G");
        bytes("129e6", Ok(129_000_000), "129M");
        bytes("1000", Ok(1000), "1k");
        bytes("1023", Ok(1023), "1023");
        bytes("0", Err("is no memory"), "");
        bytes("0Gi", Err("is no memory"), "");
        bytes("100m", Err("write `M` or `Mi`"), "");
        bytes("1000m", Err("write `M` or `Mi`"), "");
        bytes("1.5", Err("whole number of bytes"), "");
        bytes("1Ei", Ok(1 << 60), "1Ei");
        bytes("2Ei", Err("more memory than any machine has"), "");
        bytes("8GB", Err("did you mean `8G`?"), "");
        bytes("8 GiB", Err("did you mean `8Gi`?"), "");
        bytes("99999Ei", Err("more memory than any machine has"), "");
    }

    proptest! {
        #[test]
        fn printed_is_parsed_back(cpu in 1..=MOST_MILLICORES, memory in 1..=MOST_BYTES) {
            prop_assert_eq!(Millicores(cpu).to_string().parse(), Ok(Millicores(cpu)));
            prop_assert_eq!(Bytes(memory).to_string().parse(), Ok(Bytes(memory)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9.+eEKMGTmi-]{0,40}") {
            let _ = text.parse::<Millicores>();
            let _ = text.parse::<Bytes>();
        }
    }
}
