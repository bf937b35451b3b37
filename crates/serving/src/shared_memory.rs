//! POSIX shared memory that clients on the same machine put tensors into and take outputs from.
//!
//! A region is read and written through its file descriptor rather than mapped: one copy either
//! way, and a client that shrinks the object or writes to it meanwhile can cause an error or odd
//! numbers in its own answer, but no fault in this process.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rustix::fs::Mode;
use rustix::shm;

use crate::error::InferError;

/// The registered regions. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub struct SharedMemory {
    regions: Arc<RwLock<BTreeMap<String, Region>>>,
}

/// What a client registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionInfo {
    /// The name by which requests refer to the region.
    pub name: String,
    /// The name of the shared memory object, such as `/input_data`.
    pub key: String,
    /// Where the region starts in the object, in bytes.
    pub offset: u64,
    /// Length of the region, in bytes.
    pub byte_size: u64,
}

#[derive(Debug, Clone)]
struct Region {
    info: RegionInfo,
    object: Arc<File>,
}

/// A run of bytes within a region, as requests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub region: String,
    /// From the region's start, in bytes.
    pub offset: u64,
    /// Length in bytes; for an output the most that may be written.
    pub byte_size: u64,
}

impl SharedMemory {
    /// Makes part of a shared memory object known under a name.
    pub fn register(&self, info: RegionInfo) -> Result<(), InferError> {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if regions.contains_key(&info.name) {
            return Err(InferError::AlreadyExists(format!(
                "shared memory region '{}' already in manager",
                info.name
            )));
        }
        let object = open(&info.key)?;
        let available = object.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        let end = info.offset.checked_add(info.byte_size);
        if info.byte_size == 0 || end.is_none_or(|end| end > available) {
            return Err(InferError::Invalid(format!(
                "failed to register shared memory region '{}': invalid args: {} bytes from offset \
                 {} were asked for, '{}' has {available}",
                info.name, info.byte_size, info.offset, info.key
            )));
        }
        regions.insert(info.name.clone(), Region { info, object: Arc::new(object) });
        Ok(())
    }

    /// Forgets one region, or all for `None`. A region that is not known is forgotten already.
    pub fn unregister(&self, name: Option<&str>) {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        match name {
            Some(name) => drop(regions.remove(name)),
            None => regions.clear(),
        }
    }

    /// One region, or all for `None`, by name.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<RegionInfo>, InferError> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = name else {
            return Ok(regions.values().map(|region| region.info.clone()).collect());
        };
        let region = regions.get(name).ok_or_else(|| {
            InferError::NotFound(format!("Unable to find system shared memory region: '{name}'"))
        })?;
        Ok(vec![region.info.clone()])
    }

    /// Copies a slice out of its region.
    pub fn read(&self, slice: &Slice) -> Result<Bytes, InferError> {
        let (region, start) = self.find(slice)?;
        let length = usize::try_from(slice.byte_size)
            .map_err(|_| InferError::Invalid("the slice exceeds the address space".to_owned()))?;
        let mut bytes = vec![0; length];
        region.object.read_exact_at(&mut bytes, start).map_err(|error| {
            InferError::Invalid(format!(
                "cannot read {length} bytes of shared memory region '{}': {error}",
                slice.region
            ))
        })?;
        Ok(Bytes::from(bytes))
    }

    /// Copies bytes to the start of a slice.
    pub fn write(&self, slice: &Slice, bytes: &[u8]) -> Result<(), InferError> {
        let (region, start) = self.find(slice)?;
        if bytes.len() as u64 > slice.byte_size {
            return Err(InferError::Invalid(format!(
                "{} bytes of region '{}' were given, {} are needed",
                slice.byte_size,
                slice.region,
                bytes.len()
            )));
        }
        region.object.write_all_at(bytes, start).map_err(|error| {
            InferError::Internal(format!(
                "cannot write {} bytes to shared memory region '{}': {error}",
                bytes.len(),
                slice.region
            ))
        })
    }

    /// The region of a slice, and where in the object the slice starts.
    fn find(&self, slice: &Slice) -> Result<(Region, u64), InferError> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let region = regions.get(&slice.region).ok_or_else(|| {
            InferError::Invalid(format!("Unable to find shared memory region: '{}'", slice.region))
        })?;
        let end = slice.offset.checked_add(slice.byte_size);
        let start = region.info.offset.checked_add(slice.offset);
        match (end, start) {
            (Some(end), Some(start)) if end <= region.info.byte_size => Ok((region.clone(), start)),
            _ => Err(InferError::Invalid(format!(
                "Invalid offset + byte size for shared memory region: '{}': {} bytes from offset \
                 {} were asked for, the region has {}",
                slice.region, slice.byte_size, slice.offset, region.info.byte_size
            ))),
        }
    }
}

/// Opens a shared memory object. Its name has no `/` but the first, so it cannot leave the folder
/// where the system keeps such objects.
fn open(key: &str) -> Result<File, InferError> {
    let name = key.strip_prefix('/').unwrap_or(key);
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(InferError::Invalid(format!(
            "'{key}' is not the name of a shared memory object: expected one `/` and a name"
        )));
    }
    let object =
        shm::open(format!("/{name}"), shm::OFlags::RDWR, Mode::empty()).map_err(|error| {
            InferError::Invalid(format!("Unable to open shared memory region: '{key}': {error}"))
        })?;
    Ok(File::from(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shared memory object that is removed at the end of the test.
    struct Object(String);

    impl Object {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let key = format!("/trainyard-test-{}-{name}", std::process::id());
            let flags = shm::OFlags::RDWR | shm::OFlags::CREATE | shm::OFlags::EXCL;
            let object = shm::open(&key, flags, Mode::RUSR | Mode::WUSR).expect("creates");
            File::from(object).write_all_at(bytes, 0).expect("writes");
            Self(key)
        }

        fn region(&self, name: &str, offset: u64, byte_size: u64) -> RegionInfo {
            RegionInfo { name: name.to_owned(), key: self.0.clone(), offset, byte_size }
        }
    }

    impl Drop for Object {
        fn drop(&mut self) {
            shm::unlink(&self.0).expect("removes");
        }
    }

    fn slice(region: &str, offset: u64, byte_size: u64) -> Slice {
        Slice { region: region.to_owned(), offset, byte_size }
    }

    #[test]
    fn reads_and_writes_within_the_region() {
        let object = Object::new("rw", b"0123456789");
        let memory = SharedMemory::default();
        memory.register(object.region("r", 2, 6)).expect("registers");

        assert_eq!(memory.read(&slice("r", 1, 3)).expect("reads"), "345".as_bytes());
        memory.write(&slice("r", 4, 2), b"ab").expect("writes");
        assert_eq!(memory.read(&slice("r", 0, 6)).expect("reads"), "2345ab".as_bytes());

        assert_eq!(memory.status(None).expect("lists"), [object.region("r", 2, 6)]);
        assert_eq!(memory.status(Some("r")).expect("finds").len(), 1);
        memory.unregister(Some("r"));
        memory.unregister(Some("r"));
        assert!(memory.read(&slice("r", 0, 1)).is_err());
        assert!(matches!(memory.status(Some("r")), Err(InferError::NotFound(_))));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let object = Object::new("refuse", b"0123456789");
        let memory = SharedMemory::default();
        memory.register(object.region("r", 0, 10)).expect("registers");

        let cases: [(&str, Result<(), InferError>, &str); 8] = [
            ("twice", memory.register(object.region("r", 0, 10)), "already in manager"),
            ("too long", memory.register(object.region("s", 5, 6)), "has 10"),
            ("overflow", memory.register(object.region("s", u64::MAX, 2)), "invalid args"),
            ("empty", memory.register(object.region("s", 0, 0)), "invalid args"),
            ("past the end", memory.read(&slice("r", 8, 3)).map(drop), "the region has 10"),
            ("overflow", memory.read(&slice("r", u64::MAX, 1)).map(drop), "Invalid offset"),
            ("unknown", memory.read(&slice("x", 0, 1)).map(drop), "Unable to find"),
            ("too many bytes", memory.write(&slice("r", 0, 2), b"abc"), "3 are needed"),
        ];
        for (what, result, part) in cases {
            let error = result.expect_err(what).to_string();
            assert!(error.contains(part), "{what}: {error}");
        }
        for key in ["", "/", "..", "/..", "/../etc/passwd", "a/b", "/nul\0", "/none-of-this-name"] {
            let info = RegionInfo { key: key.to_owned(), ..object.region("k", 0, 1) };
            assert!(memory.register(info).is_err(), "{key:?}");
        }
    }

    #[test]
    fn an_object_that_shrank_is_an_error() {
        let object = Object::new("shrink", b"0123456789");
        let memory = SharedMemory::default();
        memory.register(object.region("r", 0, 10)).expect("registers");
        let file = open(&object.0).expect("opens");
        file.set_len(4).expect("shrinks");
        let error = memory.read(&slice("r", 0, 10)).expect_err("too short");
        assert!(error.to_string().contains("cannot read 10 bytes"), "{error}");
    }
}
