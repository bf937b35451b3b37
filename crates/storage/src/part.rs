//! Parts of files, in memory that disks can reach directly.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use memmap2::MmapMut;

/// What every disk and file system takes as a border of memory and of places in a file, where bytes go past
/// the page cache (open(2), `O_DIRECT`).
pub(crate) const BLOCK: usize = 4096;

/// Memory for so many bytes, which begins at a multiple of [`BLOCK`], so that files can be read into it and
/// written from it past the page cache.
///
/// It is asked for in large pages. A virtual machine takes 13 ms to give 16 MiB in pages of 4 KiB, which is
/// longer than to hash them, and one in pages of 2 MiB.
pub(crate) struct Room {
    memory: MmapMut,
    filled: usize,
    wanted: usize,
}

impl Room {
    pub(crate) fn of(bytes: u64) -> io::Result<Self> {
        let wanted = usize::try_from(bytes).map_err(io::Error::other)?;
        let memory = MmapMut::map_anon(wanted.max(1))?;
        // Where there are none, small ones do.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(Self { memory, filled: 0, wanted })
    }

    /// What is not filled yet.
    fn rest(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.filled..self.wanted).unwrap_or_default()
    }

    /// Appends bytes; those that it has no room for make it `false`, and none is taken then.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(place) = self.rest().get_mut(..bytes.len()) else { return false };
        place.copy_from_slice(bytes);
        self.filled = self.filled.saturating_add(bytes.len());
        true
    }

    /// What was filled.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.memory).slice(..self.filled)
    }
}

/// Reads so many bytes of a file from a place on; less where the file ends before. They begin at a multiple
/// of [`BLOCK`] in memory, so that they can be written past the page cache.
pub fn read_part(file: &File, at: u64, bytes: u64) -> io::Result<Bytes> {
    let mut room = Room::of(bytes)?;
    while !room.rest().is_empty() {
        let place = at.saturating_add(room.filled as u64);
        match file.read_at(room.rest(), place) {
            Ok(0) => break,
            Ok(n) => room.filled = room.filled.saturating_add(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(room.into_bytes())
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

#[test]
fn no_more_is_appended_than_there_is_room_for() {
    let mut room = Room::of(5).unwrap();
    assert!(room.append(b"abc") && !room.append(b"def") && room.append(b"de") && room.append(b""));
    assert_eq!(room.into_bytes(), b"abcde"[..]);
    let mut none = Room::of(0).unwrap();
    assert!(!none.append(b"a") && none.append(b""));
    assert!(none.into_bytes().is_empty());
}
