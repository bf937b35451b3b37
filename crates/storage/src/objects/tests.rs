use std::collections::BTreeSet;

use object_store::memory::InMemory;

use super::*;

/// A directory, and a bucket whose ETag is no checksum.
fn kinds(root: &std::path::Path) -> [Arc<dyn Objects>; 2] {
    let memory = over(Arc::new(InMemory::new()), "some/prefix", "memory".to_owned()).unwrap();
    [open(&format!("file://{}/a/b", root.display()), &Credentials::default()).unwrap(), memory]
}

fn keys(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}

#[tokio::test]
async fn what_is_put_is_there() {
    let root = tempfile::tempdir().unwrap();
    for objects in kinds(root.path()) {
        assert_eq!(objects.list("x").await.unwrap(), []);
        objects.put("x/a/1", Bytes::from_static(b"one")).await.unwrap();
        objects.put("x/2", Bytes::new()).await.unwrap();
        objects.put("xx/3", Bytes::from_static(b"three")).await.unwrap();
        objects.put("x/2", Bytes::from_static(b"two")).await.unwrap();
        let listed = objects.list("x").await.unwrap();
        assert_eq!(keys(&listed), ["x/2", "x/a/1"], "{objects:?}");
        assert_eq!(listed[0].bytes, 3);
        assert_eq!(objects.get("x/2", 3).await.unwrap(), "two");
        let error = objects.get("x/2", 2).await.unwrap_err();
        assert!(matches!(error, StorageError::Object { .. }), "{error}");
        let error = objects.get("x/none", 9).await.unwrap_err();
        assert!(matches!(error, StorageError::NotFound { .. }), "{error}");
        objects.delete("x/2").await.unwrap();
        objects.delete("x/2").await.unwrap();
        assert_eq!(keys(&objects.list("x").await.unwrap()), ["x/a/1"]);
        assert_eq!(objects.list("tmp").await.unwrap(), [], "nothing stays on its way");
        for outside in ["../x", "/x", "x//y", ""] {
            assert!(objects.put(outside, Bytes::new()).await.is_err(), "{outside}");
        }
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creates() {
    let root = tempfile::tempdir().unwrap();
    for objects in kinds(root.path()) {
        let tries: Vec<_> = (0..16u8)
            .map(|n| {
                let objects = Arc::clone(&objects);
                tokio::spawn(async move { objects.create("a/one", vec![n; 9].into()).await })
            })
            .collect();
        let mut winners = BTreeSet::new();
        for (n, done) in tries.into_iter().enumerate() {
            if done.await.unwrap().unwrap() {
                winners.insert(n as u8);
            }
        }
        let held = objects.get("a/one", 9).await.unwrap();
        assert_eq!(winners, BTreeSet::from([held[0]]), "{objects:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_others_empty_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    for objects in kinds(root.path()) {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let objects = Arc::clone(&objects);
                tokio::spawn(async move {
                    let key = format!("a/b/{n}");
                    for _ in 0..50 {
                        objects.put(&key, Bytes::from_static(b"x")).await.unwrap();
                        objects.delete(&key).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(objects.list("a").await.unwrap(), []);
    }
}

#[tokio::test]
async fn addresses_that_cannot_be_written_to() {
    for (uri, part) in [
        ("https://h/x", "cannot be written"),
        ("pvc://claim/x", "cluster only"),
        ("s3://", "no bucket"),
        ("ftp://h/x", "none of file"),
    ] {
        let error = open(uri, &Credentials::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{uri}: {error}");
    }
}

#[tokio::test]
async fn what_an_object_holds_is_compared() {
    let root = tempfile::tempdir().unwrap();
    for objects in kinds(root.path()) {
        assert!(!objects.holds("a/b", Bytes::new()).await.unwrap());
        objects.put("a/b", Bytes::from_static(b"one")).await.unwrap();
        assert!(objects.holds("a/b", Bytes::from_static(b"one")).await.unwrap());
        for other in ["two", "on", "ones", ""] {
            assert!(!objects.holds("a/b", other.into()).await.unwrap(), "{other}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    let uri = format!("{}/file", root.path().display());
    let objects = open(&uri, &Credentials::default()).unwrap();
    let error = objects.put("a/b", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, StorageError::Files { .. }), "{error}");
}
