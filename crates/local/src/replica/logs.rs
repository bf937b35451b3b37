//! Logs of replicas: files that a process writes to by itself, so that it outlives us.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file is set aside at this size; with [`KEPT`] old ones a replica has at most 40 MiB of logs.
const LIMIT: u64 = 10 << 20;
const KEPT: u32 = 3;
/// What an event quotes of a log.
const QUOTED: u64 = 4096;

/// Opens a log to append to, and says how long it is.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Sets the log aside if it has grown too large. Blocks while it copies.
///
/// The writer holds the file open and may be another supervisor's child, so the content is copied
/// and the file emptied: the writer appends, and goes on at the new end. A line that is written
/// between the two is lost, as with logrotate's `copytruncate`.
pub(crate) fn rotate(path: &Path) -> io::Result<bool> {
    rotate_at(path, LIMIT)
}

fn rotate_at(path: &Path, limit: u64) -> io::Result<bool> {
    let Ok(metadata) = path.metadata() else { return Ok(false) };
    if metadata.len() < limit {
        return Ok(false);
    }
    for number in (1..KEPT).rev() {
        let (from, to) = (numbered(path, number), numbered(path, number.saturating_add(1)));
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::copy(path, numbered(path, 1))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(true)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The last lines that were written since `start`, oldest first.
pub(crate) fn last_lines(path: &Path, start: u64, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        // A log that was set aside meanwhile is read from its new start.
        let start = if start > length { 0 } else { start };
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(QUOTED))))?;
        let mut bytes = Vec::new();
        file.take(QUOTED).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(count);
    lines.into_iter().skip(skipped).map(str::to_owned).collect()
}

/// What a program says that it ended for, if it says so as most do: a line that begins with
/// `error: `, and what follows it.
pub(crate) fn error(lines: &[String]) -> Option<String> {
    let at = lines.iter().rposition(|line| line.starts_with(ERROR))?;
    let text = lines.get(at..)?.join(" | ");
    text.strip_prefix(ERROR).map(str::to_owned)
}

/// How our own servers begin the line that tells why they end.
const ERROR: &str = "error: ";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_writer_goes_on_in_the_emptied_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service/replica.log");
        let (mut writer, length) = open(&path).unwrap();
        assert_eq!(length, 0);
        for turn in 0..5 {
            writeln!(writer, "turn {turn}").unwrap();
            assert!(rotate_at(&path, 5).unwrap());
        }
        assert!(!rotate_at(&path, 5).unwrap());
        writeln!(writer, "last").unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "last\n");
        assert_eq!(read(&numbered(&path, 1)), "turn 4\n");
        assert_eq!(read(&numbered(&path, 3)), "turn 2\n");
        assert!(!numbered(&path, 4).exists());
    }

    #[test]
    fn of_an_error_no_more_is_quoted() {
        let said = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
            error(&lines)
        };
        assert_eq!(
            said(&["{}", "error: no model", "try another"]).as_deref(),
            Some("no model | try another")
        );
        assert_eq!(said(&["error: a", "error: b"]).as_deref(), Some("b"));
        assert_eq!(said(&["an error: c", "Error"]), None);
    }

    #[test]
    fn the_last_lines_of_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.log");
        std::fs::write(&path, "before\nfirst\n\nsecond\nthird\n").unwrap();
        assert_eq!(last_lines(&path, 7, 2), ["second", "third"]);
        assert_eq!(last_lines(&path, 7, 9), ["first", "second", "third"]);
        assert_eq!(last_lines(&path, 999, 1), ["third"]);
        assert!(last_lines(&folder.path().join("none"), 0, 1).is_empty());
    }
}
