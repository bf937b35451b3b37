//! TensorFlow: `PREFIX.index`, a table of where each tensor is, and `PREFIX.data-00000-of-00002` and
//! so on. The table tells how many shards there are and how long each must be.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use super::Missing;
use crate::tree::Tree;

/// At the end of a table (LevelDB's format).
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
const FOOTER_BYTES: u64 = 48;
/// An index of a million tensors.
const MAX_INDEX_BYTES: u64 = 128 << 20;
/// Compression and checksum behind each block.
const TRAILER_BYTES: u64 = 5;

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    let mut is_any = false;
    for path in tree.files.keys() {
        if let Some(prefix) = path.strip_suffix(".index") {
            // Other programs have files of this ending, without shards.
            let begin = format!("{prefix}.data-");
            let has_shards = tree.files.keys().any(|name| name.starts_with(&begin));
            let checked = index(tree, path);
            if !has_shards && checked.is_err() {
                continue;
            }
            is_any = true;
            if let Err(reason) = checked.and_then(|needed| shards(tree, prefix, &needed)) {
                return Some(Err(format!("`{path}`: {reason}")));
            }
        } else if let Some((prefix, numbers)) = path.split_once(".data-")
            && is_shard(numbers)
        {
            is_any = true;
            if !tree.files.contains_key(&format!("{prefix}.index")) {
                return Some(Err(format!("`{prefix}.index`, which is written last, is not there")));
            }
        }
    }
    is_any.then_some(Ok(()))
}

/// `00000-of-00002`.
pub(crate) fn is_shard(numbers: &str) -> bool {
    numbers.split_once("-of-").is_some_and(|(index, of)| {
        [index, of].iter().all(|it| it.len() == 5 && it.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn index(tree: &Tree, path: &str) -> Result<Needed, String> {
    let bytes = tree.files.get(path).map_or(0, |stat| stat.bytes);
    let mut file = tree.open(path).map_err(|error| error.to_string())?;
    read_index(&mut file, bytes)
}

fn shards(tree: &Tree, prefix: &str, needed: &Needed) -> Result<(), String> {
    for shard in 0..needed.shards {
        let name = format!("{prefix}.data-{shard:05}-of-{:05}", needed.shards);
        let Some(stat) = tree.files.get(&name) else {
            return Err(format!("`{name}` is not there"));
        };
        let least = needed.least.get(&shard).copied().unwrap_or_default();
        if stat.bytes < least {
            return Err(format!("`{name}` has {} bytes, its tensors take {least}", stat.bytes));
        }
    }
    Ok(())
}

/// What an index says of its shards.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) shards: u32,
    /// Where the last tensor of each ends.
    pub(crate) least: BTreeMap<u32, u64>,
}

/// Reads an index file.
pub(crate) fn read_index(file: &mut (impl Read + Seek), bytes: u64) -> Result<Needed, String> {
    let cut = || "it is cut short".to_owned();
    if !(FOOTER_BYTES..=MAX_INDEX_BYTES).contains(&bytes) {
        return Err(cut());
    }
    let mut table = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    file.take(bytes).read_to_end(&mut table).map_err(|error| error.to_string())?;
    let footer = table.len().checked_sub(FOOTER_BYTES as usize).and_then(|at| table.get(at..));
    let mut footer = footer.filter(|it| it.ends_with(&MAGIC.to_le_bytes())).ok_or_else(cut)?;
    let _meta = handle(&mut footer).ok_or_else(cut)?;
    let blocks = handle(&mut footer).ok_or_else(cut)?;
    let mut needed = None;
    let mut least = BTreeMap::new();
    let mut shard_of_all = 0;
    for (_, place) in entries(block(&table, blocks)?)? {
        let place = handle(&mut place.as_slice()).ok_or_else(cut)?;
        for (key, value) in entries(block(&table, place)?)? {
            if key.is_empty() {
                needed = fields(&value).ok_or_else(cut)?.get(&1).copied().or(Some(1));
                continue;
            }
            // BundleEntryProto: shard_id is 3, offset 4, size 5.
            let entry = fields(&value).ok_or_else(cut)?;
            let field = |number: u64| entry.get(&number).copied().unwrap_or_default();
            let shard = u32::try_from(field(3)).map_err(|_| cut())?;
            shard_of_all = shard_of_all.max(shard);
            let end = field(4).checked_add(field(5)).ok_or_else(cut)?;
            let most = least.entry(shard).or_insert(0u64);
            *most = (*most).max(end);
        }
    }
    let shards = needed.and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 99_999);
    let shards = shards.ok_or("it does not say how many shards there are")?;
    if shard_of_all >= shards.max(1) {
        return Err("it names a shard that it does not have".to_owned());
    }
    Ok(Needed { shards, least })
}

/// Offset and length of a block.
fn handle(bytes: &mut &[u8]) -> Option<(u64, u64)> {
    Some((varint(bytes)?, varint(bytes)?))
}

fn block(table: &[u8], (at, length): (u64, u64)) -> Result<&[u8], String> {
    let cut = || "a block of it is cut short".to_owned();
    let end = at.checked_add(length).ok_or_else(cut)?;
    let trailer = end.checked_add(TRAILER_BYTES).ok_or_else(cut)?;
    let whole = usize::try_from(at).ok().zip(usize::try_from(trailer).ok());
    let whole = whole.and_then(|(from, to)| table.get(from..to)).ok_or_else(cut)?;
    let (data, trailer) = whole.split_at_checked(length as usize).ok_or_else(cut)?;
    // Its writer does not compress.
    if trailer.first() != Some(&0) {
        return Err("a block of it is compressed".to_owned());
    }
    Ok(data)
}

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// Keys and values of a block. Keys share their beginning with the one before.
fn entries(block: &[u8]) -> Result<Vec<Entry>, String> {
    let cut = || "a block of it is cut short".to_owned();
    let count = block.len().checked_sub(4).and_then(|at| block.get(at..)).ok_or_else(cut)?;
    let restarts = u32::from_le_bytes(count.try_into().map_err(|_| cut())?) as usize;
    let end = restarts.checked_mul(4).and_then(|it| block.len().checked_sub(it)?.checked_sub(4));
    let mut rest = end.and_then(|end| block.get(..end)).ok_or_else(cut)?;
    let mut found: Vec<Entry> = Vec::new();
    // Keys that repeat a long one must not make memory grow beyond the file's own size.
    let mut room = MAX_INDEX_BYTES;
    while !rest.is_empty() {
        let mut number = || usize::try_from(varint(&mut rest)?).ok();
        let (shared, own, length) =
            (|| Some((number()?, number()?, number()?)))().ok_or_else(cut)?;
        let before = found.last().map(|(key, _)| key.as_slice()).unwrap_or_default();
        let begin = before.get(..shared).ok_or_else(cut)?;
        let (key, behind) = rest.split_at_checked(own).ok_or_else(cut)?;
        let (value, behind) = behind.split_at_checked(length).ok_or_else(cut)?;
        room = room.checked_sub((shared + own + length + 48) as u64).ok_or_else(cut)?;
        found.push(([begin, key].concat(), value.to_vec()));
        rest = behind;
    }
    Ok(found)
}

/// The numbers among a message's fields, by field number.
fn fields(mut message: &[u8]) -> Option<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skip = match tag & 7 {
            0 => {
                found.insert(tag >> 3, varint(&mut message)?);
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skip..)?;
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
