//! What sets a store up: variables that come with a request, or else those of this process.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Credentials and settings of a store under the names of their environment variables, such as
/// `AWS_ACCESS_KEY_ID`. Empty: what the environment of this process has.
///
/// Given ones are used as a whole: no part of the environment's credentials is mixed with them. Of
/// settings that are no secrets (region, endpoint, account) those that are not given are the
/// environment's.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, String>);

/// Settings that are no secrets. Names of one line mean the same thing.
const SETTINGS: &[&[&str]] = &[
    &["AWS_REGION", "AWS_DEFAULT_REGION"],
    &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
    &["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"],
    &["AWS_ALLOW_HTTP"],
    &["STORAGE_EMULATOR_HOST"],
    &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"],
    &["AZURE_STORAGE_ENDPOINT"],
];

impl FromIterator<(String, String)> for Credentials {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} variables)", self.0.len())
    }
}

impl Credentials {
    /// Whether any came with the request.
    pub(crate) fn are_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        if let Some(value) = self.0.get(name) {
            return Some(value.clone());
        }
        let is_setting = SETTINGS.iter().any(|names| {
            names.contains(&name) && !names.iter().any(|name| self.0.contains_key(*name))
        });
        if self.are_given() && !is_setting {
            return None;
        }
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    /// The given variables of a store, and the environment's settings beside them, as its client
    /// knows them. `ours` are names that we read by ourselves.
    ///
    /// The error names a variable that the store does not have, never a value.
    pub(crate) fn settings<K: FromStr>(
        &self,
        prefix: &str,
        ours: &[&str],
    ) -> Result<Vec<(K, String)>, String> {
        let parse = |name: &str| name.to_ascii_lowercase().parse::<K>().ok();
        let mut settings = Vec::new();
        let mut named = 0;
        for (name, value) in self.0.iter().filter(|(name, _)| name.starts_with(prefix)) {
            named += 1;
            match parse(name) {
                Some(key) => settings.push((key, value.clone())),
                None if ours.contains(&name.as_str()) => {}
                None => {
                    return Err(format!(
                        "the credentials hold `{name}`, which is no variable of this store"
                    ));
                }
            }
        }
        if named == 0 {
            let names: Vec<String> = self.0.keys().map(|name| format!("`{name}`")).collect();
            return Err(format!(
                "none of the credentials is this store's, whose names begin with `{prefix}`: they are {}",
                names.join(", ")
            ));
        }
        for name in SETTINGS.iter().copied().flatten().filter(|name| name.starts_with(prefix)) {
            if !self.0.contains_key(*name)
                && let (Some(value), Some(key)) = (self.variable(name), parse(name))
            {
                settings.push((key, value));
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3ConfigKey;

    use super::*;

    fn given(variables: &[(&str, &str)]) -> Credentials {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn given_ones_stand_alone() {
        // PATH is set wherever a test runs, and is no setting of a store.
        assert!(given(&[]).variable("PATH").is_some());
        let credentials = given(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_ENDPOINT", "")]);
        assert_eq!(credentials.variable("AWS_ACCESS_KEY_ID").as_deref(), Some("id"));
        assert_eq!(credentials.variable("PATH"), None);
        assert_eq!(credentials.variable("AWS_ENDPOINT"), None, "empty is not given");
    }

    #[test]
    fn names_are_checked_and_values_are_not_shown() {
        let settings = |variables: &[(&str, &str)]| {
            let settings = given(variables).settings::<AmazonS3ConfigKey>("AWS_", &["AWS_OURS"]);
            settings.map(|settings| settings.len())
        };
        let keys =
            [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("OTHER", "x")];
        assert!(settings(&keys).unwrap() >= 2);
        assert_eq!(settings(&[("AWS_OURS", "x")]).map(|_| ()), Ok(()));
        let error = settings(&[("AWS_ACCES_KEY", "secret")]).unwrap_err();
        assert!(error.contains("`AWS_ACCES_KEY`") && !error.contains("secret"), "{error}");
        let error = settings(&[("password", "secret")]).unwrap_err();
        assert!(error.contains("`password`") && !error.contains("secret"), "{error}");
        assert!(!format!("{:?}", given(&keys)).contains("secret"));
    }
}
