//! Object stores: S3 against moto's server, Google's and Azure's protocols against a small fake of
//! their list and get calls, because moto does not speak them.

mod moto;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use moto::Moto;
use support::{Reply, Request, Server, content, get, good, options};
use trainyard_storage::{FetchOptions, Fetched, Source, StorageError};

/// One test, because the stores are set up by this process's environment.
#[test]
fn stores() {
    let home = tempfile::tempdir().unwrap();
    let moto = Moto::start(home.path());
    let s3_address = moto.as_ref().map(|moto| format!("http://127.0.0.1:{}", moto.port));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let fake = runtime.block_on(Server::start(fake_store));
    let mut variables = vec![
        ("HOME", home.path().display().to_string()),
        ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "very-secret".to_owned()),
        ("STORAGE_EMULATOR_HOST", fake.address.clone()),
        (
            "AZURE_STORAGE_CONNECTION_STRING",
            format!("AccountName=dev;AccountKey=c2VjcmV0;BlobEndpoint=http://{}", fake.address),
        ),
    ];
    if let Some(address) = &s3_address {
        variables.push(("AWS_ENDPOINT_URL", address.clone()));
    }
    for name in ["AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL_S3", "GOOGLE_SERVICE_ACCOUNT"] {
        // SAFETY: as below.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: this is the program's only test, and the runtime's threads wait for work, so
        // nothing reads the environment at the same time.
        unsafe { std::env::set_var(name, value) };
    }
    runtime.block_on(async {
        match &s3_address {
            Some(address) => s3(address).await,
            None => println!("S3 is not tested: TRAINYARD_TEST_PYTHON is not set"),
        }
        google_and_azure().await;
    });
}

async fn s3(address: &str) {
    // The client that fills the buckets wants it, though it never speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let put = async |path: &str, body: Vec<u8>| {
        let sent = client
            .put(format!("{address}/{path}"))
            // moto takes anybody's word for who asks.
            .header("authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0")
            .body(body);
        assert!(sent.send().await.unwrap().status().is_success(), "{path}");
    };
    let model = content(500_000, 1);
    put("bucket", Vec::new()).await;
    put("bucket/one/model.onnx", model.clone()).await;
    put("bucket/repository/", Vec::new()).await;
    put("bucket/repository/iris/1/model.onnx", model.clone()).await;
    put("bucket/repository/iris/config.pbtxt", b"name: \"iris\"".to_vec()).await;
    put("bucket/repository-2/other", b"not this one".to_vec()).await;

    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let file = get("s3://bucket/one/model.onnx", &options).await.unwrap();
    assert_eq!(file.path.file_name().unwrap(), "model.onnx");
    assert_eq!(fs::read(&file.path).unwrap(), model);
    let again = get("s3://bucket/one/model.onnx", &options).await.unwrap();
    assert_eq!((again.source, again.path), (Source::Cache, file.path));

    for uri in ["s3://bucket/repository", "s3://bucket/repository/"] {
        let folder = get(uri, &options).await.unwrap();
        assert_eq!(tree(&folder), ["iris/1/model.onnx", "iris/config.pbtxt"], "{uri}");
    }
    // One file changes; the other is not fetched again, and the old tree stays as it was.
    let old = get("s3://bucket/repository", &options).await.unwrap();
    put("bucket/repository/iris/config.pbtxt", b"name: \"rose\"".to_vec()).await;
    let new = get("s3://bucket/repository", &options).await.unwrap();
    assert_ne!(old.path, new.path);
    let text = |fetched: &Fetched| fs::read_to_string(fetched.path.join("iris/config.pbtxt"));
    assert_eq!(text(&old).unwrap(), "name: \"iris\"");
    assert_eq!(text(&new).unwrap(), "name: \"rose\"");
    let offline = FetchOptions { offline: true, ..options.clone() };
    assert_eq!(get("s3://bucket/repository", &offline).await.unwrap().path, new.path);

    for missing in ["s3://bucket/none", "s3://nobucket/none"] {
        let error = get(missing, &options).await.unwrap_err();
        assert!(matches!(error, StorageError::NotFound { .. }), "{error}");
    }
}

async fn google_and_azure() {
    for scheme in ["gs", "az"] {
        let cache = tempfile::tempdir().unwrap();
        let options = FetchOptions { attempts: 2, ..options(cache.path()) };
        let file = get(&format!("{scheme}://bucket/m/big.onnx"), &options).await.unwrap();
        assert_eq!(fs::read(&file.path).unwrap(), content(300_000, 9), "{scheme}");
        let folder = get(&format!("{scheme}://bucket/m"), &options).await.unwrap();
        assert_eq!(tree(&folder), ["big.onnx", "sub/small"], "{scheme}");
        let again = get(&format!("{scheme}://bucket/m"), &options).await.unwrap();
        assert_eq!(again.source, Source::Cache, "{scheme}");

        let error = get(&format!("{scheme}://bucket/none"), &options).await.unwrap_err();
        assert!(matches!(error, StorageError::NotFound { .. }), "{scheme}: {error}");
        let error = get(&format!("{scheme}://bucket/evil"), &options).await.unwrap_err();
        assert!(matches!(error, StorageError::UnsafeKey { .. }), "{scheme}: {error}");
        let error = get(&format!("{scheme}://bucket/both"), &options).await.unwrap_err();
        assert!(error.to_string().contains("a file and a folder"), "{scheme}: {error}");
        let error = get(&format!("{scheme}://private/m"), &options).await.unwrap_err();
        assert!(matches!(error, StorageError::Denied { .. }), "{scheme}: {error}");
        assert!(!error.to_string().contains("KEYID"), "{error}");
    }
}

/// Objects by name: a model, and names that no file can have.
fn objects() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("m/", Vec::new()),
        ("m/big.onnx", content(300_000, 9)),
        ("m/sub/small", b"x".to_vec()),
        ("mm", b"another prefix".to_vec()),
        ("evil/../../etc/passwd", b"x".to_vec()),
        ("both/a", b"x".to_vec()),
        ("both/a/b", b"x".to_vec()),
    ])
}

/// The part of Google's XML API and of Azure's Blob API that listing and reading need.
fn fake_store(request: &Request) -> Reply {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    if path.starts_with("/private") {
        let body = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No.</Message>\
                    <AWSAccessKeyId>KEYID</AWSAccessKeyId></Error>";
        return Reply { status: 403, body: body.into(), ..Reply::default() };
    }
    let key = decoded(path.trim_start_matches("/bucket").trim_start_matches('/'));
    let is_azure = query.contains("comp=list");
    if is_azure || query.contains("list-type=2") {
        let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix="));
        let prefix = decoded(prefix.unwrap_or_default());
        return Reply { status: 200, body: listing(&prefix, is_azure).into(), ..Reply::default() };
    }
    let Some(content) = objects().remove(key.as_str()) else {
        return Reply { status: 404, ..Reply::default() };
    };
    let mut reply = good(request, &content, &etag(&content));
    reply.headers.push(("last-modified", "Tue, 24 Nov 2026 10:00:00 GMT".to_owned()));
    reply
}

/// The two codes that the clients write in our names.
fn decoded(text: &str) -> String {
    text.replace("%2F", "/").replace("%2E", ".")
}

fn etag(content: &[u8]) -> String {
    format!("\"{}\"", content.len())
}

fn listing(prefix: &str, is_azure: bool) -> String {
    let all = objects();
    let found = all.iter().filter(|(name, _)| name.starts_with(prefix));
    let entries: String = found
        .map(|(name, content)| {
            let (size, etag) = (content.len(), etag(content).replace('"', "&quot;"));
            if is_azure {
                format!(
                    "<Blob><Name>{name}</Name><Properties>\
                     <Last-Modified>Tue, 24 Nov 2026 10:00:00 GMT</Last-Modified>\
                     <Content-Length>{size}</Content-Length><Content-Type>x</Content-Type>\
                     <Etag>{etag}</Etag></Properties></Blob>"
                )
            } else {
                format!(
                    "<Contents><Key>{name}</Key><Size>{size}</Size><ETag>{etag}</ETag>\
                     <LastModified>2026-11-24T10:00:00.000Z</LastModified></Contents>"
                )
            }
        })
        .collect();
    if is_azure {
        format!("<EnumerationResults><Blobs>{entries}</Blobs><NextMarker/></EnumerationResults>")
    } else {
        format!("<ListBucketResult>{entries}</ListBucketResult>")
    }
}

/// Paths of all files below a fetched folder.
fn tree(fetched: &Fetched) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(&fetched.path, &fetched.path, &mut found);
    found.sort();
    found
}
