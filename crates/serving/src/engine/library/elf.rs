//! Whether an ELF file is whole.
//!
//! The system's loader maps segments without looking at the file's length, so a library cut short
//! (a download that was killed, a full disk) ends the process with SIGBUS instead of an error.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

// Offsets and sizes are from the ELF-64 specification: e_phoff, e_phentsize, e_phnum in the file
// header, p_offset and p_filesz in a program header.
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;

/// Checks that every segment lies within the file. A file that is not 64-bit little-endian ELF is
/// left to the loader, which refuses it with a better message than ours.
pub(super) fn check_whole(path: &Path) -> Result<(), String> {
    match missing_bytes(path) {
        Ok(0) => Ok(()),
        Ok(missing) => Err(format!("the file is truncated: {missing} bytes are missing")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("the file is truncated: it ends within its header".to_owned())
        }
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

fn missing_bytes(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0u8; HEADER_BYTES];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(0);
    }
    let table = number::<8>(&header, 32);
    let (entry_bytes, entries) = (number::<2>(&header, 54), number::<2>(&header, 56));
    let mut end = 0;
    for index in 0..entries {
        let offset = table.saturating_add(index.saturating_mul(entry_bytes));
        file.seek(SeekFrom::Start(offset))?;
        let mut segment = [0u8; PROGRAM_HEADER_BYTES];
        file.read_exact(&mut segment)?;
        end = end.max(number::<8>(&segment, 8).saturating_add(number::<8>(&segment, 32)));
    }
    Ok(end.saturating_sub(length))
}

/// The little-endian number of `N` bytes at an offset, 0 beyond the end.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> u64 {
    let slice = offset.checked_add(N).and_then(|end| bytes.get(offset..end)).unwrap_or_default();
    slice.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_passes_and_a_cut_one_does_not() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let check = |length: usize| {
            std::fs::write(&path, &program[..length]).unwrap();
            check_whole(&path)
        };
        assert_eq!(check(program.len()), Ok(()));
        assert!(check(4096).unwrap_err().contains("bytes are missing"));
        assert!(check(70).unwrap_err().contains("within its header"));
        assert!(check(0).unwrap_err().contains("within its header"));
    }

    #[test]
    fn other_files_are_left_to_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "x".repeat(100)).unwrap();
        assert_eq!(check_whole(&path), Ok(()));
    }
}
