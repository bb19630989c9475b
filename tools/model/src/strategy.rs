//! Random operations. Most arguments are sensible and collide often; some are not.

use crate::op::{Addr, How, Len, Look, Op, Where};
use crate::rig::Faults;
use kvma::{Merge, Source};
use proptest::option;
use proptest::prelude::*;

/// Pages of the spaces that these operations are made for.
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

fn look() -> impl Strategy<Value = Look> {
    let flags = prop_oneof![12 => Just(0u8), 1 => 1..7u8];
    let extra = prop_oneof![8 => Just(0u64), 1 => 0..2u64];
    let all = (prot(), flags, extra, object());
    all.prop_map(|(prot, flags, extra, object)| Look { prot, flags, extra, object })
}

fn owner() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0u32), 1 => 0..3u32]
}

fn merge() -> impl Strategy<Value = Merge> {
    let one_side = prop_oneof![Just(Merge::Left), Just(Merge::Right), Just(Merge::Never)];
    prop_oneof![6 => Just(Merge::Both), 1 => one_side]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::FlipWrite),
        2 => prot().prop_map(How::Prot),
        2 => (0..2u64).prop_map(How::Extra),
        2 => Just(How::OddLength),
        2 => object().prop_map(How::Object),
        1 => Just(How::FlipNoMerge),
        1 => Just(How::FlipCut),
    ]
}

fn place() -> impl Strategy<Value = Where> {
    let align = prop_oneof![20 => Just(0u8), 12 => 1..4u8, 2 => 4..8u8, 1 => 14..16u8];
    let offset = prop_oneof![3 => Just(Len::pages(0)), 1 => len()];
    let guard = prop_oneof![
        10 => Just(Len::pages(0)),
        3 => (1..3u64).prop_map(Len::pages),
        1 => (0..40u64, off()).prop_map(|(pages, off)| Len { pages, off }),
    ];
    let window = option::weighted(0.4, (addr(), addr()));
    let all = (any::<bool>(), window, align, offset, option::weighted(0.3, addr()), guard);
    all.prop_map(|(top_down, window, align, align_offset, hint, guard)| Where {
        top_down,
        window,
        align,
        align_offset,
        hint,
        guard,
    })
}

/// One operation.
pub fn op() -> impl Strategy<Value = Op> {
    let source = prop_oneof![Just(Source::Unmap), Just(Source::Keep)];
    prop_oneof![
        20 => (place(), len(), look(), owner(), merge()).prop_map(|(w, l, look, o, m)| Op::MapAny(w, l, look, o, m)),
        20 => (any::<bool>(), addr(), len(), look(), owner(), merge()).prop_map(
            |(replace, at, len, look, owner, merge)| Op::MapAt { replace, at, len, look, owner, merge }
        ),
        20 => (addr(), len()).prop_map(|(at, len)| Op::Unmap(at, len)),
        14 => (addr(), len(), prot()).prop_map(|(at, len, prot)| Op::Protect(at, len, prot)),
        14 => (addr(), len(), how()).prop_map(|(at, len, how)| Op::Update(at, len, how)),
        3 => (addr(), owner()).prop_map(|(at, owner)| Op::SetOwner(at, owner)),
        8 => addr().prop_map(Op::Split),
        4 => addr().prop_map(Op::Join),
        10 => (addr(), len(), addr(), source, merge()).prop_map(|(f, l, t, s, m)| Op::Relocate(f, l, t, s, m)),
        2 => (how(), 0..3u64).prop_map(|(how, without)| Op::Fork(how, without)),
        1 => Just(Op::Clear),
        1 => (0..3u32).prop_map(Op::Retain),
        2 => Just(Op::Mark),
        3 => Just(Op::Restore),
        6 => (place(), len()).prop_map(|(place, len)| Op::Gap(place, len)),
        6 => (addr(), len()).prop_map(|(at, len)| Op::Look(at, len)),
    ]
}

/// Mostly none.
pub fn faults() -> impl Strategy<Value = Faults> {
    prop_oneof![
        8 => Just(Faults::NONE),
        1 => (0..3u64).prop_map(|n| Faults { alloc: Some(n), prepare: None }),
        1 => (0..4u64).prop_map(|n| Faults { alloc: None, prepare: Some(n) }),
    ]
}
