//! Bringing one file here, in parts.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use crate::digest::blocking;
use crate::fault::{Attempts, Fault, within};
use crate::fetch::FetchOptions;
use crate::meter::Meter;
use crate::partial::{self, Partial, Paths};
use crate::remote::{Remote, RemoteFile};

/// Gathered before a write, so that a thread is not woken for every packet.
const WRITE_BYTES: usize = 1 << 20;

/// What all files of one model share.
pub(crate) struct Download<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) uri: &'a str,
    pub(crate) options: &'a FetchOptions,
    /// The hash that the model as a whole must have.
    pub(crate) expected: Option<&'a str>,
    pub(crate) folder: &'a Path,
    /// One permit a request in flight.
    pub(crate) gate: &'a Semaphore,
    pub(crate) meter: &'a Meter<'a>,
}

/// Part of a file: where it begins and, if known, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    start: u64,
    end: Option<u64>,
    /// Whether a request can ask for just this part, or for the rest of it.
    ranged: bool,
}

impl Download<'_> {
    /// Fetches one file; returns where its data lies.
    pub(crate) async fn file(&self, file: &RemoteFile) -> Result<PathBuf, Fault> {
        match self.try_file(file).await {
            Err(Fault::NoRanges) => {
                self.try_file(&RemoteFile { ranges: false, ..file.clone() }).await
            }
            result => result,
        }
    }

    /// Where a file's data lies while it comes.
    pub(crate) fn paths(&self, file: &RemoteFile) -> Paths {
        partial::paths(self.folder, file, self.part_bytes(), self.expected)
    }

    async fn try_file(&self, file: &RemoteFile) -> Result<PathBuf, Fault> {
        // Parts of different answers only fit together when something vouches for it.
        let vouched = self.expected.is_some() || file.tag.as_ref().is_some_and(|it| it.is_strong());
        let ranged = file.ranges && vouched && file.size.is_some();
        let paths = self.paths(file);
        let (uri, size, opened) = (self.uri.to_owned(), file.size, paths.clone());
        let partial = blocking(move || Partial::open(&uri, opened, size, ranged)).await?;
        let (there, missing): (Vec<Part>, Vec<Part>) =
            parts(file.size, self.part_bytes(), ranged).partition(|part| partial.has(part.start));
        for part in there {
            self.meter.add(part.end.map_or(0, |end| end.saturating_sub(part.start)));
        }
        let partial = &partial;
        stream::iter(missing)
            .map(|part| self.part(partial, file, part))
            .buffer_unordered(self.options.parallel.max(1))
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        Ok(paths.data)
    }

    async fn part(&self, partial: &Partial, file: &RemoteFile, part: Part) -> Result<(), Fault> {
        let _permit = self.gate.acquire().await.map_err(|_| Fault::transient("it was closed"))?;
        let mut attempts = Attempts::new(self.options.attempts, self.options.backoff);
        let mut at = part.start;
        while part.end.is_none_or(|end| at < end) {
            let before = at;
            match self.read(partial, file, part, &mut at).await {
                Ok(()) => break,
                Err(Fault::Transient { reason, after }) => {
                    if !part.ranged {
                        self.meter.lose(at.saturating_sub(part.start));
                        at = part.start;
                    } else if at > before {
                        attempts.progressed();
                    }
                    let pause = attempts.failed(self.uri, reason, after)?;
                    tokio::time::sleep(pause).await;
                }
                Err(fault) => return Err(fault),
            }
        }
        if part.ranged {
            partial.finish(part.start).await?;
        } else if part.end.is_none() {
            partial.end_at(at)?;
        }
        Ok(())
    }

    /// Reads from `at` on; `at` follows what was written, also when it fails.
    async fn read(
        &self,
        partial: &Partial,
        file: &RemoteFile,
        part: Part,
        at: &mut u64,
    ) -> Result<(), Fault> {
        let range = part.end.filter(|_| part.ranged).map(|end| *at..end);
        let mut chunks = self.remote.read(file, range).await?;
        let mut gathered = BytesMut::with_capacity(WRITE_BYTES);
        let ended = loop {
            match within(self.options.stall, chunks.next()).await {
                Ok(Some(Ok(chunk))) => {
                    let have = at.saturating_add(gathered.len() as u64);
                    let room = part.end.map_or(u64::MAX, |end| end.saturating_sub(have));
                    if chunk.len() as u64 > room {
                        break Err(Fault::transient("it sent more bytes than it announced"));
                    }
                    gathered.extend_from_slice(&chunk);
                    if gathered.len() >= WRITE_BYTES {
                        self.write(partial, &mut gathered, at).await?;
                    }
                }
                Ok(Some(Err(fault))) | Err(fault) => break Err(fault),
                Ok(None) => break Ok(()),
            }
        };
        self.write(partial, &mut gathered, at).await?;
        ended?;
        match part.end {
            Some(end) if *at < end => {
                Err(Fault::transient(format!("it ended after {at} bytes, {end} were announced")))
            }
            _ => Ok(()),
        }
    }

    async fn write(
        &self,
        partial: &Partial,
        gathered: &mut BytesMut,
        at: &mut u64,
    ) -> Result<(), Fault> {
        let bytes = gathered.split().freeze();
        let length = bytes.len() as u64;
        if length > 0 {
            partial.write(*at, bytes).await?;
            *at = at.saturating_add(length);
            self.meter.add(length);
        }
        Ok(())
    }

    fn part_bytes(&self) -> u64 {
        self.options.part_bytes.max(1)
    }
}

/// Cuts a file into parts; one that cannot be cut is one part.
fn parts(size: Option<u64>, part_bytes: u64, ranged: bool) -> impl Iterator<Item = Part> {
    let mut next = Some(0u64);
    std::iter::from_fn(move || {
        let start = next?;
        let end = match size {
            Some(size) if ranged => Some(size.min(start.saturating_add(part_bytes))),
            size => size,
        };
        next = end.filter(|end| ranged && size.is_some_and(|size| *end < size));
        Some(Part { start, end, ranged })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_without_ranges_are_one_part() {
        let check = |size| {
            let parts: Vec<_> = parts(size, 4, false).collect();
            assert_eq!(parts, [Part { start: 0, end: size, ranged: false }]);
        };
        check(None);
        check(Some(0));
        check(Some(10));
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_once(size in 0u64..1000, part_bytes in 1u64..300) {
            let mut at = 0;
            for part in parts(Some(size), part_bytes, true) {
                prop_assert_eq!(part.start, at);
                at = part.end.unwrap();
                prop_assert!(at - part.start <= part_bytes);
            }
            prop_assert_eq!(at, size);
        }
    }
}
