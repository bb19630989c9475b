//! Random operations. Most arguments are sensible and collide often; some are not.

use kvma::Merge;
use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use proptest::option;
use proptest::prelude::*;

use crate::config::{Addr, Len};
use crate::op::{AttrsChange, AttrsSpec, Op};
use crate::rig::Faults;
use crate::search::PageSearch;

/// The number of pages of the spaces that these operations are made for.
pub const PAGES: u64 = 40;

fn off() -> impl Strategy<Value = u8> {
    prop_oneof![60 => Just(0u8), 1 => 1..3u8]
}

fn addr() -> impl Strategy<Value = Addr> {
    let page = prop_oneof![40 => 0..PAGES as i64, 1 => -2..PAGES as i64 + 3];
    (page, off()).prop_map(|(page, off)| Addr { page, off })
}

fn len() -> impl Strategy<Value = Len> {
    let pages = prop_oneof![20 => 1..7u64, 4 => 5..PAGES / 2, 1 => 0..PAGES + 3];
    (pages, off()).prop_map(|(pages, off)| Len { pages, off })
}

fn prot() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(3u8), 3 => Just(1u8), 1 => 0..8u8]
}

fn object() -> impl Strategy<Value = Option<(u64, i64)>> {
    option::of((0..2u64, prop_oneof![6 => Just(0i64), 1 => -3..4i64]))
}

fn attrs() -> impl Strategy<Value = AttrsSpec> {
    let kind = prop_oneof![12 => Just(0u8), 1 => 1..8u8];
    let user_bits = prop_oneof![8 => Just(0u64), 1 => 0..2u64];
    let all = (prot(), kind, user_bits, object());
    all.prop_map(|(prot, kind, user_bits, object)| AttrsSpec { prot, kind, user_bits, object })
}

fn file() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0u32), 1 => 0..3u32]
}

fn merge() -> impl Strategy<Value = Merge> {
    let one_side = prop_oneof![Just(Merge::Left), Just(Merge::Right), Just(Merge::Never)];
    prop_oneof![6 => Just(Merge::Both), 1 => one_side]
}

fn change() -> impl Strategy<Value = AttrsChange> {
    prop_oneof![
        4 => Just(AttrsChange::FlipWrite),
        2 => prot().prop_map(AttrsChange::Prot),
        2 => (0..2u64).prop_map(AttrsChange::UserBits),
        2 => Just(AttrsChange::OddLength),
        2 => object().prop_map(AttrsChange::Object),
        1 => Just(AttrsChange::FlipNoMerge),
        1 => Just(AttrsChange::FlipSplit),
    ]
}

fn search() -> impl Strategy<Value = PageSearch> {
    let align = prop_oneof![20 => Just(0u8), 12 => 1..4u8, 2 => 4..8u8, 1 => 14..16u8];
    let offset = prop_oneof![3 => Just(Len::pages(0)), 1 => len()];
    let guard = prop_oneof![
        10 => Just(Len::pages(0)),
        3 => (1..3u64).prop_map(Len::pages),
        1 => (0..40u64, off()).prop_map(|(pages, off)| Len { pages, off }),
    ];
    let window = option::weighted(0.4, (addr(), addr()));
    let all = (any::<bool>(), window, align, offset, option::weighted(0.3, addr()), guard);
    all.prop_map(|(top_down, window, align, align_offset, hint, guard)| PageSearch {
        top_down,
        window,
        align,
        align_offset,
        hint,
        guard,
    })
}

fn map_any() -> impl Strategy<Value = Op> {
    let all = (search(), len(), attrs(), file(), merge());
    all.prop_map(|(search, len, attrs, file, merge)| Op::MapAny(search, len, attrs, file, merge))
}

fn map_at() -> impl Strategy<Value = Op> {
    let all = (any::<bool>(), addr(), len(), attrs(), file(), merge());
    all.prop_map(|(replace, at, len, attrs, file, merge)| Op::MapAt {
        replace,
        at,
        len,
        attrs,
        file,
        merge,
    })
}

fn relocate() -> impl Strategy<Value = Op> {
    let source = prop_oneof![Just(SourceRange::Unmap), Just(SourceRange::Keep)];
    let all = (addr(), len(), addr(), source, merge());
    all.prop_map(|(from, len, to, source, merge)| Op::Relocate(from, len, to, source, merge))
}

fn claim() -> impl Strategy<Value = Op> {
    let at = (any::<bool>(), addr(), len());
    prop_oneof![
        1 => (search(), len()).prop_map(|(search, len)| Op::ClaimAny(search, len)),
        1 => at.prop_map(|(replace, at, len)| Op::ClaimAt { replace, at, len }),
    ]
}

fn commit() -> impl Strategy<Value = Op> {
    let all = (any::<u8>(), attrs(), file(), merge());
    all.prop_map(|(claim, attrs, file, merge)| Op::Commit(claim, attrs, file, merge))
}

fn advise() -> impl Strategy<Value = Op> {
    let advice = prop_oneof![Just(Advice::DontNeed), Just(Advice::WillNeed)];
    (addr(), len(), advice).prop_map(|(at, len, advice)| Op::Advise(at, len, advice))
}

/// Returns a random operation.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => map_any(),
        20 => map_at(),
        20 => (addr(), len()).prop_map(|(at, len)| Op::Unmap(at, len)),
        14 => (addr(), len(), prot()).prop_map(|(at, len, prot)| Op::Protect(at, len, prot)),
        14 => (addr(), len(), change()).prop_map(|(at, len, how)| Op::UpdateAttrs(at, len, how)),
        3 => (addr(), file()).prop_map(|(at, file)| Op::SetFile(at, file)),
        8 => addr().prop_map(Op::Split),
        4 => addr().prop_map(Op::Merge),
        10 => relocate(),
        2 => (change(), 0..3u64).prop_map(|(change, without)| Op::Fork(change, without)),
        1 => Just(Op::Clear),
        1 => (0..3u32).prop_map(Op::Retain),
        2 => Just(Op::Save),
        3 => Just(Op::Restore),
        6 => claim(),
        4 => commit(),
        2 => any::<u8>().prop_map(Op::Release),
        4 => advise(),
        6 => (search(), len()).prop_map(|(search, len)| Op::FindGap(search, len)),
        6 => (addr(), len()).prop_map(|(at, len)| Op::Query(at, len)),
    ]
}

/// Returns the faults of an operation: mostly none.
pub fn faults() -> impl Strategy<Value = Faults> {
    prop_oneof![
        8 => Just(Faults::NONE),
        1 => (0..3u64).prop_map(|n| Faults { alloc: Some(n), prepare: None }),
        1 => (0..4u64).prop_map(|n| Faults { alloc: None, prepare: Some(n) }),
    ]
}
