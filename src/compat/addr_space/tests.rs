//! The number of nodes that the calls' searches visit with hints, beside the same calls without.

extern crate std;

use std::sync::Arc;
use std::vec::Vec;

use crate::addr_space::HintTable;
use crate::compat::{Mappings, Origin};
use crate::tree::visits;
use crate::{AddrSpace, Attrs, BoxAlloc, NoHooks, PageSize, Prot, VmaNode};

const PAGE: u64 = 0x1000;
const LEN: u64 = 4 * PAGE;
/// Bytes from the start of a mapping to that of the next.
const APART: u64 = 6 * PAGE;
const FIRST: u64 = 0x1000_0000;

type Space = AddrSpace<Mappings<(), Arc<BoxAlloc<VmaNode<Origin>>>>>;

fn map(space: &Space, addr: u64) -> u64 {
    space.map_at(addr, LEN, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap()
}

fn new_space() -> Space {
    let nodes = Arc::new(BoxAlloc::new());
    let space = Space::new(Mappings::new(0..=(1 << 47) - 1, PageSize::SIZE_4K, nodes).unwrap());
    for half in [0, 1] {
        for index in (half..3_000).step_by(2) {
            map(&space, FIRST + index * APART);
        }
    }
    space
}

fn mappings(space: &Space) -> Vec<(u64, u64, Attrs)> {
    let of = |vma: crate::Vma<'_, _>| (vma.start(), vma.range().last(), vma.attrs());
    space.inspect(|mappings| mappings.vm_map().iter().map(of).collect())
}

type Run = fn(&Space, u64) -> u64;

#[test]
fn calls_begin_at_hints() {
    let (bare, hinted) = (new_space(), new_space());
    hinted.set_hints(HintTable::boxed(4_096).unwrap()).unwrap();
    for (start, ..) in mappings(&hinted) {
        assert!(hinted.lookup(start).is_some());
    }
    let calls: [(&str, Run); 4] = [
        ("protect", |space, at| {
            space.protect(at, LEN, Prot::READ, &mut NoHooks).unwrap();
            0
        }),
        ("unmap", |space, at| space.unmap(at, LEN, &mut NoHooks).unwrap()),
        ("map_any", |space, at| {
            space.map_any(Some(at), LEN, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap()
        }),
        ("map_at", map),
    ];
    for (name, call) in calls {
        // Each somewhere else, since what was found last is found again.
        let visits_of = |space: &Space| {
            let each = (0..3_000).step_by(20).map(|index| call(space, FIRST + index * APART));
            let (visits, answers) = visits::count(|| each.collect::<Vec<_>>());
            (visits / answers.len(), answers)
        };
        let ((without, expected), (with, answers)) = (visits_of(&bare), visits_of(&hinted));
        assert_eq!(answers, expected, "{name}");
        assert!(with < 8, "{name}: {with} visits, {without} without hints");
    }
    assert_eq!(mappings(&hinted), mappings(&bare));
    hinted.inspect(|mappings| mappings.vm_map().check()).unwrap();
}
