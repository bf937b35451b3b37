//! `file:` addresses and paths.

use std::path::{Path, PathBuf};

use lsp_types::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stands in a path as it is (RFC 3986, section 3.3, without what editors escape too).
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The path of a `file:` address; `None` of others, such as texts that were never saved.
pub(super) fn path(uri: &Uri) -> Option<PathBuf> {
    let rest = uri.as_str().strip_prefix("file://")?;
    // An authority names another machine; `localhost` is this one.
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let path = percent_decode_str(path).decode_utf8().ok()?;
    if !path.starts_with('/') {
        return None;
    }
    // `/c:/x` of Windows.
    let drive = path.get(1..).filter(|rest| {
        rest.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && rest.get(1..2) == Some(":")
    });
    Some(PathBuf::from(drive.unwrap_or(&path)))
}

/// The address of a path.
pub(super) fn of(path: &Path) -> Option<Uri> {
    let path = path.to_str()?.replace('\\', "/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("file://{slash}{}", utf8_percent_encode(&path, ESCAPED)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, address) in [
            ("/a/b.yaml", "file:///a/b.yaml"),
            ("/a b/ü#.yaml", "file:///a%20b/%C3%BC%23.yaml"),
            ("c:/x.yaml", "file:///c%3A/x.yaml"),
        ] {
            let uri = of(Path::new(text)).unwrap();
            assert_eq!(uri.as_str(), address);
            assert_eq!(path(&uri).unwrap(), Path::new(text));
        }
        let elsewhere = ["untitled:Untitled-1", "file://host/share/a.yaml", "file:///%FF"];
        for address in elsewhere {
            assert_eq!(path(&address.parse().unwrap()), None, "{address}");
        }
    }
}
