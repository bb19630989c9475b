//! Watchers around hooks.

use kvma::vm_map::PoolVmMap;
use kvma::watch::{Counts, Recorder, Refusals, watch};
use kvma::{Hooks, NoHooks};

use crate::opaque::{any, debug, show, sink};
use crate::world::{Data, Pool, Table};

static POOL: Pool = Pool::new();

type Map = PoolVmMap<64, Data>;

pub fn all() {
    let Ok(mut map) = Map::new(any()..=any(), any(), &POOL) else { return };
    let mut counts = Counts::new();
    let mut recorder = Recorder::<16>::default();
    let mut recorder_by_name = Recorder::<16>::new();
    let mut nth = Refusals::nth(any());
    let mut some = Refusals::one_in(any(), any());
    changes(&mut map, &mut watch(&mut Table, &mut counts));
    changes(&mut map, &mut watch(&mut Table, &mut recorder));
    changes(&mut map, &mut watch(&mut NoHooks, &mut recorder_by_name));
    changes(&mut map, &mut watch(&mut Table, &mut nth));
    changes(&mut map, &mut watch(&mut Table, &mut some));
    sink((nth.refused(), some.refused()));
    numbers(&counts);
    recorder.steps().for_each(sink);
    sink(recorder.forgotten());
    show(recorder.trace());
    debug((recorder.trace(), &counts, &nth));
    debug(watch(&mut NoHooks, &mut counts));
    recorder.clear();
}

#[inline(never)]
fn changes<H: Hooks<Data>>(map: &mut Map, hooks: &mut H) {
    let _ = map.map(any(), hooks).map(sink);
    let _ = map.unmap(any(), any(), hooks).map(sink);
    let _ = map.protect(any(), any(), any(), hooks);
    let _ = map.relocate(any(), any(), any(), any(), any(), hooks);
    let _ = map.advise(any(), any(), any(), hooks);
}

fn numbers(counts: &Counts) {
    sink((counts.prepares(), counts.refusals(), counts.cancels(), counts.maps()));
    sink((counts.unmaps(), counts.protects(), counts.relocates(), counts.advice()));
    sink((counts.flushes(), counts.waits(), counts.released()));
    sink((counts.mapped_bytes(), counts.unmapped_bytes()));
    show(counts);
}
