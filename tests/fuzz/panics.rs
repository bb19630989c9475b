//! User data and hooks that panic: whatever happens, the tree stays a tree, no VMA is left
//! changing, and the map can be used and dropped.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

use arbitrary::{Result, Unstructured};
use kvma::hooks::{Advice, RemovedVma};
use kvma::vm_map::SourceRange;
use kvma::{
    AddrSpace, Attrs, BoxAlloc, Error, Event, Hooks, MapRequest, Merge, NoHooks, PageSize, Piece,
    Placement, Prot, VmMap, VmRange, VmaData, VmaNode,
};

const PAGE: u64 = 4096;
const PAGES: u64 = 16;

thread_local! {
    /// The number of calls of the kernel's code until one panics.
    static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn may_panic() {
    // Not while another panic unwinds: that would abort.
    if LEFT.get() == 0 || std::thread::panicking() {
        return;
    }
    LEFT.set(LEFT.get() - 1);
    assert_ne!(LEFT.get(), 0, "as told");
}

#[derive(Debug)]
struct Data(u8);

impl VmaData for Data {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        may_panic();
        Self(self.0)
    }

    fn can_merge(&self, _: VmRange, right: &Self, _: VmRange) -> bool {
        may_panic();
        self.0 == right.0
    }

    fn merge(&mut self, _: VmRange, _: &mut Self, _: VmRange) {
        may_panic();
    }

    fn fork(&self, _: VmRange) -> Self {
        may_panic();
        Self(self.0)
    }

    fn relocate(&mut self, _: VmRange, _: u64) {
        may_panic();
    }

    fn key(&self) -> u64 {
        may_panic();
        self.0.into()
    }
}

struct Table;

impl Hooks<Data> for Table {
    type Error = Error;

    fn prepare(&mut self, _: &Event<'_, Data>) -> std::result::Result<(), Error> {
        may_panic();
        Ok(())
    }

    fn on_map(&mut self, _: &Piece<'_, Data>) {
        may_panic();
    }

    fn on_unmap(&mut self, _: &Piece<'_, Data>) {
        may_panic();
    }

    fn on_protect(&mut self, _: &Piece<'_, Data>, _: &Attrs) {
        may_panic();
    }

    fn on_relocate(&mut self, _: &Piece<'_, Data>, _: u64) {
        may_panic();
    }

    fn on_advise(&mut self, _: &Piece<'_, Data>, _: Advice) {
        may_panic();
    }

    fn flush_begin(&mut self) {
        may_panic();
    }

    fn flush_wait(&mut self) {
        may_panic();
    }

    fn release(&mut self, _: RemovedVma<Data>) {
        may_panic();
    }
}

type Map = VmMap<Data, Arc<BoxAlloc<VmaNode<Data>>>>;
type Space = AddrSpace<Map>;

/// Keeps panics that are meant from being printed, and libFuzzer from taking them for findings.
fn expect_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if LEFT.get() != 0 {
                usual(info);
            }
        }));
    });
}

/// Runs one input.
pub fn run(input: &[u8]) {
    expect_panics();
    let _ = play(&mut Unstructured::new(input));
}

fn new_map() -> Map {
    VmMap::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, Arc::default()).unwrap()
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let (space, other) = (AddrSpace::new(new_map()), AddrSpace::new(new_map()));
    let mut saved = None;
    while !input.is_empty() {
        let calls = input.int_in_range(1..=24)?;
        let op = op(input)?;
        LEFT.set(calls);
        let end = catch_unwind(AssertUnwindSafe(|| operate(&op, &space, &other, &mut saved)));
        // The message of a panic that is not meant has been printed.
        let meant = LEFT.get() == 0;
        LEFT.set(u32::MAX);
        assert!(end.is_ok() || meant, "a panic that is not the kernel's");
        check(&space);
        check(&other);
    }
    Ok(())
}

fn check(space: &Space) {
    space.inspect(|map| map.check()).unwrap();
    let starts: Vec<_> = space.inspect(|map| map.iter().map(|vma| vma.start()).collect());
    for start in starts {
        assert!(space.try_lookup(start).unwrap().is_some(), "{start:#x} is left changing");
    }
}

#[derive(Debug)]
struct Op {
    kind: u8,
    at: u64,
    len: u64,
    to: u64,
    prot: Prot,
    data: u8,
}

fn op(input: &mut Unstructured<'_>) -> Result<Op> {
    let page = |input: &mut Unstructured<'_>| Ok(input.int_in_range(0..=PAGES - 1)? * PAGE);
    Ok(Op {
        kind: input.int_in_range(0..=15)?,
        at: page(input)?,
        len: input.int_in_range(1..=8)? * PAGE,
        to: page(input)?,
        prot: *input.choose(&[Prot::RW, Prot::READ])?,
        data: input.int_in_range(0..=1)?,
    })
}

fn operate(op: &Op, space: &Space, other: &Space, saved: &mut Option<Map>) {
    let &Op { kind, at, len, to, prot, data } = op;
    let (hooks, merge) = (&mut Table, Merge::Both);
    let request =
        |placement| MapRequest::new(placement, len, Attrs::new(prot)).with_data(Data(data));
    let _ = match kind {
        0 | 1 => space.map(request(Placement::Fixed(at)), hooks).map(drop),
        2 => space.map(request(Placement::FixedNoReplace(at)), hooks).map(drop),
        3 => space.unmap(at, len, hooks).map(drop),
        4 => space.protect(at, len, prot, hooks),
        5 => space.split_at(at, hooks),
        6 => space.merge_at(at, hooks),
        7 => space.relocate(at, len, to, SourceRange::Unmap, merge, hooks),
        8 => space.relocate(at, len, to, SourceRange::Keep, merge, hooks),
        9 => space.advise(at, len, Advice::DontNeed, hooks),
        10 => space.update_data(at, |old| old.0 = data),
        11 => space.transfer(at, len, other, to, merge, hooks, &mut Table),
        12 => other.transfer(at, len, space, to, merge, hooks, &mut Table),
        13 => match space.claim(Placement::Fixed(at), len, hooks) {
            Ok(claim) => claim.commit(Attrs::new(prot), Data(data), hooks).map(drop),
            Err(error) => Err(error),
        },
        14 => space.update(0, &mut NoHooks, |map, _| {
            let copy = |vma: &kvma::Vma<'_, Data>| {
                Ok::<_, Error>(Some((vma.attrs(), vma.data().fork(vma.range()))))
            };
            *saved = None;
            *saved = Some(map.fork(map.alloc().clone(), copy)?);
            Ok(())
        }),
        _ => match saved {
            Some(saved) => space.update(0, hooks, |map, update| {
                map.restore(saved, |now, then| now.data().0 == then.data().0, update)
            }),
            None => Ok(()),
        },
    };
}
