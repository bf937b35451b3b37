//! Just enough of ZIP to read what `numpy.savez` writes: members that are stored or deflated, also
//! in archives above 4 GiB.

use std::io::Read;

use bytes::Bytes;
use flate2::Crc;
use flate2::read::DeflateDecoder;

/// Numbers of section 4.3 and 4.4 of PKWARE's APPNOTE.TXT.
const END: &[u8] = b"PK\x05\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const END_64: &[u8] = b"PK\x06\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const MEMBER: &[u8] = b"PK\x03\x04";
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;
/// In the extra field: sizes that do not fit into 32 bits.
const ZIP_64: u16 = 1;
/// A comment at the end may have this many bytes.
const MAX_COMMENT_BYTES: usize = u16::MAX as usize;

/// A member as the directory describes it.
struct Entry {
    name: String,
    method: u16,
    flags: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
}

/// Names and contents of all members.
pub(super) fn read(archive: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
    let broken = || "this is no whole ZIP archive".to_owned();
    let (mut at, count) = directory(archive).ok_or_else(broken)?;
    let mut members = Vec::new();
    for _ in 0..count {
        let (entry, next) = entry(archive, at).ok_or_else(broken)?;
        members.push((entry.name.clone(), member(archive, &entry)?));
        at = next;
    }
    Ok(members)
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

/// Where the directory begins, and how many entries it has.
fn directory(archive: &[u8]) -> Option<(usize, u64)> {
    let earliest = archive.len().saturating_sub(22usize.saturating_add(MAX_COMMENT_BYTES));
    let tail = archive.get(earliest..)?;
    let end = tail.windows(4).rposition(|window| window == END)?.checked_add(earliest)?;
    let (count, offset) =
        (u16_at(archive, end.checked_add(10)?)?, u32_at(archive, end.checked_add(16)?)?);
    if count != u16::MAX && offset != u32::MAX {
        return Some((usize::try_from(offset).ok()?, u64::from(count)));
    }
    let locator = end.checked_sub(20)?;
    if !archive.get(locator..)?.starts_with(END_64_LOCATOR) {
        return Some((usize::try_from(offset).ok()?, u64::from(count)));
    }
    let end = usize::try_from(u64_at(archive, locator.checked_add(8)?)?).ok()?;
    if !archive.get(end..)?.starts_with(END_64) {
        return None;
    }
    let count = u64_at(archive, end.checked_add(32)?)?;
    Some((usize::try_from(u64_at(archive, end.checked_add(48)?)?).ok()?, count))
}

fn entry(archive: &[u8], at: usize) -> Option<(Entry, usize)> {
    let head = archive.get(at..)?;
    if !head.starts_with(ENTRY) {
        return None;
    }
    let name_end = 46usize.checked_add(usize::from(u16_at(head, 28)?))?;
    let extra_end = name_end.checked_add(usize::from(u16_at(head, 30)?))?;
    let mut entry = Entry {
        name: String::from_utf8_lossy(head.get(46..name_end)?).into_owned(),
        flags: u16_at(head, 8)?,
        method: u16_at(head, 10)?,
        crc: u32_at(head, 16)?,
        packed: u64::from(u32_at(head, 20)?),
        size: u64::from(u32_at(head, 24)?),
        offset: u64::from(u32_at(head, 42)?),
    };
    widen(&mut entry, head.get(name_end..extra_end)?)?;
    let next = extra_end.checked_add(usize::from(u16_at(head, 32)?))?;
    Some((entry, at.checked_add(next)?))
}

/// Replaces the fields that did not fit, in the order that the format gives them.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let end = 4usize.checked_add(usize::from(u16_at(extra, 2)?))?;
        if u16_at(extra, 0)? == ZIP_64 {
            let mut at = 4;
            for field in [&mut entry.size, &mut entry.packed, &mut entry.offset] {
                if *field == u64::from(u32::MAX) {
                    *field = u64_at(extra.get(..end)?, at)?;
                    at = at.checked_add(8)?;
                }
            }
        }
        extra = extra.get(end..)?;
    }
    Some(())
}

fn member(archive: &Bytes, entry: &Entry) -> Result<Bytes, String> {
    let broken = || format!("its member `{}` is cut off", entry.name);
    let content = packed(archive, entry).ok_or_else(broken)?;
    if entry.flags & ENCRYPTED != 0 {
        return Err(format!("its member `{}` is encrypted", entry.name));
    }
    let content = match entry.method {
        STORED => content,
        DEFLATED => {
            let mut inflated = Vec::new();
            // One byte more than announced shows that it lies; no more is unpacked.
            let mut decoder =
                DeflateDecoder::new(content.as_ref()).take(entry.size.saturating_add(1));
            decoder
                .read_to_end(&mut inflated)
                .map_err(|error| format!("its member `{}` is broken: {error}", entry.name))?;
            inflated.into()
        }
        method => {
            return Err(format!("its member `{}` is packed with method {method}", entry.name));
        }
    };
    let mut crc = Crc::new();
    crc.update(&content);
    if content.len() as u64 != entry.size || crc.sum() != entry.crc {
        return Err(format!("its member `{}` is broken: the checksum differs", entry.name));
    }
    Ok(content)
}

fn packed(archive: &Bytes, entry: &Entry) -> Option<Bytes> {
    let at = usize::try_from(entry.offset).ok()?;
    let head = archive.get(at..)?;
    if !head.starts_with(MEMBER) {
        return None;
    }
    let name = usize::from(u16_at(head, 26)?);
    let extra = usize::from(u16_at(head, 28)?);
    let start = at.checked_add(30)?.checked_add(name)?.checked_add(extra)?;
    let end = start.checked_add(usize::try_from(entry.packed).ok()?)?;
    (end <= archive.len()).then(|| archive.slice(start..end))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    /// An archive with these members, as Python's zipfile writes it.
    pub(in super::super) fn archive(members: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
        let (mut out, mut entries) = (Vec::new(), Vec::new());
        for (name, content) in members {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            let packed = if deflate { encoder.finish().unwrap() } else { content.to_vec() };
            let mut crc = Crc::new();
            crc.update(content);
            let method = if deflate { DEFLATED } else { STORED };
            let mut fields = [[20u16, 0, method, 0, 0].map(u16::to_le_bytes).concat()].concat();
            for value in [crc.sum(), packed.len() as u32, content.len() as u32] {
                fields.extend(value.to_le_bytes());
            }
            fields.extend((name.len() as u16).to_le_bytes());
            fields.extend([0; 2]);
            entries.extend([ENTRY, &[20, 0], &fields, &[0; 10]].concat());
            entries.extend((out.len() as u32).to_le_bytes());
            entries.extend(name.as_bytes());
            out.extend([MEMBER, &fields, name.as_bytes(), &packed].concat());
        }
        let start = out.len() as u32;
        let count = (members.len() as u16).to_le_bytes();
        let size = (entries.len() as u32).to_le_bytes();
        out.extend(&entries);
        out.extend([END, &[0; 4], &count, &count, &size, &start.to_le_bytes(), &[0; 2]].concat());
        out
    }

    #[test]
    fn stored_and_deflated() {
        for deflate in [false, true] {
            let bytes = archive(&[("a.npy", b"aaaaaaaaaa"), ("b", b"")], deflate);
            let members = read(&bytes.clone().into()).unwrap();
            let expected = [
                ("a.npy".to_owned(), Bytes::from_static(b"aaaaaaaaaa")),
                ("b".to_owned(), Bytes::new()),
            ];
            assert_eq!(members, expected);
            let mut broken = bytes;
            let at = broken.windows(5).position(|window| window == b"a.npy").unwrap();
            broken[at + 6] ^= 1;
            assert!(read(&broken.into()).unwrap_err().contains("broken"));
        }
        assert!(read(&Bytes::from_static(b"PK\x03\x04")).unwrap_err().contains("no whole"));
    }

    proptest! {
        #[test]
        fn no_change_panics(at in 0usize..150, byte: u8) {
            let mut bytes = archive(&[("a.npy", b"aaaaaaaaaa"), ("b", b"xyz")], true);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = read(&bytes.into());
        }
    }
}
