//! Files read and written past the page cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::part::{BLOCK, read_part};

/// Fewer bytes go through the page cache.
pub(crate) const DIRECT_BYTES: usize = 1 << 20;

/// Whether what is read and written goes past the page cache from now on, or no more; some file systems let
/// nothing.
fn set_direct(file: &File, is_direct: bool) -> bool {
    #[cfg(target_os = "linux")]
    if let Ok(mut flags) = rustix::fs::fcntl_getfl(file) {
        flags.set(rustix::fs::OFlags::DIRECT, is_direct);
        return rustix::fs::fcntl_setfl(file, flags).is_ok();
    }
    let _ = (file, is_direct);
    false
}

/// Writes a part of a file past the page cache, if its bytes lie so that they may be (as those of
/// [`read_part`] and of [`Objects::get`](crate::objects::Objects::get) do, at a multiple of 4096 bytes), and
/// are enough that it pays: no processor copies them, none has to look for pages and free them again, and
/// they come to lie in one piece on the disk. `false`, and what is there is of no use, where they do not, or
/// the file system takes none that way.
pub fn write_past_the_cache(file: &File, bytes: &[u8], at: u64) -> io::Result<bool> {
    let is_aligned = bytes.as_ptr().align_offset(BLOCK) == 0 && at.is_multiple_of(BLOCK as u64);
    let is_worth_it = bytes.len() >= DIRECT_BYTES && is_aligned;
    if !is_worth_it || !set_direct(file, true) {
        return Ok(false);
    }
    let blocks = bytes.len().saturating_sub(bytes.len() % BLOCK);
    let (whole, end) = bytes.split_at_checked(blocks).unwrap_or((bytes, &[]));
    let written = file.write_all_at(whole, at);
    set_direct(file, false);
    match written {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
        written => written?,
    }
    // What is no whole block.
    file.write_all_at(end, at.saturating_add(blocks as u64))?;
    Ok(true)
}

/// Reads a file of so many bytes past the page cache, where that pays and the file system lets it.
pub(crate) fn read_past_the_cache(file: &File, bytes: u64) -> io::Result<Option<Bytes>> {
    if bytes < DIRECT_BYTES as u64 || !set_direct(file, true) {
        return Ok(None);
    }
    // The last block is asked for as a whole.
    let read = read_part(file, 0, bytes.next_multiple_of(BLOCK as u64));
    set_direct(file, false);
    match read {
        Ok(read) => Ok(Some(read.slice(..read.len().min(bytes as usize)))),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

#[test]
fn parts_come_to_their_places() {
    // The disk that cargo builds on, since memory's file system may take nothing past the cache.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let source = tempfile::tempfile().unwrap();
    source.write_all_at(&content, 0).unwrap();
    let path = folder.path().join("direct");
    let direct = File::create(&path).unwrap();
    let aligned = read_part(&source, 0, 3_000_000).unwrap();
    let at = BLOCK * 3;
    // None of these may: where bytes are in memory, where they are to go, and how many they are.
    assert!(!write_past_the_cache(&direct, &aligned.slice(1..), 0).unwrap());
    assert!(!write_past_the_cache(&direct, &aligned, 1).unwrap());
    assert!(!write_past_the_cache(&direct, &aligned.slice(..DIRECT_BYTES - 1), 0).unwrap());
    assert!(std::fs::read(&path).unwrap().is_empty());
    if !write_past_the_cache(&direct, &aligned, at as u64).unwrap() {
        println!("skipped: this file system takes nothing past the page cache");
        return;
    }
    assert_eq!(std::fs::read(&path).unwrap()[at..], content);
}
