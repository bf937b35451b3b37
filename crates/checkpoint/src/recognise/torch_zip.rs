//! Files of `torch.save`: zip files, whose directory stands at the end, so one that is cut short has
//! none. Members are stored, not compressed.

use std::io::{Read, Seek, SeekFrom};

use super::Missing;
use crate::tree::Tree;

/// Endings under which `torch.save` files are found (Lightning writes `.ckpt`).
const ENDINGS: [&str; 4] = [".pt", ".pth", ".bin", ".ckpt"];
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
/// The end record, and the longest comment behind it.
const MAX_END_BYTES: u64 = 22 + 65_535;
/// A directory of a million members.
const MAX_DIRECTORY_BYTES: u64 = 128 << 20;
/// Members this small are read and compared with their CRC-32: the pickle, the version, and small
/// tensors.
const CHEAP_MEMBER_BYTES: u64 = 64 << 10;
/// In all, so that a look takes milliseconds.
const CHEAP_BYTES: u64 = 4 << 20;

pub(super) fn check(tree: &Tree) -> Option<Result<(), Missing>> {
    let mut is_any = false;
    for (path, stat) in &tree.files {
        if !ENDINGS.iter().any(|ending| path.ends_with(ending)) {
            continue;
        }
        let checked = tree.open(path).map_err(|error| error.to_string()).and_then(|mut file| {
            let mut first = [0; 4];
            // An empty file is one that is being written.
            file.read_exact(&mut first).map_err(|_| "it is cut short".to_owned())?;
            // Before torch 1.6 it was a bare pickle; others use these endings too.
            if u32::from_le_bytes(first) != LOCAL {
                return Ok(false);
            }
            check_file(&mut file, stat.bytes).map(|()| true)
        });
        match checked {
            Ok(is_zip) => is_any |= is_zip,
            Err(reason) => return Some(Err(format!("`{path}`: {reason}"))),
        }
    }
    is_any.then_some(Ok(()))
}

struct Member {
    header_at: u64,
    bytes: u64,
    crc: u32,
    is_stored: bool,
}

/// Checks that the directory is whole, that every member lies before it, and the small members'
/// checksums.
pub(crate) fn check_file(file: &mut (impl Read + Seek), bytes: u64) -> Result<(), String> {
    let directory = find_directory(file, bytes)?;
    let members = read_directory(file, &directory)?;
    let mut budget = CHEAP_BYTES;
    let (mut right, mut wrong) = (0u32, 0u32);
    for member in &members {
        let data_at = data_at(file, member)?;
        let end = data_at.checked_add(member.bytes);
        if end.is_none_or(|end| end > directory.at) {
            return Err("a member does not fit into the file".to_owned());
        }
        if !member.is_stored || member.bytes > CHEAP_MEMBER_BYTES.min(budget) {
            continue;
        }
        budget = budget.saturating_sub(member.bytes);
        let data = read_at(file, data_at, member.bytes)?;
        match crc32fast::hash(&data) == member.crc {
            true => right = right.saturating_add(1),
            false => wrong = wrong.saturating_add(1),
        }
    }
    // A writer may be told to compute none (`torch.serialization.set_crc32_options`); then none fits.
    if wrong > 0 && right > 0 {
        return Err("a member is not what its checksum says".to_owned());
    }
    Ok(())
}

struct Directory {
    at: u64,
    bytes: u64,
    members: u64,
}

fn find_directory(file: &mut (impl Read + Seek), bytes: u64) -> Result<Directory, String> {
    let none = || "it has no zip directory at its end: it is cut short".to_owned();
    let tail_at = bytes.saturating_sub(MAX_END_BYTES);
    let tail = read_at(file, tail_at, bytes.saturating_sub(tail_at))?;
    // The last record whose comment ends with the file.
    let at = (0..=tail.len().saturating_sub(22)).rev().find(|at| {
        let comment = u16_at(&tail, at.saturating_add(20));
        u32_at(&tail, *at) == Some(END)
            && comment.is_some_and(|n| at.saturating_add(22 + usize::from(n)) == tail.len())
    });
    let at = at.ok_or_else(none)?;
    let short = |offset: usize| u16_at(&tail, at.saturating_add(offset)).ok_or_else(none);
    let word = |offset: usize| u32_at(&tail, at.saturating_add(offset)).ok_or_else(none);
    let mut directory =
        Directory { at: word(16)?.into(), bytes: word(12)?.into(), members: short(10)?.into() };
    let end_at = tail_at.saturating_add(at as u64);
    let mut ends_before = end_at;
    if let Some(locator_at) = end_at.checked_sub(20) {
        let locator = read_at(file, locator_at, 20)?;
        if u32_at(&locator, 0) == Some(LOCATOR_64) {
            ends_before = u64_at(&locator, 8).filter(|at| *at < locator_at).ok_or_else(none)?;
            let record = read_at(file, ends_before, 56)?;
            if u32_at(&record, 0) != Some(END_64) {
                return Err(none());
            }
            let long = |offset| u64_at(&record, offset).ok_or_else(none);
            directory = Directory { at: long(48)?, bytes: long(40)?, members: long(32)? };
        }
    }
    if directory.at.checked_add(directory.bytes).is_none_or(|end| end > ends_before) {
        return Err(none());
    }
    Ok(directory)
}

fn read_directory(
    file: &mut (impl Read + Seek),
    directory: &Directory,
) -> Result<Vec<Member>, String> {
    if directory.bytes > MAX_DIRECTORY_BYTES {
        return Err("its zip directory is larger than any".to_owned());
    }
    let cut = || "its zip directory is cut short".to_owned();
    let bytes = read_at(file, directory.at, directory.bytes)?;
    let mut members = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        if u32_at(rest, 0) != Some(CENTRAL) {
            return Err(cut());
        }
        let short = |at| u16_at(rest, at).map(usize::from).ok_or_else(cut);
        let word = |at| u32_at(rest, at).ok_or_else(cut);
        let (name, extra, comment) = (short(28)?, short(30)?, short(32)?);
        let extra_at = 46usize.saturating_add(name);
        let end = extra_at.saturating_add(extra);
        let fields = rest.get(extra_at..end).ok_or_else(cut)?;
        let (packed, unpacked, at) = (word(20)?, word(24)?, word(42)?);
        let mut large = large_values(fields);
        // In this order, and only those that do not fit (APPNOTE 4.5.3).
        let mut value = |small: u32| match small {
            u32::MAX => large.next().ok_or_else(cut),
            small => Ok(small.into()),
        };
        let _unpacked = value(unpacked)?;
        let packed = value(packed)?;
        let header_at = value(at)?;
        members.push(Member {
            header_at,
            bytes: packed,
            crc: word(16)?,
            is_stored: short(10)? == 0,
        });
        rest = rest.get(end.saturating_add(comment)..).ok_or_else(cut)?;
    }
    if members.len() as u64 != directory.members {
        return Err(cut());
    }
    Ok(members)
}

/// The 64-bit values in the extra field of that kind.
fn large_values(mut fields: &[u8]) -> impl Iterator<Item = u64> {
    let mut values: &[u8] = &[];
    while let (Some(kind), Some(length)) = (u16_at(fields, 0), u16_at(fields, 2)) {
        let end = 4 + usize::from(length);
        if kind == 1 {
            values = fields.get(4..end).unwrap_or_default();
            break;
        }
        fields = fields.get(end..).unwrap_or_default();
    }
    values.chunks_exact(8).filter_map(|bytes| u64_at(bytes, 0))
}

/// Where a member's data begins.
fn data_at(file: &mut (impl Read + Seek), member: &Member) -> Result<u64, String> {
    let header = read_at(file, member.header_at, 30)?;
    let (Some(LOCAL), Some(name), Some(extra)) =
        (u32_at(&header, 0), u16_at(&header, 26), u16_at(&header, 28))
    else {
        return Err("a member is not where the zip directory says".to_owned());
    };
    let skip = 30u64.saturating_add(name.into()).saturating_add(extra.into());
    Ok(member.header_at.saturating_add(skip))
}

/// Callers bound `length`.
fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let sought = file.seek(SeekFrom::Start(at));
    let read = sought.and_then(|_| file.take(length).read_to_end(&mut bytes));
    match read {
        Ok(n) if n as u64 == length => Ok(bytes),
        Ok(_) => Err("it is cut short".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
