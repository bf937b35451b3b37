//! What a URI names, without asking anybody.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

use crate::error::StorageError;

/// What a URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Local(PathBuf),
    Remote(Place),
}

/// A place to fetch from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Http(Url),
    Object { store: Store, bucket: String, key: String },
}

/// The kinds of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    S3,
    Gs,
    Az,
}

impl fmt::Display for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
        })
    }
}

/// Schemes that manifests may name and that only a cluster can fetch.
const ELSEWHERE: [(&str, &str); 5] = [
    ("hf", "download it (`hf download`), export it to ONNX and name the folder that holds it"),
    ("oci", "unpack the image (`oras pull`, `docker cp`) and name the folder, or use a cluster"),
    ("pvc", "a volume claim exists in a cluster only; name the folder that it would hold"),
    ("mlflow", "download it (`mlflow artifacts download`) and name the folder"),
    ("models", "download it (`mlflow artifacts download`) and name the folder"),
];

impl Location {
    pub(crate) fn parse(uri: &str, allow_http: bool) -> Result<Self, StorageError> {
        let wrong = |reason: &str| StorageError::Uri { uri: shown(uri), reason: reason.to_owned() };
        if uri.is_empty() {
            return Err(wrong("it is empty"));
        }
        if uri.contains('\0') {
            return Err(wrong("it holds a zero byte"));
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Ok(Self::Local(PathBuf::from(uri)));
        };
        if let Some((_, help)) = ELSEWHERE.iter().find(|(known, _)| *known == scheme) {
            return Err(StorageError::Unsupported { uri: shown(uri), help });
        }
        let object = |store| {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("it names no bucket"));
            }
            Ok(Self::Remote(Place::Object {
                store,
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }))
        };
        match scheme {
            "file" => file(rest).ok_or_else(|| {
                wrong("write an absolute path as `file:///models/iris`, a relative one as `file://./iris`")
            }),
            "http" | "https" => {
                let url = Url::parse(uri).map_err(|error| wrong(&error.to_string()))?;
                if !may_fetch(&url, allow_http) {
                    return Err(wrong(
                        "over plain http anybody on the way can change the model; use https",
                    ));
                }
                Ok(Self::Remote(Place::Http(url)))
            }
            "s3" => object(Store::S3),
            "gs" => object(Store::Gs),
            "az" => object(Store::Az),
            _ => Err(wrong("the scheme is none of file, https, s3, gs, az")),
        }
    }
}

fn file(rest: &str) -> Option<Location> {
    let path = match rest.strip_prefix("localhost/") {
        Some(path) => format!("/{path}"),
        None => rest.to_owned(),
    };
    let relative =
        matches!(path.as_str(), "." | "..") || path.starts_with("./") || path.starts_with("../");
    (path.starts_with('/') || relative).then(|| Location::Local(PathBuf::from(path)))
}

/// Whether content from here is protected on its way: TLS, or it never leaves the machine.
pub(crate) fn may_fetch(url: &Url, allow_http: bool) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && (allow_http || is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    // IPv6 hosts stand in brackets.
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The URI as errors and logs may show it: without user, password, query and fragment, where
/// signatures and tokens are.
pub(crate) fn shown(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    if matches!(scheme, "file" | "s3" | "gs" | "az") {
        return uri.to_owned();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, expected: Result<&str, &str>) {
        let got = match Location::parse(uri, false) {
            Ok(Location::Local(path)) => Ok(format!("local {}", path.display())),
            Ok(Location::Remote(Place::Http(url))) => Ok(format!("http {url}")),
            Ok(Location::Remote(Place::Object { store, bucket, key })) => {
                Ok(format!("{store} {bucket} {key}"))
            }
            Err(error) => Err(error.to_string()),
        };
        match expected {
            Ok(expected) => assert_eq!(got.as_deref(), Ok(expected), "{uri}"),
            Err(part) => {
                let message = got.expect_err(uri);
                assert!(message.contains(part), "{uri}: {message}");
            }
        }
    }

    #[test]
    fn table() {
        check("/models/iris.onnx", Ok("local /models/iris.onnx"));
        check("iris.onnx", Ok("local iris.onnx"));
        check("file:///models/a%20b", Ok("local /models/a%20b"));
        check("file://localhost/models", Ok("local /models"));
        check("file://./iris", Ok("local ./iris"));
        check("file://host/iris", Err("file:///models/iris"));
        check("https://h/m.onnx?sig=1", Ok("http https://h/m.onnx?sig=1"));
        check("http://127.0.0.1:9/m", Ok("http http://127.0.0.1:9/m"));
        check("http://[::1]/m", Ok("http http://[::1]/m"));
        check("http://localhost/m", Ok("http http://localhost/m"));
        check("http://example.org/m", Err("use https"));
        check("http://127.0.0.1.example.org/m", Err("use https"));
        check("s3://b/k/m.onnx", Ok("s3 b k/m.onnx"));
        check("s3://b", Ok("s3 b "));
        check("s3:///k", Err("no bucket"));
        check("gs://b/k", Ok("gs b k"));
        check("az://c/k", Ok("az c k"));
        check("hf://org/model", Err("hf download"));
        check("oci://r/m:1", Err("oras pull"));
        check("pvc://claim/x", Err("cluster only"));
        check("mlflow://models/a@b", Err("mlflow artifacts download"));
        check("ftp://h/m", Err("none of file"));
        check("", Err("empty"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let check = |uri, expected| assert_eq!(shown(uri), expected);
        check("https://user:pw@h:1/m?sig=secret#x", "https://h:1/m");
        check("https://h?sig=secret", "https://h");
        check("s3://b/what?.onnx", "s3://b/what?.onnx");
        check("/a?b", "/a?b");
        let error = Location::parse("http://me:pw@example.org/m?k=v", false).unwrap_err();
        assert!(!error.to_string().contains("pw") && !error.to_string().contains("k=v"));
    }
}
