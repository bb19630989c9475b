//! Few of the lines that lookups without the lock follow are written by a change: the first 64
//! bytes of each node. A reader on another processor waits for each that it needs.

extern crate std;

use std::println;

use crate::{Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap};

const PAGE: u64 = 0x1000;

type Map<'a> = VmMap<(), &'a BoxAlloc<crate::VmaNode>>;

/// Returns how many first lines are written by unmapping and mapping again one of so many VMAs:
/// hundred times the average over a fortieth of them.
fn written(count: u64) -> usize {
    let nodes = BoxAlloc::new();
    let mut map = Map::new(PAGE..=u64::MAX >> 17, PageSize::SIZE_4K, &nodes).unwrap();
    let request = |n: u64| {
        let prot = if n.is_multiple_of(2) { Prot::RW } else { Prot::READ };
        let at = Placement::Fixed((8 * n + 1) * PAGE);
        MapRequest::new(at, 4 * PAGE, Attrs::new(prot))
    };
    // In an order that is neither ascending nor the same everywhere: 7,919 is a prime.
    let order = |n: u64| n * 7919 % count;
    for n in 0..count {
        map.map(request(order(n)), &mut NoHooks).unwrap();
    }
    let (mut written, tries) = (0, count as usize / 40);
    for n in (0..tries as u64).map(|n| order(37 * n)) {
        let before = map.tree.first_lines();
        map.unmap((8 * n + 1) * PAGE, 4 * PAGE, &mut NoHooks).unwrap();
        map.map(request(n), &mut NoHooks).unwrap();
        let after = map.tree.first_lines();
        written += after.iter().filter(|(node, line)| before.get(node) != Some(line)).count();
        written += before.keys().filter(|node| !after.contains_key(node)).count();
    }
    100 * written / tries
}

#[test]
fn few_lines_that_lookups_follow_are_written() {
    for (count, most) in [(1_000, 300), (4_000, 330)] {
        let written = written(count);
        println!("{count} VMAs: {written} first lines written by a hundred unmaps and maps");
        assert!(written < most);
    }
}
