//! Parts of files, in memory that disks can reach directly.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// What every disk and file system takes as a border of memory and of places in a file, where bytes go past
/// the page cache (open(2), `O_DIRECT`).
pub(crate) const BLOCK: usize = 4096;

/// From so many bytes on, memory is used again.
const LARGE: usize = 1 << 20;
/// Pieces that wait to be used again; a transfer has no more parts than that under way.
const IDLE: usize = 8;
/// What memory is given in, where it is used again: the size of large pages.
const PAGE: usize = 2 << 20;

/// Memory for so many bytes, which begins at a multiple of [`BLOCK`], so that files can be read into it and
/// written from it past the page cache.
///
/// New memory is the dearest part of a transfer: a virtual machine takes 13 ms to give 16 MiB in pages of
/// 4 KiB, which is longer than to hash them, one to many in pages of 2 MiB, which its host may have taken
/// back, and the thread that waits for the network is the one that needs it. So it is asked for in large
/// pages, and what is not needed any more serves the next part, for as long as any is in use.
pub(crate) struct Room {
    memory: Memory,
    filled: usize,
    wanted: usize,
}

impl Room {
    pub(crate) fn of(bytes: u64) -> io::Result<Self> {
        let wanted = usize::try_from(bytes).map_err(io::Error::other)?;
        Ok(Self { memory: Memory::of(wanted)?, filled: 0, wanted })
    }

    /// What is not filled yet.
    fn rest(&mut self) -> &mut [u8] {
        self.memory.get(self.filled..self.wanted)
    }

    /// How many bytes are missing until all of it is filled.
    pub(crate) fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.filled)
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

/// Of one part, until nobody needs it.
struct Memory(Option<MmapMut>);

impl Memory {
    fn of(bytes: usize) -> io::Result<Self> {
        if bytes < LARGE {
            return MmapMut::map_anon(bytes.max(1)).map(Some).map(Self);
        }
        let whole = bytes.checked_next_multiple_of(PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        if let Some(used) = pool().lend(whole) {
            return Ok(Self(Some(used)));
        }
        let lent = Self(Some(MmapMut::map_anon(whole).inspect_err(|_| pool().is_not_lent())?));
        // Where there are no large pages, small ones do.
        #[cfg(target_os = "linux")]
        let _ = lent.0.as_ref().map(|map| map.advise(memmap2::Advice::HugePage));
        Ok(lent)
    }

    fn get(&mut self, part: Range<usize>) -> &mut [u8] {
        self.0.as_mut().and_then(|map| map.get_mut(part)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let large = self.0.take().filter(|map| map.len() >= LARGE);
        let surplus = large.map(|map| pool().take_back(map));
        // Giving memory back takes milliseconds, in which others need not wait.
        drop(surplus);
    }
}

/// Large pieces of memory of the whole process.
struct Pool {
    idle: Vec<MmapMut>,
    lent: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), lent: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Counts one more as lent; `None` where there is none of about that size.
    fn lend(&mut self, bytes: usize) -> Option<MmapMut> {
        self.lent = self.lent.saturating_add(1);
        let fits = |map: &MmapMut| map.len() >= bytes && map.len() / 2 <= bytes;
        let at = self.idle.iter().position(fits)?;
        Some(self.idle.swap_remove(at))
    }

    fn is_not_lent(&mut self) {
        self.lent = self.lent.saturating_sub(1);
    }

    /// Gives what is not kept: all, where nothing is in use.
    fn take_back(&mut self, map: MmapMut) -> Vec<MmapMut> {
        self.is_not_lent();
        self.idle.push(map);
        match self.lent {
            0 => std::mem::take(&mut self.idle),
            _ => self.idle.split_off(IDLE.min(self.idle.len())),
        }
    }
}

/// Reads so many bytes of a file from a place on; less where the file ends before. They begin at a multiple
/// of [`BLOCK`] in memory, so that they can be written past the page cache.
pub fn read_part(file: &File, at: u64, bytes: u64) -> io::Result<Bytes> {
    let mut room = Room::of(bytes)?;
    while room.missing() > 0 {
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

#[test]
fn memory_is_used_again_while_some_is_in_use() {
    let mut pool = Pool { idle: Vec::new(), lent: 0 };
    let map = |bytes| MmapMut::map_anon(bytes).unwrap();
    assert!(pool.lend(16 * PAGE).is_none() && pool.lend(16 * PAGE).is_none());
    assert!(pool.take_back(map(16 * PAGE)).is_empty());
    // One that is much too large is left to others.
    assert!(pool.lend(2 * PAGE).is_none());
    assert!(pool.lend(9 * PAGE).is_some_and(|map| map.len() == 16 * PAGE));
    assert!(pool.idle.is_empty());
    for _ in 0..2 {
        assert!(pool.take_back(map(16 * PAGE)).is_empty());
    }
    assert_eq!(pool.take_back(map(2 * PAGE)).len(), 3);
    assert!(pool.idle.is_empty() && pool.lent == 0);
    let lent: Vec<_> = (0..=IDLE + 1).map(|_| pool.lend(PAGE)).collect();
    let back: usize = lent.iter().skip(1).map(|_| pool.take_back(map(PAGE)).len()).sum();
    assert_eq!((back, pool.idle.len()), (1, IDLE));
}

#[test]
fn used_memory_shows_nothing_of_before() {
    let content = |fill: u8| {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![fill; 3 << 20], 0).unwrap();
        file
    };
    let (first, second) = (content(1), content(2));
    let _in_use = read_part(&first, 0, 3 << 20).unwrap();
    for _ in 0..3 {
        let long = read_part(&second, 0, 3 << 20).unwrap();
        assert!(long.len() == 3 << 20 && long.iter().all(|byte| *byte == 2));
        drop(long);
        // The file ends before.
        let short = read_part(&first, 1 << 20, 3 << 20).unwrap();
        assert!(short.len() == 2 << 20 && short.iter().all(|byte| *byte == 1));
    }
}
