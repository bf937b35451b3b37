//! A text that must not be logged.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A credential. Its `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

#[test]
fn debug_hides_it() {
    let secret: Secret = "hunter2".parse().unwrap();
    assert_eq!(format!("{:?}", Some(&secret)), "Some([secret])");
    assert_eq!(secret.expose(), "hunter2");
}
