//! Safetensors: the header tells where each tensor is, so the file's length follows from it. Sharded
//! ones have an index that names all files.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Missing, folder_of};
use crate::tree::Tree;

/// The format's own limit of a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// More tensors than any model has, so that memory stays bounded.
const MAX_TENSORS: usize = 1_000_000;
const MAX_INDEX_BYTES: u64 = 256 << 20;

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    let mut is_any = false;
    for (path, stat) in &tree.files {
        let checked = if path.ends_with(".safetensors") {
            let opened = tree.open(path).map_err(|error| error.to_string());
            opened.and_then(|file| check_file(BufReader::new(file), stat.bytes))
        } else if path.ends_with(".safetensors.index.json") {
            let opened = tree.open(path).map_err(|error| error.to_string());
            opened.and_then(named_files).and_then(|names| {
                let missing = names
                    .into_iter()
                    .find(|name| !tree.files.contains_key(&format!("{}{name}", folder_of(path))));
                missing.map_or(Ok(()), |name| Err(format!("it names `{name}`, which is not there")))
            })
        } else {
            continue;
        };
        is_any = true;
        if let Err(reason) = checked {
            return Some(Err(format!("`{path}`: {reason}")));
        }
    }
    is_any.then_some(Ok(()))
}

/// Checks that the header is whole and that the tensors fill the rest of the file, without gaps.
pub(crate) fn check_file(mut file: impl Read, bytes: u64) -> Result<(), String> {
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| "it is shorter than its header's length".to_owned())?;
    let length = u64::from_le_bytes(length);
    let data = bytes.checked_sub(8).and_then(|rest| rest.checked_sub(length));
    let Some(data) = data.filter(|_| length <= MAX_HEADER_BYTES) else {
        return Err(format!("its header of {length} bytes does not fit into {bytes}"));
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(file.take(length)));
    let mut ranges = Vec::new();
    json.deserialize_map(Header(&mut ranges))
        .map_err(|error| format!("its header cannot be read: {error}"))?;
    ranges.sort_unstable();
    let mut end = 0;
    for (begin, next) in ranges {
        if begin != end || next < begin {
            return Err(format!("its tensors leave a gap or overlap at byte {end}"));
        }
        end = next;
    }
    if end != data {
        return Err(format!("it has {data} bytes of tensors, its header tells of {end}"));
    }
    Ok(())
}

/// Collects where tensors are, and keeps nothing else.
struct Header<'a>(&'a mut Vec<(u64, u64)>);

#[derive(Deserialize)]
struct Tensor {
    data_offsets: (u64, u64),
}

/// One entry: a tensor, or the texts under `__metadata__`.
struct Entry<'a> {
    is_metadata: bool,
    ranges: &'a mut Vec<(u64, u64)>,
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let is_metadata = name == "__metadata__";
            map.next_value_seed(Entry { is_metadata, ranges: self.0 })?;
            if self.0.len() > MAX_TENSORS {
                return Err(serde::de::Error::custom("it has too many tensors"));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.is_metadata {
            return IgnoredAny::deserialize(deserializer).map(|_| ());
        }
        self.ranges.push(Tensor::deserialize(deserializer)?.data_offsets);
        Ok(())
    }
}

/// The files that an index names.
pub(crate) fn named_files(file: impl Read) -> Result<BTreeSet<String>, String> {
    struct Names(BTreeSet<String>);

    impl<'de> Deserialize<'de> for Names {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Collect;

            impl<'de> Visitor<'de> for Collect {
                type Value = Names;

                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("a map of tensors to files")
                }

                fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Names, M::Error> {
                    let mut names = BTreeSet::new();
                    while let Some((_, file)) = map.next_entry::<IgnoredAny, String>()? {
                        names.insert(file);
                    }
                    Ok(Names(names))
                }
            }

            deserializer.deserialize_map(Collect)
        }
    }

    #[derive(Deserialize)]
    struct Index {
        weight_map: Names,
    }

    let reader = BufReader::new(file.take(MAX_INDEX_BYTES));
    let index: Index = serde_json::from_reader(reader)
        .map_err(|error| format!("the index cannot be read: {error}"))?;
    Ok(index.weight_map.0)
}
