//! A page table beside the map, under the lock of the space.

use std::cell::Cell;

use kvma::addr_space::HasVmMap;
use kvma::*;
use kvma_test_support::Log;

use super::{Alloc, PAGE, fixed, new_map};

/// The map and the page table, which one lock guards.
struct Memory {
    map: VmMap<(), Alloc>,
    page_table: Log,
}

impl HasVmMap for Memory {
    type Data = ();
    type Alloc = Alloc;

    fn vm_map(&self) -> &VmMap<(), Alloc> {
        &self.map
    }
}

fn new_space(alloc: &Alloc) -> AddrSpace<Memory> {
    AddrSpace::new(Memory { map: new_map(alloc), page_table: Log::default() })
}

/// The program's mmap and munmap: the page table is edited under the lock, the flush is waited for
/// after unlock.
#[test]
fn a_page_table_under_the_lock_is_edited_by_operations_on_the_map() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let waits = Cell::new(0);
    let wait = || {
        space.inspect(|_| ());
        waits.set(waits.get() + 1);
    };
    let mapped = space.update_inside(3, wait, |memory, owing| {
        owing.with(&mut memory.page_table, |update| memory.map.map(fixed(4, 4, Prot::RW), update))
    });
    assert_eq!((mapped, waits.get()), (Ok(4 * PAGE), 0), "nothing to flush");
    let token = *space.lookup(5 * PAGE).unwrap().token();
    let removed = space.update_inside(3, wait, |memory, owing| {
        let Memory { map, page_table } = memory;
        // Several operations may share the flush, and the page table is free in between.
        let removed = owing.with(page_table, |update| map.unmap(5 * PAGE, PAGE, update))?;
        page_table.note("in between");
        let more = owing.with(page_table, |update| map.unmap(7 * PAGE, PAGE, update))?;
        Ok::<_, Error>(removed + more)
    });
    assert_eq!((removed, waits.get()), (Ok(2 * PAGE), 1));
    assert!(!space.still_valid(&token));
    let page_table = space.inspect(|memory| memory.page_table.changes().join("; "));
    assert_eq!(
        page_table,
        "map 0x4000..=0x7fff rw-; unmap 0x5000..=0x5fff rw-; flush_begin; in between; \
         unmap 0x7000..=0x7fff rw-; flush_begin"
    );
}

/// Page faults that look up while the flush is pending get no valid token.
#[test]
fn tokens_are_dead_until_the_flush_of_a_page_table_inside_has_ended() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let map = |prot| {
        space.update_inside(
            3,
            || (),
            |memory, owing| {
                owing.with(&mut memory.page_table, |update| {
                    memory.map.map(fixed(4, 1, prot), update)
                })
            },
        )
    };
    map(Prot::RW).unwrap();
    let wait = || {
        let vma = space.lookup(4 * PAGE).unwrap();
        assert_eq!(vma.prot(), Prot::READ);
        assert!(vma.token().is_dead() && !space.still_valid(vma.token()));
    };
    space
        .update_inside(3, wait, |memory, owing| {
            owing.with(&mut memory.page_table, |update| {
                memory.map.protect(4 * PAGE, PAGE, Prot::READ, update)
            })
        })
        .unwrap();
    assert!(space.still_valid(space.lookup(4 * PAGE).unwrap().token()));
    assert_eq!(alloc.in_use(), 2);
}

#[test]
fn no_node_is_allocated_under_the_lock_of_a_page_table_inside() {
    let pool = FixedPool::<VmaNode, 8>::new();
    struct Inside<'p>(VmMap<(), &'p FixedPool<VmaNode, 8>>, Log);
    impl<'p> HasVmMap for Inside<'p> {
        type Data = ();
        type Alloc = &'p FixedPool<VmaNode, 8>;

        fn vm_map(&self) -> &VmMap<(), Self::Alloc> {
            &self.0
        }
    }

    let map = VmMap::new(PAGE..=0xff_ffff, PageSize::SIZE_4K, &pool).unwrap();
    let space = AddrSpace::new(Inside(map, Log::default()));
    space
        .update_inside(
            3,
            || (),
            |Inside(map, log), owing| {
                assert_eq!(pool.in_use(), 4, "preallocated, beside the space's own");
                owing.with(log, |update| map.map(fixed(4, 1, Prot::RW), update))
            },
        )
        .unwrap();
    assert_eq!(pool.in_use(), 2, "what was not needed has gone back");
}
