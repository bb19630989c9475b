//! Compares a map with its model: everything that can be seen of both.

use std::ops::Range;

use kvma::{NodeAlloc, VmMap, VmRange, Vma, VmaNode};

use crate::ensure::{ensure, ensure_eq};
use crate::page::VmaView;
use crate::recorder::ToView;
use crate::space::Space;
use crate::tag::Tag;

/// Returns a plain copy of a VMA of the map.
pub(crate) fn vma_view(vma: &Vma<'_, Tag>) -> VmaView {
    VmaView { start: vma.start(), last: vma.last(), attrs: vma.attrs(), tag: vma.data().view() }
}

/// Compares the VMAs, the gaps, and `find` of every page.
pub(crate) fn compare<A: NodeAlloc<VmaNode<Tag>> + Clone>(
    map: &VmMap<Tag, A>,
    model: &Space,
) -> Result<(), String> {
    map.check()?;
    let config = model.config;
    let vmas = model.vmas();
    let bytes = vmas.iter().map(|vma| vma.tag.len * config.page).sum::<u64>();
    let gaps = model.gaps(model.all());
    let index = |addr: u64| ((addr - config.start) / config.page) as usize;
    for (count, (vma, want)) in map.iter().zip(&vmas).enumerate() {
        ensure_eq!(vma_view(&vma), *want, "VMA {count}");
        ensure_eq!(vma.data().view().len, vma.page_count(), "length of VMA {count}");
        ensure_eq!(vma.data().start(), vma.start(), "start of VMA {count}");
        let gap = gaps.iter().find(|gap| gap.end == index(want.start)).map_or(0, Range::len);
        ensure_eq!(vma.gap_before(), gap as u64 * config.page, "gap before VMA {count}");
    }
    ensure_eq!(map.iter().count(), vmas.len(), "number of VMAs");
    ensure!(
        map.iter().rev().map(|vma| vma.start()).eq(vmas.iter().rev().map(|vma| vma.start)),
        "VMAs in descending order"
    );
    ensure_eq!((map.len(), map.mapped_bytes()), (vmas.len(), bytes), "len, mapped_bytes");
    ensure_eq!(map.is_empty(), vmas.is_empty(), "is_empty");

    let mut vma = vmas.iter().peekable();
    for index in model.all() {
        let first = config.addr(index);
        while vma.next_if(|vma| vma.last < first).is_some() {}
        let want = vma.peek().filter(|vma| vma.start <= first).map(|vma| vma.start);
        ensure_eq!(map.find(first).map(|vma| vma.start()), want, "find({first:#x})");
    }
    compare_gaps(map, model, 0, u64::MAX)
}

fn compare_gaps<A: NodeAlloc<VmaNode<Tag>> + Clone>(
    map: &VmMap<Tag, A>,
    model: &Space,
    start: u64,
    len: u64,
) -> Result<(), String> {
    let gaps = model.gaps(model.touched(start, len)).into_iter();
    let mut want: Vec<_> =
        gaps.map(|gap| (model.config.addr(gap.start), gap.len() as u64)).collect();
    let flat = |range: VmRange| (range.start(), range.page_count());
    let gaps = map.gaps(start, len);
    ensure!(gaps.clone().map(flat).eq(want.iter().copied()), "gaps({start:#x}, {len:#x})");
    // From both ends in turn.
    let (mut gaps, mut met) = (gaps, Vec::new());
    while let Some(gap) = gaps.next().map(flat) {
        met.push(gap);
        met.extend(gaps.next_back().map(flat));
    }
    ensure!(gaps.next_back().is_none(), "a gap after the last one");
    met.sort_unstable();
    want.sort_unstable();
    ensure_eq!(met, want, "gaps({start:#x}, {len:#x}) from both ends");
    Ok(())
}

/// Compares every query about a range of bytes.
pub(crate) fn compare_queries<A: NodeAlloc<VmaNode<Tag>> + Clone>(
    map: &VmMap<Tag, A>,
    model: &Space,
    addr: u64,
    len: u64,
) -> Result<(), String> {
    let config = model.config;
    let vmas = model.vmas();
    let start = |vma: Option<Vma<'_, Tag>>| vma.map(|vma| vma.start());
    let find = |wanted: &dyn Fn(&VmaView) -> bool| {
        vmas.iter().find(|vma| wanted(vma)).map(|vma| vma.start)
    };
    let holds = |vma: &VmaView| vma.start <= addr && addr <= vma.last;
    ensure_eq!(start(map.find(addr)), find(&holds), "find({addr:#x})");
    ensure_eq!(start(map.find_from(addr)), find(&|vma| addr <= vma.last), "find_from({addr:#x})");
    let page = addr & !(config.page - 1);
    let below = vmas.iter().rev().find(|vma| vma.start < page).map(|vma| vma.start);
    ensure_eq!(start(map.find_before(addr)), below, "find_before({addr:#x})");

    let touched = model.touched(addr, len);
    let overlaps = |vma: &&VmaView| {
        touched.clone().any(|index| (vma.start..=vma.last).contains(&config.addr(index)))
    };
    let want: Vec<u64> = vmas.iter().filter(overlaps).map(|vma| vma.start).collect();
    let overlapping = map.overlapping(addr, len);
    let is: Vec<u64> = overlapping.clone().map(|vma| vma.start()).collect();
    ensure_eq!(is, want.clone(), "overlapping({addr:#x}, {len:#x})");
    let back: Vec<u64> = overlapping.rev().map(|vma| vma.start()).collect();
    ensure!(back.iter().rev().eq(&want), "overlapping({addr:#x}, {len:#x}) in descending order");
    compare_gaps(map, model, addr, len)?;

    let want = model.pieces(touched).into_iter().map(|piece| {
        let view = model.piece_view(piece);
        (view.start, view.pages, view.attrs)
    });
    let is = map
        .pieces(addr, len)
        .map(|piece| (piece.range().start(), piece.range().page_count(), piece.attrs()));
    ensure!(is.eq(want), "pieces({addr:#x}, {len:#x})");
    let range = model.range(addr, len);
    let covered = range.clone().is_ok_and(|range| model.covers(range));
    ensure_eq!(map.covers(addr, len), covered, "covers({addr:#x}, {len:#x})");
    let free = range.is_ok_and(|range| model.is_free(range));
    ensure_eq!(map.is_free(addr, len), free, "is_free({addr:#x}, {len:#x})");
    Ok(())
}
