//! `AddrSpace`.

use core::mem::MaybeUninit;
use core::ptr;

use kvma::addr_space::{HasVmMap, HintTable, LookupHint};
use kvma::pinned::PinnedData;
use kvma::vm_map::PoolVmMap;
use kvma::{AddrSpace, NoHooks, RawLock, ReadSide, Token, VmMap, VmaNode, VmaSnapshot};

use crate::opaque::{any, debug, show, sink};
use crate::world::{Chunks, Data, Pool, Refused, Table, TableError, copy, look};

static POOL: Pool = Pool::new();
static OTHER: Chunks = Chunks::new();

type Map = PoolVmMap<64, Data>;

// SAFETY: there are no targets; a reference is a number.
unsafe impl PinnedData for Data {
    type Guard = ();
    type Ref<'g> = u64;

    unsafe fn from_key(key: u64, (): &()) -> u64 {
        key
    }
}

/// A map with something beside it.
struct Memory {
    map: Map,
    table: Table,
}

impl HasVmMap for Memory {
    type Data = Data;
    type Alloc = &'static Pool;

    fn vm_map(&self) -> &Map {
        &self.map
    }
}

pub fn all() {
    let (Ok(map), Ok(second), Ok(third), Ok(fourth)) = (
        Map::new(any()..=any(), any(), &POOL),
        Map::new(any()..=any(), any(), &POOL),
        VmMap::<Data, _>::new(any()..=any(), any(), &OTHER),
        Map::new(any()..=any(), any(), &POOL),
    ) else {
        return;
    };
    let mut space = AddrSpace::new(map);
    let other = AddrSpace::with_lock(third, kvma::lock::Spin::new());
    hints(&space);
    operations(&space);
    batches(&space);
    lookups(&space);
    lookups(&other);
    two(&space, &other);
    inside(&AddrSpace::new(Memory { map: fourth, table: Table }));
    {
        let mut map = space.get_mut();
        *map = second;
        debug(&map);
    }
    let _ = space.try_lookup(any());
    let mut hint = LookupHint::new();
    let _ = (space.lookup_near(any(), &mut hint), space.try_lookup_near(any(), &mut hint));
    debug(&space);
    show(&space);
    drop(space.into_inner());
}

#[inline(never)]
fn hints(space: &AddrSpace<Map>) {
    static mut WORDS: [MaybeUninit<usize>; 4096] = [MaybeUninit::uninit(); 4096];
    let len = any::<usize>() % 4097;
    // SAFETY: so many words are there, and this is the only table in them.
    let words = unsafe { core::slice::from_raw_parts_mut(ptr::addr_of_mut!(WORDS).cast(), len) };
    let Some(table) = HintTable::new(words, |words| sink(words.len())) else { return };
    sink(table.slots());
    debug(&table);
    if let Err(table) = space.set_hints(table) {
        sink(table.slots());
    }
    if any::<bool>() {
        space.clear_hints();
    }
}

#[inline(never)]
fn operations(space: &AddrSpace<Map>) {
    sink((space.len(), space.is_empty()));
    sink(space.map(any(), &mut Table).is_ok());
    sink(space.map_with(any(), |_| any(), &mut Table).is_ok());
    sink(space.protect(any(), any(), any(), &mut Table).is_ok());
    sink(space.update_attrs(any(), any(), |_| any(), &mut Table).is_ok());
    sink(space.advise(any(), any(), any(), &mut Table).is_ok());
    sink(space.invalidate(any(), any(), &mut Table, |_, vma| look(vma)).is_ok());
    sink(space.relocate(any(), any(), any(), any(), any(), &mut Table).is_ok());
    sink(space.remap(any(), any(), any(), |_| any(), any(), &mut Table).is_ok());
    sink(space.split_at(any(), &mut Table).is_ok());
    sink(space.merge_at(any(), &mut Table).is_ok());
    sink(space.update_data(any(), |data| *data = any()).is_ok());
    if let Ok(claim) = space.claim(any(), any(), &mut Table) {
        sink(claim.range());
        debug(&claim);
        sink(
            match any::<bool>() {
                true => claim.commit(any(), any(), &mut Table),
                false => claim.commit_merging(any(), any(), any(), &mut Table),
            }
            .is_ok(),
        );
    }
    drop(space.claim(any(), any(), &mut NoHooks));
    sink(space.fork(&POOL, &mut Table, |_, _| copy(|| TableError::Hook(Refused))).is_ok());
    space.inspect(|map| sink(map.len()));
    space.update(any(), &mut Table, |map, update| {
        sink(map.map(any(), update).is_ok());
        sink(map.unmap(any(), any(), update).is_ok());
    });
}

#[inline(never)]
fn batches(space: &AddrSpace<Map>) {
    sink(space.unmap(any(), any(), &mut Table).is_ok());
    sink(space.clear(&mut Table).is_ok());
    let step = space.in_batches(any(), any(), any(), &mut Table, |map, range, update| {
        sink(range);
        map.protect(any(), any(), any(), update)
    });
    sink(step.is_ok());
}

#[inline(never)]
fn lookups<M, L>(space: &AddrSpace<M, L>)
where
    M: HasVmMap<Data = Data>,
    M::Alloc: ReadSide<VmaNode<Data>>,
    L: RawLock,
{
    if let Some(vma) = space.lookup(any()) {
        snapshot(&vma);
        sink(space.still_valid(vma.token()));
        sink(space.still_valid_for(vma.token(), any(), any()));
    }
    match space.try_lookup(any()) {
        Ok(vma) => {
            vma.iter().for_each(snapshot);
        }
        Err(busy) => {
            show(busy);
            debug(busy);
        }
    }
    sink((space.next_vma(any()), space.try_next_vma(any()).is_ok()));
    sink(space.next_vma_pinned(any(), &()));
    space.snapshots().for_each(|vma| snapshot(&vma));
    debug(space.snapshots());
    sink(space.lookup_pinned(any(), &()));
    sink(space.try_lookup_pinned(any(), &()).is_ok());
}

fn snapshot(vma: &VmaSnapshot) {
    sink((vma.range(), vma.attrs(), vma.attrs_at(any()), vma.prot(), vma.key()));
    let token: &Token = vma.token();
    sink(token.is_dead());
    debug(vma);
}

#[inline(never)]
fn two<L: RawLock>(space: &AddrSpace<Map>, other: &AddrSpace<VmMap<Data, &'static Chunks>, L>) {
    sink(space.transfer(any(), any(), other, any(), any(), &mut Table, &mut Table).is_ok());
    let both = space.update_both(other, any(), &mut Table, &mut Table, |a, ua, b, ub| {
        sink(a.map(any(), ua).is_ok());
        sink(b.unmap(any(), any(), ub).is_ok());
    });
    sink(both.is_ok());
}

#[inline(never)]
fn inside(space: &AddrSpace<Memory>) {
    space.update_inside(
        any(),
        || sink(0),
        |memory, owing| {
            let Memory { map, table } = memory;
            debug(&*owing);
            owing.with(table, |update| {
                sink(map.map(any(), update).is_ok());
                sink(map.unmap(any(), any(), update).is_ok());
            });
        },
    );
}
