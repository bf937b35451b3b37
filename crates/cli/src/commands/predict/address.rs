//! Where the model is served.

use miette::miette;

use crate::commands::supervisor::{State, block_on};

/// Where `trainyard up` and `serve` listen unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:8080";

/// What was asked for, else the running `up` of this folder, else the default.
pub(super) fn find(asked: Option<&str>, state: &State) -> miette::Result<String> {
    if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
        return normalise(asked);
    }
    // A supervisor that does not answer us may serve where it always does.
    match block_on(state.status()).and_then(|status| status) {
        Ok(Some(status)) => normalise(&status.address.to_string()),
        Ok(None) | Err(_) => Ok(DEFAULT.to_owned()),
    }
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
    let check = |asked, expected: Option<&str>| {
        assert_eq!(normalise(asked).ok().as_deref(), expected, "{asked:?}");
    };
    check("h:1", Some("http://h:1"));
    check("https://h/prefix/", Some("https://h/prefix"));
    check("ftp://h", None);
    check("http://", None);
}
