//! Parts of files, in memory that disks can reach directly.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

/// What every disk and file system takes as a border of memory and of places in a file, where bytes go past
/// the page cache (open(2), `O_DIRECT`).
pub(crate) const BLOCK: usize = 4096;

/// Reads so many bytes of a file from a place on; less where the file ends before. They begin at a multiple
/// of [`BLOCK`] in memory, so that they can be written past the page cache.
pub fn read_part(file: &File, at: u64, bytes: u64) -> io::Result<Bytes> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut buffer = vec![0; length.saturating_add(BLOCK)];
    let begin = buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
    let end = begin.saturating_add(length);
    let mut filled = begin;
    while let Some(rest) = buffer.get_mut(filled..end).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at.saturating_add(filled.saturating_sub(begin) as u64)) {
            Ok(0) => break,
            Ok(n) => filled = filled.saturating_add(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from(buffer).slice(begin..filled))
}

#[test]
fn parts_begin_at_borders_and_end_with_the_file() {
    let file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    file.write_all_at(&content, 0).unwrap();
    for (at, bytes) in [(0, 10_000), (1, 4096), (9_999, 5), (20_000, 5), (3, 0)] {
        let part = read_part(&file, at, bytes).unwrap();
        let (from, to) = (at.min(10_000) as usize, (at + bytes).min(10_000) as usize);
        assert_eq!(part, content[from..to], "{at}");
        assert!(part.is_empty() || part.as_ptr().align_offset(BLOCK) == 0, "{at}");
    }
}
