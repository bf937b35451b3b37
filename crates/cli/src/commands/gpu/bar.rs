//! Pictures of GPUs: a box for each unit, and brackets around those of one GPU.

use trainyard_operator::pools::inventory::Units;

const USED: char = '■';
const FREE: char = '□';
const BROKEN: char = '×';
/// More boxes than this are drawn as a bar of this many, each for several units.
const MOST: u32 = 48;

/// Units in use, then free ones, then broken ones; `per_gpu` of them are in one pair of brackets.
pub(super) fn bar(units: &Units, gpus: u32) -> String {
    let capacity = units.capacity.max(units.allocated);
    if capacity == 0 {
        return String::new();
    }
    let broken = units.capacity.saturating_sub(units.allocatable);
    let boxes = capacity.min(MOST);
    // What is there at all shows, however little it is.
    let scaled = |part: u32| match part {
        0 => 0,
        part => (u64::from(part) * u64::from(boxes))
            .checked_div(u64::from(capacity))
            .map_or(0, |it| u32::try_from(it).unwrap_or(boxes))
            .max(1),
    };
    let (used, broken) = (scaled(units.allocated), scaled(broken));
    let per_gpu = match gpus {
        0 => boxes,
        gpus if boxes == capacity && capacity.is_multiple_of(gpus) => capacity / gpus,
        _ => boxes,
    };
    let mut text = String::new();
    for at in 0..boxes {
        if at.is_multiple_of(per_gpu) {
            text.push('[');
        }
        text.push(match at {
            // Pods may still have broken units.
            at if at >= boxes.saturating_sub(broken) => BROKEN,
            at if at < used => USED,
            _ => FREE,
        });
        if at.saturating_add(1).is_multiple_of(per_gpu) || at.saturating_add(1) == boxes {
            text.push(']');
        }
    }
    text
}

#[test]
fn pictures() {
    #[track_caller]
    fn check(units: (u32, u32, u32), gpus: u32, expected: &str) {
        let (capacity, allocatable, allocated) = units;
        let units = Units { capacity, allocatable, allocated, ..Units::default() };
        assert_eq!(bar(&units, gpus), expected);
    }
    check((4, 4, 1), 1, "[■□□□]");
    check((8, 8, 5), 2, "[■■■■][■□□□]");
    check((8, 4, 3), 2, "[■■■□][××××]");
    check((4, 2, 4), 2, "[■■][××]");
    check((2, 2, 2), 2, "[■][■]");
    check((7, 7, 0), 2, "[□□□□□□□]");
    check((3, 3, 1), 0, "[■□□]");
    // A plugin that went away leaves its pods.
    check((0, 0, 1), 1, "[■]");
    check((0, 0, 0), 1, "");
    let many = Units { capacity: 1000, allocatable: 1000, allocated: 1, ..Units::default() };
    assert_eq!(bar(&many, 8).chars().filter(|it| *it == USED).count(), 1);
}
