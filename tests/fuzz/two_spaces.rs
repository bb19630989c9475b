//! Two address spaces, between which VMAs are moved, and two arrays of pages: mapping, claims,
//! adoption, reserving, committing and decommitting, pages that are locked.

use std::ops::Range;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use kvma::compat::MapFlags;
use kvma::{
    AddrSpace, Attrs, Backing, BoxAlloc, Error, MapRequest, Merge, NoHooks, PageSize, Placement,
    Prot, VmMap, VmaFlags, VmaNode,
};

const PAGE: u64 = 4096;
const PAGES: usize = 12;
const START: u64 = 0x10_0000;

type Alloc = Arc<BoxAlloc<VmaNode>>;
type Space = AddrSpace<VmMap<(), Alloc>>;

/// The attributes of each mapped page, as those of a VMA that began there.
type Model = [Option<Attrs>; PAGES];

/// Runs one input.
pub fn run(input: &[u8]) {
    let _ = play(&mut Unstructured::new(input));
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let allocs = [Alloc::default(), Alloc::default()];
    let bounds = START..=START + PAGES as u64 * PAGE - 1;
    let new = |alloc: &Alloc| {
        let map = VmMap::new(bounds.clone(), PageSize::SIZE_4K, alloc.clone()).unwrap();
        AddrSpace::new(map)
    };
    {
        let spaces = [new(&allocs[0]), new(&allocs[1])];
        let mut models = [[None; PAGES]; 2];
        while !input.is_empty() {
            step(input, &spaces, &mut models)?;
            for (space, model) in spaces.iter().zip(&models) {
                compare(space, model);
            }
        }
    }
    assert!(allocs.iter().all(|alloc| alloc.in_use() == 0), "nodes are left");
    Ok(())
}

fn addr(page: usize) -> u64 {
    START + page as u64 * PAGE
}

fn range(input: &mut Unstructured<'_>) -> Result<Range<usize>> {
    let start = input.int_in_range(0..=PAGES as u8 - 1)? as usize;
    let len = input.int_in_range(1..=6_u8)? as usize;
    Ok(start..(start + len).min(PAGES))
}

fn prot(input: &mut Unstructured<'_>) -> Result<Prot> {
    Ok(*input.choose(&[Prot::RW, Prot::READ, Prot::RX, Prot::NONE])?)
}

/// Attributes of a VMA that begins at a page.
fn attrs(input: &mut Unstructured<'_>, page: usize) -> Result<Attrs> {
    let attrs = Attrs::new(prot(input)?);
    Ok(match input.int_in_range(0..=3_u8)? {
        0 => attrs,
        1 => attrs.with_backing(Backing::Object { id: 1, offset: addr(page) }),
        2 => attrs.with_backing(Backing::Object { id: 2, offset: addr(page) ^ START }),
        _ => attrs.with_prot(Prot::NONE).with_map_flags(MapFlags::UNCOMMITTED),
    })
}

fn is_free(model: &Model, range: &Range<usize>) -> bool {
    model[range.clone()].iter().all(Option::is_none)
}

fn fill(model: &mut Model, range: &Range<usize>, attrs: Attrs) {
    for (ahead, page) in model[range.clone()].iter_mut().enumerate() {
        *page = Some(attrs.advance(ahead as u64 * PAGE));
    }
}

/// Changes pages that must all be mapped. Returns the answer that is due.
fn modify(
    model: &mut Model,
    range: &Range<usize>,
    refused: impl Fn(Attrs) -> bool,
    new: impl Fn(Attrs) -> Attrs,
) -> std::result::Result<(), Error> {
    let pages = &mut model[range.clone()];
    if pages.iter().flatten().any(|attrs| refused(*attrs)) {
        return Err(Error::WriteXorExec);
    }
    if pages.iter().any(Option::is_none) {
        return Err(Error::NotMapped);
    }
    pages.iter_mut().flatten().for_each(|attrs| *attrs = new(*attrs));
    Ok(())
}

fn step(input: &mut Unstructured<'_>, spaces: &[Space; 2], models: &mut [Model; 2]) -> Result<()> {
    let here = usize::from(input.arbitrary::<bool>()?);
    let kind = input.int_in_range(0..=9_u8)?;
    let range = range(input)?;
    let (start, len) = (addr(range.start), range.len() as u64 * PAGE);
    let (space, hooks) = (&spaces[here], &mut NoHooks);
    let free = is_free(&models[here], &range);
    let reserved = |attrs: Attrs| attrs.map_flags().contains(MapFlags::UNCOMMITTED);
    match kind {
        0 | 1 => {
            let attrs = attrs(input, range.start)?;
            let placement =
                if kind == 0 { Placement::Fixed(start) } else { Placement::FixedNoReplace(start) };
            let want = if kind == 0 || free { Ok(start) } else { Err(Error::Overlap) };
            assert_eq!(space.map(MapRequest::new(placement, len, attrs), hooks), want);
            if want.is_ok() {
                fill(&mut models[here], &range, attrs);
            }
        }
        2 => {
            let mapped = models[here][range.clone()].iter().flatten().count() as u64;
            assert_eq!(space.unmap(start, len, hooks), Ok(mapped * PAGE));
            models[here][range].fill(None);
        }
        3 => {
            let prot = prot(input)?;
            let want = modify(&mut models[here], &range, |_| false, |attrs| attrs.with_prot(prot));
            assert_eq!(space.protect(start, len, prot, hooks), want);
        }
        4 => {
            let prot = prot(input)?;
            let want = modify(
                &mut models[here],
                &range,
                |attrs| reserved(attrs) && prot.contains(Prot::WRITE | Prot::EXEC),
                |attrs| if reserved(attrs) { committed(attrs).with_prot(prot) } else { attrs },
            );
            let is = space.update(3, hooks, |map, update| map.commit(start, len, prot, update));
            assert_eq!(is, want);
        }
        5 => {
            let gone = |attrs: Attrs| {
                let flags = attrs.map_flags() | MapFlags::UNCOMMITTED;
                attrs.with_prot(Prot::NONE).with_map_flags(flags)
            };
            let want = modify(&mut models[here], &range, |_| false, gone);
            let is = space.update(3, hooks, |map, update| map.decommit(start, len, update));
            assert_eq!(is, want);
        }
        6 => {
            let lock = input.arbitrary()?;
            let new = |attrs: Attrs| {
                if lock { attrs.locked() } else { attrs.without(VmaFlags::LOCKED) }
            };
            let want = modify(&mut models[here], &range, |_| false, new);
            let is = space.update(3, hooks, |map, update| {
                if lock {
                    map.lock_pages(start, len, update)
                } else {
                    map.unlock_pages(start, len, update)
                }
            });
            assert_eq!(is, want);
        }
        7 => {
            let attrs = attrs(input, range.start)?;
            let request = MapRequest::new(Placement::Fixed(start), len, attrs);
            let want = if free { Ok(start) } else { Err(Error::Overlap) };
            assert_eq!(space.update(0, hooks, |map, _| map.adopt(request)), want);
            if free {
                fill(&mut models[here], &range, attrs);
            }
        }
        8 => {
            let attrs = attrs(input, range.start)?;
            let claim = space.claim(Placement::FixedNoReplace(start), len, hooks);
            let Ok(claim) = claim else {
                assert!(!free, "a claim on free pages");
                return Ok(());
            };
            assert!(free, "a claim on mapped pages");
            assert!(space.lookup(start).is_none());
            assert!(!space.inspect(|map| map.is_free(start, len)));
            if input.arbitrary()? {
                assert_eq!(claim.commit(attrs, (), hooks), Ok(start));
                fill(&mut models[here], &range, attrs);
            }
        }
        _ => {
            let to = input.int_in_range(0..=PAGES as u8 - 1)? as usize;
            let goal = to..to + range.len();
            let other = 1 - here;
            let want = if goal.end > PAGES {
                Err(Error::OutOfRange)
            } else if !is_free(&models[other], &goal) {
                Err(Error::Overlap)
            } else {
                Ok(())
            };
            let (target, merge) = (&spaces[other], Merge::Both);
            let is = space.transfer(start, len, target, addr(to), merge, hooks, &mut NoHooks);
            assert_eq!(is, want);
            if want.is_ok() {
                let pages = models[here];
                models[other][goal].copy_from_slice(&pages[range.clone()]);
                models[here][range].fill(None);
            }
        }
    }
    Ok(())
}

fn committed(attrs: Attrs) -> Attrs {
    attrs.with_map_flags(attrs.map_flags() - MapFlags::UNCOMMITTED)
}

fn compare(space: &Space, model: &Model) {
    space.inspect(|map| map.check()).unwrap();
    for (page, want) in model.iter().enumerate() {
        let found = space.lookup(addr(page) + 7);
        let attrs = found.map(|vma| {
            assert!(space.still_valid(vma.token()));
            vma.attrs_at(addr(page))
        });
        assert_eq!(attrs, *want, "page {page} of {model:?}");
    }
}
