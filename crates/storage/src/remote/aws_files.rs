//! The AWS tools' files: `~/.aws/credentials` and `~/.aws/config`.

use std::path::PathBuf;

use crate::credentials::Credentials;

/// What the files say of one profile. Not `Debug`: it holds secrets.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) session_token: Option<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint_url: Option<String>,
}

/// The profile of `AWS_PROFILE`, else `default`. Files that are not there say nothing, and none is
/// asked where credentials came with the request.
pub(super) fn profile(credentials: &Credentials) -> Profile {
    if credentials.are_given() {
        return Profile::default();
    }
    let variable = |name: &str| credentials.variable(name);
    let name = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".aws"));
    let read = |name: &str, file: &str| {
        let path = variable(name).map(PathBuf::from).or_else(|| Some(home()?.join(file)));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    };
    let mut profile = Profile::default();
    // The configuration may hold keys too; the credentials file wins.
    let section = if name == "default" { name.clone() } else { format!("profile {name}") };
    profile.apply(&read("AWS_CONFIG_FILE", "config"), &section);
    profile.apply(&read("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &name);
    profile
}

impl Profile {
    fn apply(&mut self, text: &str, section: &str) {
        let mut inside = false;
        for line in text.lines() {
            // Indented lines belong to nested settings, such as `s3 =`.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(name) = line.trim().strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
                inside = name.split_whitespace().collect::<Vec<_>>().join(" ") == section;
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| inside) else { continue };
            let value = value.trim();
            let field = match name.trim() {
                "aws_access_key_id" => &mut self.access_key_id,
                "aws_secret_access_key" => &mut self.secret_access_key,
                "aws_session_token" => &mut self.session_token,
                "region" => &mut self.region,
                "endpoint_url" => &mut self.endpoint_url,
                _ => continue,
            };
            if !value.is_empty() {
                *field = Some(value.to_owned());
            }
        }
    }
}

#[test]
fn sections_and_settings() {
    let mut profile = Profile::default();
    let config = "[default]\nregion = eu-west-1\n[profile  work]\n# no\nregion=eu-north-1\n\
                  s3 =\n  endpoint_url = http://nested\nendpoint_url = http://h:9000 \n\
                  [profile other]\nregion = us-east-1\n";
    profile.apply(config, "profile work");
    profile.apply("[work]\naws_access_key_id = a\naws_secret_access_key = b=c\nbroken\n", "work");
    assert_eq!(profile.region.as_deref(), Some("eu-north-1"));
    assert_eq!(profile.endpoint_url.as_deref(), Some("http://h:9000"));
    assert_eq!(profile.access_key_id.as_deref(), Some("a"));
    assert_eq!(profile.secret_access_key.as_deref(), Some("b=c"));
    assert_eq!(profile.session_token, None);
}
