//! NVIDIA's Xid codes and what to do about them: `data/xid-actions.json`, a column for each source.

use std::sync::LazyLock;

use serde::Deserialize;

/// The table, with its version and sources.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Table {
    pub version: String,
    pub source: String,
    actions: std::collections::BTreeMap<String, String>,
    pub xids: Vec<Xid>,
}

/// One code.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Xid {
    pub code: u32,
    pub meaning: String,
    /// What we tell people to do; a key of the table's actions.
    action: String,
    /// The immediate action of NVIDIA's catalogue.
    pub nvidia: Option<String>,
    /// Whether EKS's agent replaces the node.
    pub eks: Option<bool>,
    /// Whether GKE reports it as critical.
    pub gke: Option<bool>,
    /// Whether NVIDIA's device plugin takes the GPU away from the scheduler.
    pub device_plugin: Option<bool>,
    /// The diagnosis that tells it.
    pub diagnosis: String,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../data/xid-actions.json"))
        .expect("the table is part of the program, and a test reads it")
});

/// The whole table.
#[must_use]
pub fn table() -> &'static Table {
    &TABLE
}

/// What is known of a code.
#[must_use]
pub fn find(code: u32) -> Option<&'static Xid> {
    TABLE.xids.iter().find(|xid| xid.code == code)
}

impl Xid {
    /// What to do, in words.
    #[must_use]
    pub fn action(&self) -> &'static str {
        TABLE.actions.get(&self.action).map_or("", String::as_str)
    }

    /// What the sources say, as far as they are known.
    #[must_use]
    pub fn sources(&self) -> String {
        let mut said = Vec::new();
        if let Some(action) = &self.nvidia {
            said.push(format!("NVIDIA: {action}"));
        }
        for (name, column, yes, no) in [
            ("EKS", self.eks, "fatal", "not fatal"),
            ("GKE", self.gke, "critical", "not listed"),
            ("device plugin", self.device_plugin, "takes the GPU away", "ignores it"),
        ] {
            said.extend(column.map(|it| format!("{name}: {}", if it { yes } else { no })));
        }
        said.join("; ")
    }
}

/// The code and PCI address of a kernel's line: `NVRM: Xid (PCI:0000:3b:00): 79, pid=…`. Device
/// plugins and monitors write `Xid=48` or `Xid 48`.
#[must_use]
pub fn parse(line: &str) -> Option<(u32, Option<String>)> {
    let lower = line.to_ascii_lowercase();
    let mut places = lower.match_indices("xid").map(|(at, word)| at.saturating_add(word.len()));
    places.find_map(|at| code(line.get(at..)?))
}

/// The code at the start of what follows the word.
fn code(rest: &str) -> Option<(u32, Option<String>)> {
    let (address, rest) = match rest.trim_start().strip_prefix('(') {
        Some(rest) => {
            let (address, rest) = rest.split_once(')')?;
            (Some(address.trim_start_matches("PCI:").to_owned()), rest)
        }
        None => (None, rest),
    };
    let rest = rest.trim_start_matches([':', '=', ' ', '#']);
    let digits: &str = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((digits.parse().ok()?, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for xid in &table().xids {
            assert!(!xid.action().is_empty(), "{xid:?}");
            assert!(crate::registry::find(&xid.diagnosis).is_some(), "{xid:?}");
            assert!(!xid.sources().is_empty(), "{xid:?}");
        }
        let mut codes: Vec<u32> = table().xids.iter().map(|it| it.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), table().xids.len(), "a code is there twice");
        assert!(!table().version.is_empty() && !table().source.is_empty());
    }

    #[test]
    fn lines_of_kernels_and_plugins() {
        let of = |line| parse(line);
        let kernel = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";
        assert_eq!(of(kernel), Some((79, Some("0000:3b:00".to_owned()))));
        assert_eq!(of("XidCriticalError: Xid=48 on Device=GPU-1"), Some((48, None)));
        assert_eq!(of("Xid=48 on Device=GPU-1"), Some((48, None)));
        assert_eq!(of("GPU had Xid 63 lately"), Some((63, None)));
        assert_eq!(of("no code: xid"), None);
        assert_eq!(of("ü"), None);
    }
}
