//! Where Linux puts things, by the limit on the stack.

use kvma::linux::{Growth, Layout};

/// Bases as the running kernel showed them, without randomisation: the end of what it mapped first.
#[test]
fn the_stack_limit_says_where_the_search_begins() {
    let kernel = [
        (0, 0x7fff_f7ff_f000),
        (8 << 20, 0x7fff_f7ff_f000),
        (127 << 20, 0x7fff_f7ff_f000),
        (2_000_000_000, 0x7fff_88ba_6000),
        (1 << 62, 0x1555_5555_6000),
        (u64::MAX - 1, 0x1555_5555_6000),
    ];
    for (limit, base) in kernel {
        assert_eq!(Layout::x86_64(limit).base(), base, "{limit:#x}");
    }
}

#[test]
fn an_unlimited_stack_leaves_the_search_top_down() {
    let layout = Layout::x86_64(u64::MAX);
    assert_eq!((layout.growth(), layout.base()), (Growth::TopDown, 0x1555_5555_6000));
}
