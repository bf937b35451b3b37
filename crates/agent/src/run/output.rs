//! What processes print: passed on as it comes, looked at for progress, and the last of it kept.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::progress::Beat;

/// Lines that are kept of each process.
const KEPT: usize = 20;
/// Bytes of a line that are looked at; the rest is only passed on.
const LONGEST: usize = 4096;

/// The last lines of one process.
pub(super) type Tail = Arc<Mutex<VecDeque<String>>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one pipe of a process goes through.
pub(super) struct Pipe<F> {
    /// Put before each line, where several processes print.
    pub(super) prefix: Option<String>,
    pub(super) pattern: Option<regex::Regex>,
    pub(super) tail: Tail,
    /// Told of progress.
    pub(super) beat: F,
}

impl<F: Fn(Beat)> Pipe<F> {
    /// Copies until the pipe's other end is closed. Blocks.
    pub(super) fn copy(self, mut from: impl Read, mut to: impl Write) {
        let mut buffer = vec![0; 16 * 1024];
        let mut line = Vec::new();
        let mut passed_on = Vec::new();
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            if self.prefix.is_none() {
                pass_on(&mut to, bytes);
            }
            for byte in bytes {
                // A progress bar goes back to the start of its line, and each of them counts.
                let ends = matches!(byte, b'\n' | b'\r');
                if ends {
                    self.take(&mut line, &mut passed_on);
                } else if line.len() < LONGEST {
                    line.push(*byte);
                } else if self.prefix.is_some() {
                    // The rest of an endless line comes as lines of its own.
                    self.take(&mut line, &mut passed_on);
                    line.push(*byte);
                }
            }
            pass_on(&mut to, &passed_on);
            passed_on.clear();
        }
        self.take(&mut line, &mut passed_on);
        pass_on(&mut to, &passed_on);
    }

    /// Looks at a whole line, and prepares it to be passed on if it needs a prefix.
    fn take(&self, line: &mut Vec<u8>, passed_on: &mut Vec<u8>) {
        if line.is_empty() {
            return;
        }
        if let Some(prefix) = &self.prefix {
            passed_on.extend_from_slice(prefix.as_bytes());
            passed_on.extend_from_slice(line);
            passed_on.push(b'\n');
        }
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        if let Some(beat) = self.pattern.as_ref().and_then(|it| Beat::of_line(it, &text)) {
            (self.beat)(beat);
        }
        if !text.is_empty() {
            let mut tail = lock(&self.tail);
            if tail.len() == KEPT {
                tail.pop_front();
            }
            tail.push_back(text);
        }
    }
}

fn pass_on(to: &mut impl Write, bytes: &[u8]) {
    if !bytes.is_empty() {
        // Nobody may be reading, and the program goes on all the same.
        let _ = to.write_all(bytes).and_then(|()| to.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(prefix: Option<&str>, text: &[u8]) -> (String, Vec<String>, Vec<Option<u64>>) {
        let tail = Tail::default();
        let steps = Mutex::new(Vec::new());
        let mut to = Vec::new();
        let pipe = Pipe {
            prefix: prefix.map(str::to_owned),
            pattern: Some(regex::Regex::new(r"step (?P<step>\d+)").unwrap()),
            tail: tail.clone(),
            beat: |beat: Beat| lock(&steps).push(beat.step),
        };
        pipe.copy(text, &mut to);
        let lines = lock(&tail).iter().cloned().collect();
        (String::from_utf8_lossy(&to).into_owned(), lines, steps.into_inner().unwrap())
    }

    #[test]
    fn lines_are_passed_on_looked_at_and_kept() {
        let text = b"start\n\nstep 1\rstep 2\nend";
        let (to, lines, steps) = copied(None, text);
        assert_eq!(to.as_bytes(), text);
        assert_eq!(lines, ["start", "step 1", "step 2", "end"]);
        assert_eq!(steps, [Some(1), Some(2)]);
        let (to, ..) = copied(Some("[3] "), text);
        assert_eq!(to, "[3] start\n[3] step 1\n[3] step 2\n[3] end\n");
    }

    #[test]
    fn what_has_no_end_takes_no_memory() {
        let text = vec![b'x'; 100_000];
        let (to, lines, _) = copied(None, &text);
        assert_eq!(to.len(), text.len());
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST]);
        let (to, lines, _) = copied(Some("p "), &text);
        assert_eq!(to.bytes().filter(|byte| *byte == b'x').count(), text.len());
        assert_eq!(lines.len(), KEPT);
    }
}
