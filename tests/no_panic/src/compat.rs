//! The vocabularies of libmmap and mmap-rs.

use kvma::compat::{Info, MapFlags, MapOptions, Mappings, Origin, UpdateFn, WriteXorExec};
use kvma::node::Preallocated;
use kvma::vm_map::PoolVmMap;
use kvma::{AddrSpace, Attrs, Error, Event, NoHooks, Vma, on_event};

use crate::opaque::{any, debug, sink};
use crate::world::{Data, Pool, Refused, Table, TableError, copy};

static POOL: Pool<Origin<Data>> = Pool::new();
static PLAIN: Pool = Pool::new();

type Known = Mappings<Data, &'static Pool<Origin<Data>>>;

pub fn all() {
    options();
    commit();
    let (Ok(mut known), Ok(second)) =
        (Known::new(any()..=any(), any(), &POOL), Known::new(any()..=any(), any(), &POOL))
    else {
        return;
    };
    mappings(&mut known);
    locked(&AddrSpace::new(second));
}

#[inline(never)]
fn options() {
    let options = MapOptions::new(any())
        .prot(any())
        .granularity(any())
        .search(any())
        .merge(any())
        .mem_type(any());
    let mut all = [options; 20];
    for (index, chosen) in all.iter_mut().enumerate() {
        let options = *chosen;
        *chosen = match index {
            0 => options.copy_on_write(),
            1 => options.fixed(any()),
            2 => options.fixed_no_replace(any()),
            3 => options.grows_down(),
            4 => options.hint(any()),
            5 => options.huge_pages(any()),
            6 => options.jit(),
            7 => options.locked(),
            8 => options.no_core_dump(),
            9 => options.no_reserve(),
            10 => options.object(any(), any()),
            11 => options.populate(),
            12 => options.random(),
            13 => options.reserve(),
            14 => options.sequential(),
            15 => options.shared(),
            16 => options.stack(),
            _ => options.transparent_huge_pages(),
        };
        sink(chosen.request(any()));
    }
    let attrs: Attrs = any();
    sink((attrs.map_flags(), attrs.with_map_flags(MapFlags::from_bits_retain(any()))));
}

#[inline(never)]
fn commit() {
    let Ok(mut map) = PoolVmMap::<64, Data>::new(any()..=any(), any(), &PLAIN) else { return };
    let flags = || MapFlags::from_bits_retain(any());
    sink(map.commit(any(), any(), any(), &mut Table).is_ok());
    sink(map.decommit(any(), any(), &mut Table).is_ok());
    sink(map.change_map_flags(any(), any(), flags(), flags(), &mut Table).is_ok());
    sink(map.lock_pages(any(), any(), &mut Table).is_ok());
    sink(map.unlock_pages(any(), any(), &mut Table).is_ok());
    sink(map.protect(any(), any(), any(), &mut WriteXorExec(Table)).is_ok());
    let mut told = on_event(|event: Event<'_, Data>| sink(event.is_decommit()));
    sink(map.decommit(any(), any(), &mut told).is_ok());
}

fn info(info: &Info<'_, Data>) {
    sink((info.attrs(), info.data(), info.is_original(), info.mapping(), info.object()));
    sink((info.prot(), info.range()));
    debug(info);
}

fn origin(vma: &Vma<'_, Origin<Data>>) {
    let origin = vma.data();
    sink((origin.data(), origin.is_original(), origin.mapping()));
}

fn told(event: Event<'_, Origin<Data>>) {
    if let Some(before) = Info::before(&event) {
        info(&before);
    }
}

#[inline(never)]
fn mappings(known: &mut Known) {
    let mut hooks = UpdateFn(|range, before: Info<'_, Data>| {
        sink(range);
        info(&before);
    });
    sink(known.map(any(), &mut hooks));
    sink(known.map_any(any(), any(), any(), any(), &mut Table).is_ok());
    sink(known.map_at(any(), any(), any(), any(), &mut on_event(told)).is_ok());
    sink(known.protect(any(), any(), any(), &mut Table).is_ok());
    sink(known.unmap(any(), any(), &mut Table).is_ok());
    sink(known.update_attrs(any(), any(), |_| any(), &mut Table).is_ok());
    sink(known.unmap_non_original(&mut Table).is_ok());
    sink(known.reset(&mut Table).is_ok());
    known.enable_aslr(any());
    known.mark_original();
    if let Some(found) = known.query_page(any()) {
        info(&found);
    }
    known.vm_map().iter().for_each(|vma| origin(&vma));
    sink(known.vm_map_mut().clear(&mut Table).is_ok());
    let mut table = Table;
    let mut update = known.update(&mut table);
    sink(known.unmap(any(), any(), &mut update).is_ok());
    drop(update);
    sink(known.fork(&POOL, |_| copy(|| Error::OutOfMemory)).is_ok());
    let mut nodes = Preallocated::new(&POOL);
    sink(nodes.fill(any()));
    let child = known.fork_live(&mut nodes, &mut Table, |_, _| copy(|| TableError::Hook(Refused)));
    sink(child.is_ok());
    if let Ok(saved) = known.checkpoint() {
        sink(saved.vm_map().len());
        sink(known.restore_cost(&saved));
        sink(known.restore(&saved, &mut Table).is_ok());
        debug(&saved);
    }
    sink(known.checkpoint_with(&mut nodes).is_ok());
    debug(&*known);
}

#[inline(never)]
fn locked(space: &AddrSpace<Known>) {
    sink(space.map(any(), &mut Table).is_ok());
    sink(space.map_any(any(), any(), any(), any(), &mut Table).is_ok());
    sink(space.map_at(any(), any(), any(), any(), &mut Table).is_ok());
    sink(space.protect(any(), any(), any(), &mut Table).is_ok());
    sink(space.unmap(any(), any(), &mut Table).is_ok());
    sink(space.unmap_non_original(&mut Table).is_ok());
    sink(space.reset(&mut NoHooks).is_ok());
    sink(space.enable_aslr(any()));
    sink(space.mark_original());
    space.query_page(any(), |found| info(&found));
    sink(space.fork(&POOL, &mut Table, |_, _| copy(|| TableError::Hook(Refused))).is_ok());
    if let Ok(saved) = space.checkpoint() {
        sink(space.restore(&saved, &mut Table).is_ok());
    }
}
