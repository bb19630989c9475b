//! `RangeMap`, with each merge policy and with wide keys.

use kvma::range_map::{Contiguous, Equal, Key, MergePolicy, RangeNode};
use kvma::{NodeAlloc, RangeMap, Slab};

use crate::opaque::{Opaque, any, debug, drain, sink};

static EQUAL: Slab<'static, RangeNode<u64>> = Slab::new();
static RUNS: Slab<'static, RangeNode<u64, Contiguous>> = Slab::new();
static WIDE: Slab<'static, RangeNode<u128, Equal, u128>> = Slab::new();

pub fn all() {
    one::<u64, u64, _, Equal>(&EQUAL);
    one::<u16, u64, _, Equal>(&EQUAL);
    one::<i32, u64, _, Equal>(&EQUAL);
    one::<u64, u64, _, Contiguous>(&RUNS);
    one::<u128, u128, _, Equal>(&WIDE);
}

#[inline(never)]
fn one<K, V, A, P>(alloc: A)
where
    K: Key + Opaque + core::fmt::Debug + Ord,
    V: Clone + Opaque + core::fmt::Debug + Ord,
    A: NodeAlloc<RangeNode<V, P, K::Index>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    let Ok(mut map) = RangeMap::<K, V, A, P>::try_new_in(alloc.clone()) else { return };
    sink(map.try_insert(any::<K>()..any(), any()).is_ok());
    sink(map.try_insert(any::<K>()..=any(), any()).is_ok());
    sink(map.try_insert(any::<K>().., any()).is_ok());
    sink(map.try_insert(.., any()).is_ok());
    sink(map.try_remove(any::<K>()..any()).is_ok());
    sink(map.try_remove(..=any::<K>()).is_ok());
    sink((map.len(), map.is_empty(), map.check(), map.contains(any())));
    sink(map.alloc() as *const A);
    sink(map.get(any()));
    sink((map.covers(any::<K>()..any()), map.overlaps(any::<K>()..any())));
    let entries = [map.find(any()), map.first_range_value(), map.last_range_value()];
    for entry in entries.iter().flatten() {
        sink((entry.first(), entry.last(), entry.end(), entry.range(), entry.value()));
        sink(entry.contains(any()));
    }
    drain(map.iter());
    drain(map.overlapping(any::<K>()..=any()));
    drain(map.gaps(any::<K>()..=any()));
    (&map).into_iter().for_each(sink);
    map.update_all(|keys, value| {
        sink(keys);
        *value = any();
    });
    map.retain(|keys, value| {
        sink((keys, value));
        any()
    });
    sink((map.pop_first(), map.pop_last()));
    debug(&map);
    if let Ok(other) = map.try_clone_in(alloc) {
        sink((map == other, map.partial_cmp(&other), map.cmp(&other)));
        drain(other.into_iter());
    }
    map.clear();
}
