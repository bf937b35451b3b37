//! Where the model is served.

use std::path::Path;

use miette::miette;

/// Where `trainyard up` and `serve` listen unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:8080";
/// Written by a running `trainyard up` into its state folder.
const ADDRESS_FILE: &str = "address.json";

/// What was asked for, else the running `up` of this folder, else the default.
pub(super) fn find(asked: Option<&str>, state: &Path) -> miette::Result<String> {
    if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
        return normalise(asked);
    }
    let file = std::fs::read(state.join(ADDRESS_FILE)).ok();
    let written = file.and_then(|text| serde_json::from_slice::<Written>(&text).ok());
    match written {
        Some(written) => normalise(&written.address),
        None => Ok(DEFAULT.to_owned()),
    }
}

#[derive(serde::Deserialize)]
struct Written {
    address: String,
}

/// A URL without a slash at its end; a bare `HOST:PORT` is http.
fn normalise(text: &str) -> miette::Result<String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed = url.parse::<http::Uri>();
    let is_right = parsed.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
    });
    if !is_right {
        return Err(miette!(
            help = "write it as http://HOST:PORT",
            "`{text}` is no URL of a server"
        ));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[test]
fn table() {
    let state = tempfile::tempdir().unwrap();
    let check = |asked, expected: Option<&str>| {
        assert_eq!(find(asked, state.path()).ok().as_deref(), expected, "{asked:?}");
    };
    check(None, Some(DEFAULT));
    check(Some("h:1"), Some("http://h:1"));
    check(Some("https://h/prefix/"), Some("https://h/prefix"));
    check(Some("ftp://h"), None);
    check(Some("http://"), None);
    std::fs::write(state.path().join(ADDRESS_FILE), r#"{"address": "127.0.0.1:9"}"#).unwrap();
    check(None, Some("http://127.0.0.1:9"));
    check(Some("h:1"), Some("http://h:1"));
}
