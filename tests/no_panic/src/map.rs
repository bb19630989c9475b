//! `VmMap`, and updates of it.

use kvma::node::Preallocated;
use kvma::vm_map::{PoolVmMap, Updater};
use kvma::{Error, NoHooks, PageSize, Update, VmMap, VmaNode, on_event};

use crate::opaque::{any, debug, drain, show, sink};
use crate::world::{Chunks, Data, Pool, Table, TableError, copy, look};

static POOL: Pool = Pool::new();
static OTHER: Chunks = Chunks::new();

type Map = PoolVmMap<64, Data>;
type OtherMap = VmMap<Data, &'static Chunks>;

pub fn all() {
    let (Ok(mut map), Ok(mut saved), Ok(mut other)) = (
        Map::new(any()..=any(), any(), &POOL),
        Map::new(any()..=any(), any(), &POOL),
        OtherMap::new(any()..=any(), any(), &OTHER),
    ) else {
        return;
    };
    queries(&map);
    operations(&mut map, &mut NoHooks);
    operations(&mut map, &mut on_event(sink_event));
    operations(&mut map, &mut Table);
    let mut table = Table;
    let mut update = map.update(&mut table);
    operations(&mut map, &mut update);
    sink(update.preallocate(any()));
    sink(update.removed());
    sink(update.hooks() as *mut Table);
    debug(&update);
    match any::<bool>() {
        true => update.finish(),
        false => {
            let mut owed = update.into_owed();
            sink(owed.removed());
            owed.wait(|| sink(0));
            owed.drain().for_each(sink);
            debug(&owed);
            owed.finish(|| sink(0));
        }
    }
    let mut table = Table;
    let mut update = Update::before_lock(&POOL, any::<PageSize>(), &mut table);
    operations(&mut map, &mut update);
    drop(update);
    whole(&mut map, &mut saved, &mut other);
    drop((map, saved, other));
}

fn sink_event(event: kvma::Event<'_, Data>) {
    sink((event.piece().range(), event.gains_exec()));
}

#[inline(never)]
fn queries(map: &Map) {
    sink(map.alloc().capacity());
    sink((map.len(), map.is_empty(), map.mapped_bytes(), map.page_size(), map.space()));
    sink((map.check(), map.covers(any(), any()), map.is_free(any(), any())));
    for vma in [map.find(any()), map.find_before(any()), map.find_from(any())].iter().flatten() {
        look(vma);
    }
    sink(map.find_gap(any(), &any()));
    drain(map.gaps(any(), any()));
    drain(map.iter());
    map.into_iter().for_each(sink);
    drain(map.overlapping(any(), any()));
    drain(map.pieces(any(), any()));
    sink(map.can_merge_at(any()));
    show(map);
    debug(map);
}

#[inline(never)]
fn operations<By, U>(map: &mut Map, update: &mut U)
where
    U: Updater<Data, &'static Pool, By> + ?Sized,
{
    sink(map.map(any(), update).is_ok());
    sink(
        map.map_with(
            any(),
            |range| {
                sink(range);
                any()
            },
            update,
        )
        .is_ok(),
    );
    sink(map.unmap(any(), any(), update).is_ok());
    sink(map.clear(update).is_ok());
    sink(map.retain(|_| any(), update).is_ok());
    sink(map.protect(any(), any(), any(), update).is_ok());
    sink(map.update_attrs(any(), any(), |_| any(), update).is_ok());
    sink(map.advise(any(), any(), any(), update).is_ok());
    sink(map.invalidate(any(), any(), update, |_, vma| look(vma)).is_ok());
    sink(map.split_at(any(), update).is_ok());
    sink(map.merge_at(any(), update).is_ok());
    sink(map.relocate(any(), any(), any(), any(), any(), update).is_ok());
    sink(map.remap(any(), any(), any(), |_| any(), any(), update).is_ok());
    if let Ok(claimed) = map.claim(any(), any(), update) {
        sink(claimed.range());
        debug(&claimed);
        sink(map.commit_claim(&claimed, any(), any(), any(), update).is_ok());
        sink(map.release_claim(claimed, update).is_ok());
    }
}

#[inline(never)]
fn whole(map: &mut Map, saved: &mut Map, other: &mut OtherMap) {
    sink(map.adopt(any()).is_ok());
    sink(map.update_data(any(), |data| *data = any()));
    sink(map.fork(&POOL, |_| copy(|| Error::OutOfMemory)).is_ok());
    let mut nodes = Preallocated::<VmaNode<Data>, _>::new(&POOL);
    sink((nodes.fill(any()), nodes.len(), nodes.is_empty()));
    debug(&nodes);
    sink(map.fork_with(&mut nodes, |_| copy(|| Error::OutOfMemory)).is_ok());
    let child = map
        .fork_live(&mut nodes, &mut Table, |_, _| copy(|| TableError::Hook(crate::world::Refused)));
    sink(child.is_ok());
    sink(map.restore_cost(saved, |_, _| any()));
    sink(map.restore(saved, |_, _| any(), &mut Table).is_ok());
    sink(map.transfer(any(), any(), &mut Table, other, any(), any(), &mut Table).is_ok());
    let (mut one, mut two) = (Table, Table);
    let (mut update, mut target) = (map.update(&mut one), other.update(&mut two));
    sink(map.transfer(any(), any(), &mut update, other, any(), any(), &mut target).is_ok());
}
