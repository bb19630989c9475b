//! Whatever fails, nothing changes: each allocation fails in turn, and each `prepare` is refused in
//! turn, for every operation and everywhere in a small space. `Rig::step` compares everything
//! visible before and after, checks that every `prepare` is cancelled, and counts nodes and user
//! data.

use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma::*;
use kvma_model::{
    Addr, AttrsChange, AttrsSpec, Completion, Config, Faults, Len, Op, PageSearch, Rig,
};

const PAGES: i64 = 12;
const CONFIG: Config = Config { start: 0x40_0000, pages: PAGES as u64, page: 4096 };

const RW: AttrsSpec = AttrsSpec::anon(Prot::RW);
const FILE: AttrsSpec = AttrsSpec { object: Some((7, 0)), ..AttrsSpec::anon(Prot::READ) };

fn at(page: i64, pages: u64, attrs: AttrsSpec) -> Op {
    let (at, len) = (Addr::page(page), Len::pages(pages));
    Op::MapAt { replace: false, at, len, attrs, file: 1, merge: Merge::Both }
}

/// Returns the states to begin from.
fn scenes() -> Vec<Vec<Op>> {
    vec![
        vec![],
        vec![at(0, 12, RW)],
        vec![at(2, 8, FILE)],
        // Neighbours that differ, a gap, and neighbours that only a split keeps apart.
        vec![
            at(1, 3, RW),
            at(4, 2, FILE),
            at(7, 4, RW),
            Op::Split(Addr::page(9)),
            Op::Split(Addr::page(2)),
        ],
        // A claim between two VMAs.
        vec![
            at(1, 3, RW),
            at(8, 3, RW),
            Op::ClaimAt { replace: false, at: Addr::page(5), len: Len::pages(2) },
        ],
        // Every page a VMA of its own.
        (0..12).map(|page| at(page, 1, if page % 2 == 0 { RW } else { FILE })).collect(),
    ]
}

/// Returns every operation on one range.
fn ops(start: i64, pages: u64) -> Vec<Op> {
    let (at, len) = (Addr::page(start), Len::pages(pages));
    let mut ops = vec![
        Op::MapAny(PageSearch { hint: Some(at), ..PageSearch::ANY }, len, RW, 1, Merge::Both),
        Op::ClaimAny(PageSearch { hint: Some(at), ..PageSearch::ANY }, len),
        Op::Commit(0, RW, 1, Merge::Both),
        Op::Release(0),
        Op::Unmap(at, len),
        Op::Protect(at, len, Prot::READ.bits()),
        Op::Protect(at, len, Prot::RX.bits()),
        Op::Advise(at, len, Advice::DontNeed),
        Op::SetFile(at, 2),
        Op::Split(at),
        Op::Merge(at),
        Op::Fork(AttrsChange::FlipWrite, 9),
        Op::Retain(2),
        Op::Clear,
    ];
    for replace in [false, true] {
        ops.push(Op::MapAt { replace, at, len, attrs: FILE, file: 1, merge: Merge::Both });
        ops.push(Op::ClaimAt { replace, at, len });
    }
    for change in [
        AttrsChange::FlipWrite,
        AttrsChange::UserBits(3),
        AttrsChange::OddLength,
        AttrsChange::Object(Some((8, 0))),
    ] {
        ops.push(Op::UpdateAttrs(at, len, change));
    }
    for source in [SourceRange::Unmap, SourceRange::Keep] {
        let to = (start + PAGES / 2) % PAGES;
        ops.push(Op::Relocate(at, len, Addr::page(to), source, Merge::Both));
    }
    ops
}

fn stage(scene: &[Op]) -> Rig {
    let mut rig = Rig::new(CONFIG);
    for op in scene {
        assert_eq!(rig.step(op, Faults::NONE), Ok(Completion::Normal), "{op:?}");
    }
    rig
}

/// Runs each operation with its first, second, third… step failing, until it has no more steps to
/// fail. Returns the number of failures.
fn fail_in_turn(fault: fn(u64) -> Faults) -> u64 {
    let mut failures = 0;
    for scene in scenes() {
        for start in 0..PAGES {
            for pages in [1, 2, 3, 5, 8, 12] {
                for op in ops(start, pages) {
                    let mut rig = stage(&scene);
                    for step in 0.. {
                        match rig.step(&op, fault(step)) {
                            Ok(Completion::Faulted) => failures += 1,
                            Ok(Completion::Normal) => break,
                            Err(what) => panic!("{scene:?}, {op:?}, failure {step}: {what}"),
                        }
                        assert!(step < 40, "{op:?} never gets anywhere");
                    }
                    rig.finish().unwrap();
                }
            }
        }
    }
    failures
}

#[test]
fn an_allocation_that_fails_changes_nothing() {
    let failures = fail_in_turn(|step| Faults { alloc: Some(step), prepare: None });
    assert!(failures > 3000, "only {failures}");
}

#[test]
fn a_prepare_that_is_refused_changes_nothing() {
    let failures = fail_in_turn(|step| Faults { alloc: None, prepare: Some(step) });
    assert!(failures > 3000, "only {failures}");
}

/// Whole VMAs can be removed without any memory, and so can all of them at once.
#[test]
fn tearing_down_needs_no_memory() {
    for scene in scenes() {
        let mut rig = stage(&scene);
        let first_fails = Faults { alloc: Some(0), prepare: None };
        if let Some(vma) = rig.model().vmas().first().copied() {
            let page = ((vma.start - CONFIG.start) / CONFIG.page) as i64;
            let op = Op::Unmap(Addr::page(page), Len::pages(vma.tag.len));
            assert_eq!(rig.step(&op, first_fails), Ok(Completion::Normal));
        }
        assert_eq!(rig.step(&Op::Clear, first_fails), Ok(Completion::Normal));
        rig.finish().unwrap();
    }
}

/// An operation whose nodes were preallocated does not allocate.
#[test]
fn preallocated_nodes_are_enough() {
    let pool = FixedPool::<VmaNode, 16>::new();
    let mut map = VmMap::<(), _>::new(0..=0x3_ffff, PageSize::SIZE_4K, &pool).unwrap();
    let attrs = Attrs::new(Prot::RW);
    map.map(MapRequest::new(Placement::Fixed(0), 64 << 12, attrs), &mut NoHooks).unwrap();
    let mut hooks = NoHooks;
    let mut update = map.update(&mut hooks);
    update.preallocate(3).unwrap();
    let mut rest = Vec::new();
    while let Some(node) = pool.alloc() {
        rest.push(node);
    }
    let read = MapRequest::new(Placement::Fixed(8 << 12), 1 << 12, Attrs::new(Prot::READ));
    assert_eq!(map.map(read, &mut update), Ok(8 << 12));
    assert_eq!((map.len(), update.removed()), (3, 1));
    // The node of the piece that was replaced is not free yet: none is left for two more splits.
    let split = map.unmap(20 << 12, 1 << 12, &mut update);
    assert_eq!(split, Err(Error::OutOfMemory));
    update.finish();
    assert_eq!(map.unmap(20 << 12, 44 << 12, &mut NoHooks), Ok(44 << 12));
    for node in rest {
        // SAFETY: it came from this pool and was never used.
        unsafe { pool.dealloc(node) }
    }
    drop(map);
    assert_eq!(pool.in_use(), 0);
}

/// `split_at` and `merge_at` used to take a node of their own each time, under the lock.
#[test]
fn split_and_merge_take_the_nodes_that_are_there() {
    let alloc = kvma_model::Faulty::new(std::sync::Arc::new(BoxAlloc::<VmaNode>::new()));
    let map = VmMap::<(), _>::new(0..=0x3_ffff, PageSize::SIZE_4K, alloc.clone()).unwrap();
    let space = AddrSpace::new(map);
    let request = MapRequest::new(Placement::Fixed(0), 4 << 12, Attrs::new(Prot::RW));
    space.map(request, &mut NoHooks).unwrap();
    space.update(1, &mut NoHooks, |map, update| {
        alloc.fail_after(0);
        for _ in 0..3 {
            assert_eq!(map.split_at(2 << 12, update), Ok(()));
            assert_eq!(map.len(), 2);
            // The node that is left over serves the next split.
            assert_eq!(map.merge_at(2 << 12, update), Ok(()));
            assert_eq!(map.len(), 1);
        }
        assert_eq!(map.split_at(2 << 12, update), Ok(()));
        assert_eq!(map.split_at(1 << 12, update), Err(Error::OutOfMemory));
    });
    // Without any memory at all: merging needs none.
    assert_eq!(space.merge_at(2 << 12, &mut NoHooks), Ok(()));
}

/// Of several changes, those that succeeded stay.
#[test]
fn an_address_space_out_of_memory_stays_as_it_was() {
    let pool = FixedPool::<VmaNode, 4>::new();
    let space = AddrSpace::new(VmMap::new(0..=0x3_ffff, PageSize::SIZE_4K, &pool).unwrap());
    let request =
        |page: u64, prot| MapRequest::new(Placement::Fixed(page << 12), 1 << 12, Attrs::new(prot));
    for page in [1, 3, 5] {
        space.map(request(page, Prot::RW), &mut NoHooks).unwrap();
    }
    assert_eq!(space.map(request(7, Prot::RW), &mut NoHooks), Err(Error::OutOfMemory));
    // A whole VMA is replaced with its own node, which an update gets back only when it ends.
    assert_eq!(space.map(request(1, Prot::READ), &mut NoHooks), Err(Error::OutOfMemory));
    assert_eq!(space.unmap(3 << 12, 1 << 12, &mut NoHooks), Ok(1 << 12));
    assert_eq!(space.map(request(1, Prot::READ), &mut NoHooks), Ok(1 << 12));
    space.inspect(|map| map.check()).unwrap();
    assert_eq!((space.len(), pool.in_use()), (2, 3));
    drop(space);
    assert_eq!(pool.in_use(), 0);
}
