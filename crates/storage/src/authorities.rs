//! The authorities by whose certificates a store shows that it is the one that was asked for.
//!
//! They are the system's. An image may have none, and the agent that is brought into it brings a file
//! of them, which is used there and nowhere else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the file is called, in the folder of the program.
pub const FILE: &str = "certificates.pem";
/// Variables by which a person names the system's, as OpenSSL knows them.
const NAMED_BY: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Those that a client is to trust beside the system's, in PEM: none where the system has any.
pub(crate) fn brought() -> Result<Option<Vec<u8>>, String> {
    let system = rustls_native_certs::load_native_certs();
    if !system.certs.is_empty() {
        return Ok(None);
    }
    let named = NAMED_BY.into_iter().find_map(|name| Some((name, std::env::var_os(name)?)));
    // Of a program that its loader starts, the loader's folder.
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    of(named, folder, system.errors.first().map(ToString::to_string))
}

/// Whoever names some means those, and no others.
fn of(
    named: Option<(&str, OsString)>,
    folder: Option<PathBuf>,
    error: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    if let Some((name, value)) = named {
        let value = value.display();
        let why = error.map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!(
            "`{name}={value}` names no certificates of authorities that can be read, by which a store is known{why}"
        ));
    }
    match folder.and_then(|folder| std::fs::read(folder.join(FILE)).ok()) {
        Some(brought) => Ok(Some(brought)),
        None => Err(
            "this system, or image, has no certificates of authorities, by which a store is known; install its package `ca-certificates`, or name a file of them in SSL_CERT_FILE"
                .to_owned(),
        ),
    }
}

#[test]
fn what_is_brought_is_for_systems_without() {
    let folder = tempfile::tempdir().unwrap();
    let here = || Some(folder.path().to_owned());
    let error = of(None, here(), None).unwrap_err();
    assert!(error.contains("`ca-certificates`"), "{error}");
    std::fs::write(folder.path().join(FILE), "pem").unwrap();
    assert_eq!(of(None, here(), None), Ok(Some(b"pem".to_vec())));
    let named = Some(("SSL_CERT_FILE", "/nowhere".into()));
    let error = of(named, here(), Some("not found".to_owned())).unwrap_err();
    assert!(error.starts_with("`SSL_CERT_FILE=/nowhere` names no"), "{error}");
    assert!(error.ends_with(": not found"), "{error}");
    assert!(of(None, None, None).is_err());
}
