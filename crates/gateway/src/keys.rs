//! Who calls: API keys, compared by digest in constant time.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use crate::table::{Access, ApiKey};

/// The other place for a key, besides `authorization: Bearer`; the same in gRPC metadata.
const X_API_KEY: &str = "x-api-key";

/// The owner of the key in the headers, if one of the service's keys is there.
pub(crate) fn owner<'a>(access: &'a Access, headers: &HeaderMap) -> Option<&'a ApiKey> {
    let digest: [u8; 32] = Sha256::digest(presented(headers)?).into();
    let mut found = None;
    // All keys are looked at, whole, so that the time says nothing about which ones exist.
    for key in &access.api_keys {
        let different = key.sha256.iter().zip(&digest).fold(0, |sum, (a, b)| sum | (a ^ b));
        if std::hint::black_box(different) == 0 {
            found = Some(key);
        }
    }
    found
}

/// Removes keys, which are the gateway's business and no replica's.
pub(crate) fn strip(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(X_API_KEY);
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(X_API_KEY) {
        return Some(key.as_bytes());
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let key = |name: &str, secret: &str| ApiKey {
            name: name.into(),
            sha256: Sha256::digest(secret).into(),
        };
        Access { api_keys: vec![key("ann", "secret-a"), key("bob", "secret-b")] }
    }

    #[track_caller]
    fn check(name: &'static str, value: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let access = access();
        assert_eq!(owner(&access, &headers).map(|key| key.name.as_str()), expected);
        strip(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn table() {
        check("authorization", "Bearer secret-a", Some("ann"));
        check("authorization", "bearer  secret-b", Some("bob"));
        check("x-api-key", "secret-b", Some("bob"));
        check("x-api-key", "secret-c", None);
        check("x-api-key", "", None);
        check("authorization", "Basic secret-a", None);
        check("authorization", "Bearer", None);
        assert_eq!(owner(&access(), &HeaderMap::new()).map(|key| key.name.as_str()), None);
    }
}
