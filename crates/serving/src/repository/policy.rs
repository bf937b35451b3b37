//! Which versions of a model are served.

use std::collections::BTreeSet;

use crate::config::VersionPolicy;

/// Chooses among the versions there are.
///
/// `only` stands above the policy; without a policy it is the newest version. An error says which
/// versions are missing.
pub(crate) fn choose_versions(
    available: &BTreeSet<u64>,
    policy: Option<&VersionPolicy>,
    only: Option<u64>,
) -> Result<BTreeSet<u64>, String> {
    if available.is_empty() {
        return Err("there is no version: expected a folder named by a number above 0".to_owned());
    }
    let wanted: BTreeSet<u64> = match (only, policy) {
        (Some(only), _) => BTreeSet::from([only]),
        (None, Some(VersionPolicy::All {})) => available.clone(),
        (None, Some(VersionPolicy::Specific { versions })) => {
            versions.iter().filter_map(|version| u64::try_from(*version).ok()).collect()
        }
        (None, Some(VersionPolicy::Latest { num_versions })) => newest(available, *num_versions),
        (None, None) => newest(available, 1),
    };
    let missing: Vec<&u64> = wanted.difference(available).collect();
    if missing.is_empty() {
        return Ok(wanted);
    }
    Err(format!("there is no version {missing:?}; there are {available:?}"))
}

fn newest(available: &BTreeSet<u64>, number: u32) -> BTreeSet<u64> {
    available.iter().rev().take(usize::try_from(number).unwrap_or(usize::MAX)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        available: &[u64],
        policy: Option<VersionPolicy>,
        only: Option<u64>,
        want: Result<&[u64], &str>,
    ) {
        let available = available.iter().copied().collect();
        let got = choose_versions(&available, policy.as_ref(), only);
        match want {
            Ok(versions) => assert_eq!(got, Ok(versions.iter().copied().collect())),
            Err(part) => assert!(got.expect_err("refused").contains(part)),
        }
    }

    #[test]
    fn table() {
        let latest = |num_versions| Some(VersionPolicy::Latest { num_versions });
        let specific =
            |versions: &[i64]| Some(VersionPolicy::Specific { versions: versions.to_vec() });
        check(&[1, 3, 2], None, None, Ok(&[3]));
        check(&[1, 3, 2], latest(2), None, Ok(&[2, 3]));
        check(&[1, 3], latest(9), None, Ok(&[1, 3]));
        check(&[1, 3], Some(VersionPolicy::All {}), None, Ok(&[1, 3]));
        check(&[1, 2, 3], specific(&[1, 3]), None, Ok(&[1, 3]));
        check(&[1, 2], specific(&[1, 3]), None, Err("[3]"));
        check(&[1, 2], specific(&[1]), Some(2), Ok(&[2]));
        check(&[1, 2], None, Some(7), Err("no version [7]"));
        check(&[], None, None, Err("no version"));
    }
}
