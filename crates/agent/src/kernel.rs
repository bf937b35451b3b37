//! The kernel's log: its own buffer, or the file that a logger writes it into.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use trainyard_diagnose::xid;

use crate::probe::Unread;

/// Lines that are kept; the newest.
const MOST: usize = 200;
/// Of a log file so much is read, from its end.
const TAIL: u64 = 4 << 20;
/// One record of the kernel's buffer.
const RECORD: usize = 8192;
/// Records that are read before the buffer counts as endless.
const MOST_RECORDS: usize = 1 << 20;

/// Files that loggers write the kernel's messages into, by distribution.
const FILES: [&str; 3] = ["var/log/kern.log", "var/log/messages", "var/log/syslog"];

/// An Xid error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Xid {
    pub code: u32,
    /// As the kernel writes it, such as `0000:3b:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci_bus_id: Option<String>,
    pub line: String,
}

/// Other lines that diagnoses look for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    pub lines: Vec<String>,
}

/// Lines about GPUs, the oldest first.
pub(crate) fn lines(root: &Path, unread: &mut Vec<Unread>) -> Vec<String> {
    let buffer = buffer(&root.join("dev/kmsg"));
    match buffer {
        Ok(lines) if !lines.is_empty() => lines,
        other => {
            // The buffer forgets what is old, and may not be read by everybody.
            let file = FILES.iter().find_map(|file| tail(&root.join(file)).ok());
            match (file, other) {
                (Some(lines), _) => lines,
                (None, Ok(lines)) => lines,
                (None, Err(error)) => {
                    unread
                        .push(Unread { what: "kernel log".to_owned(), reason: error.to_string() });
                    Vec::new()
                }
            }
        }
    }
}

/// Xid errors, and the rest.
pub(crate) fn sort_out(lines: &[String]) -> (Vec<Xid>, Kernel) {
    let mut xids = Vec::new();
    let mut kernel = Kernel::default();
    for line in lines {
        match xid::parse(line).filter(|_| line.contains("NVRM")) {
            Some((code, pci_bus_id)) => xids.push(Xid { code, pci_bus_id, line: line.clone() }),
            None => kernel.lines.push(line.clone()),
        }
    }
    let newest = |count: usize| count.saturating_sub(MOST);
    xids.drain(..newest(xids.len()));
    kernel.lines.drain(..newest(kernel.lines.len()));
    (xids, kernel)
}

fn is_about_gpus(line: &str) -> bool {
    line.contains("NVRM")
        || line.contains("nvidia-nvswitch")
        || line.contains("nouveau")
        || line.contains("segfault") && (line.contains("libnccl") || line.contains("libcuda"))
        || line.to_ascii_lowercase().contains("inforom")
}

/// Reads what the kernel keeps, without waiting for more.
fn buffer(path: &Path) -> std::io::Result<Vec<String>> {
    let file =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut lines = Vec::new();
    let mut record = vec![0; RECORD];
    for _ in 0..MOST_RECORDS {
        match rustix::io::read(&file, &mut record) {
            Ok(0) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                // `6,1234,5678901,-;message`, then lines of keys and values.
                let message = text.split_once(';').map_or(&*text, |(_, message)| message);
                let line = message.lines().next().unwrap_or_default();
                if is_about_gpus(line) {
                    lines.push(line.to_owned());
                }
            }
            // A record was overwritten while we read; the next read goes on behind it.
            Err(rustix::io::Errno::PIPE) => {}
            // One that is longer than the kernel promises.
            Err(rustix::io::Errno::INVAL) => break,
            Err(rustix::io::Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(lines)
}

fn tail(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter(|line| is_about_gpus(line)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xids_are_told_apart_from_other_lines() {
        let lines = [
            "[1.0] NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.",
            "[2.0] python[77]: segfault at 0 ip 00 sp 00 error 4 in libnccl.so.2.21.5[7f]",
            "[3.0] NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
        ]
        .map(str::to_owned);
        let (xids, kernel) = sort_out(&lines);
        assert_eq!(xids.len(), 1);
        assert_eq!((xids[0].code, xids[0].pci_bus_id.as_deref()), (79, Some("0000:3b:00")));
        assert_eq!(kernel.lines.len(), 2);
        let many: Vec<String> = (0..500).map(|it| format!("NVRM: Xid (PCI:0): 13, {it}")).collect();
        let (xids, _) = sort_out(&many);
        assert!(xids.len() == MOST && xids[MOST - 1].line.ends_with("499"));
    }

    #[test]
    fn a_file_stands_in_for_the_buffer() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/log")).unwrap();
        fs::write(
            root.path().join("var/log/messages"),
            "x\nNov 1 host kernel: NVRM: Xid (PCI:0000:01:00): 48\n",
        )
        .unwrap();
        let mut unread = Vec::new();
        assert_eq!(lines(root.path(), &mut unread).len(), 1);
        assert!(unread.is_empty());
        assert!(lines(Path::new("/nonexistent"), &mut unread).is_empty());
        assert_eq!(unread[0].what, "kernel log");
    }
}
