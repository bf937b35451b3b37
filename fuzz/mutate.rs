//! Runs the body of a fuzz target on its seeds and on changed copies of them: what a fuzzer does,
//! without its feedback, so that every `cargo test` on any compiler does a little of it.
//!
//! Nothing is random: the same seeds give the same inputs in the same order on every machine.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Inputs for each target.
const INPUTS: usize = 20_000;
/// Ends a run early on a slow machine, so that tests take seconds everywhere.
const AT_MOST: Duration = Duration::from_secs(2);
/// Changes to one copy.
const MOST_CHANGES: u64 = 6;
/// Inputs do not grow beyond this, in bytes.
const LONGEST: usize = 1 << 14;

/// Values at which lengths, counts and types go wrong.
const BYTES: [u8; 10] = [0, 1, 2, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b'-'];
/// Words that mean something to one format or another.
const WORDS: [&str; 20] = [
    "NaN",
    "-Infinity",
    "1e400",
    "18446744073709551616",
    "-1",
    "null",
    "true",
    "[[[[[[[[",
    "{\"a\":",
    "\"\\ud800\"",
    "\u{feff}",
    "\n",
    ": ",
    "- ",
    "{}",
    "[]",
    "b64",
    "\0\0\0\0",
    "&a",
    "*a",
];

/// Runs `body` on the seeds of `target`.
///
/// # Panics
///
/// If the body panics, with the path of a file that holds the input.
pub(crate) fn run(target: &str, body: impl Fn(&[u8])) {
    let seeds = seeds(target);
    let mut random = SplitMix64(0x7261_696e_7961_7264);
    let started = Instant::now();
    for seed in &seeds {
        check(target, seed, &body);
    }
    for index in 0..INPUTS {
        if started.elapsed() > AT_MOST {
            break;
        }
        let mut input = seeds[index % seeds.len()].clone();
        for _ in 0..=random.below(MOST_CHANGES) {
            change(&mut input, &seeds, &mut random);
        }
        check(target, &input, &body);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).expect("the seeds are in the repository");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

fn check(target: &str, input: &[u8], body: &impl Fn(&[u8])) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| body(input))) {
        let path = std::env::temp_dir().join(format!("fuzz-{target}-{:016x}", hash(input)));
        // The panic is what matters; the file is a help.
        let _ = fs::write(&path, input);
        eprintln!("the input is in {}; add it to fuzz/seeds/{target} once mended", path.display());
        panic::resume_unwind(panic);
    }
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut SplitMix64) {
    let at = random.below(input.len() as u64 + 1) as usize;
    let length = random.below(16) as usize;
    let end = (at + length).min(input.len());
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = BYTES[random.below(BYTES.len() as u64) as usize],
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let word = WORDS[random.below(WORDS.len() as u64) as usize];
            input.splice(at..at, word.bytes());
        }
        5 => input.truncate(at),
        6 => {
            let other = &seeds[random.below(seeds.len() as u64) as usize];
            let from = random.below(other.len() as u64 + 1) as usize;
            let to = (from + 4 * length).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        7 => {
            // Deep nesting, and long runs.
            let byte = BYTES[random.below(BYTES.len() as u64) as usize];
            input.splice(at..at, std::iter::repeat_n(byte, 20 * length));
        }
        _ => {
            // A varint or a fixed-size number of any size.
            let number = random.next() >> random.below(64);
            input.splice(at..end, number.to_le_bytes());
        }
    }
    input.truncate(LONGEST);
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, near enough to uniform for limits this small.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// FNV-1a, for a file's name.
fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}
