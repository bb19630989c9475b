//! Huge pages that the kernel sets aside (`MAP_HUGETLB`, hugetlbfs).

use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{Layout, LinuxVma, Mm, Mmap, NoKernel, PageOp, Policy, Resource, VmFlags};
use kvma::{BoxAlloc, Errno, VmaNode};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>;
type Space = Mm<Inode, Alloc>;

const HUGE: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
const HUGETLB: u64 = ANON | MAP_HUGETLB;

fn space() -> (Space, TestKernel) {
    (
        Mm::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap(),
        TestKernel::default().with_huge_pages(8),
    )
}

fn map(
    mm: &mut Space,
    kernel: &mut TestKernel,
    addr: u64,
    len: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let args = Mmap { addr, len, prot: RW, flags, offset: 0, file: None };
    let result = mm.mmap(args, &mut mm.update(kernel));
    mm.check().unwrap();
    result
}

fn vmas(mm: &Space) -> Vec<(u64, u64, String)> {
    mm.iter()
        .map(|vma| (vma.start(), vma.page_count() / 512, VmFlags::of(&vma).to_string()))
        .collect()
}

#[test]
fn huge_pages_come_from_the_kernel() {
    let (mut mm, mut kernel) = space();
    // Lengths are rounded up, and addresses are multiples of a huge page.
    let at = map(&mut mm, &mut kernel, 0, HUGE + 1, HUGETLB).unwrap();
    assert!(at.is_multiple_of(HUGE));
    let shared =
        map(&mut mm, &mut kernel, AT + PAGE, PAGE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB)
            .unwrap();
    assert_eq!(shared, AT + HUGE);
    assert_eq!((kernel.free_huge_pages, kernel.charged), (5, 0));
    let flags = "rd wr mr mw me de ht ";
    assert_eq!(
        vmas(&mm),
        [(shared, 1, "rd wr sh mr mw me ms de ht ".to_string()), (at, 2, flags.to_string())]
    );
    assert!(mm.maps().any(|line| line.to_string().ends_with("/anon_hugepage (deleted)")));

    // There are no more than there are; what was at a fixed address has gone.
    assert_eq!(map(&mut mm, &mut kernel, 0, 6 * HUGE, HUGETLB), Err(Errno::ENOMEM));
    assert_eq!(
        map(&mut mm, &mut kernel, AT + HUGE, 8 * HUGE, HUGETLB | MAP_FIXED),
        Err(Errno::ENOMEM)
    );
    assert_eq!((vmas(&mm).len(), kernel.free_huge_pages), (1, 6));
    // Addresses without pages cost nothing, and gigantic pages are set aside separately.
    map(&mut mm, &mut kernel, 0, 100 * HUGE, HUGETLB | MAP_NORESERVE).unwrap();
    assert_eq!(map(&mut mm, &mut kernel, 0, 1, HUGETLB | 30 << MAP_HUGE_SHIFT), Err(Errno::ENOMEM));
    let gigantic =
        map(&mut mm, &mut kernel, 0, 1, HUGETLB | MAP_NORESERVE | 30 << MAP_HUGE_SHIFT).unwrap();
    assert!(gigantic.is_multiple_of(GIB));
    assert_eq!(map(&mut mm, &mut kernel, 0, 1, HUGETLB | 22 << MAP_HUGE_SHIFT), Err(Errno::EINVAL));
    assert_eq!(map(&mut mm, &mut kernel, AT + PAGE, 1, HUGETLB | MAP_FIXED), Err(Errno::EINVAL));

    // A kernel that says nothing of huge pages has none.
    let args = Mmap {
        addr: 0,
        len: HUGE,
        prot: RW,
        flags: HUGETLB | MAP_NORESERVE,
        offset: 0,
        file: None,
    };
    assert_eq!(mm.mmap(args, &mut mm.update(&mut NoKernel)), Err(Errno::ENOMEM));
}

#[test]
fn nothing_splits_a_huge_page() {
    let (mut mm, mut kernel) = space();
    map(&mut mm, &mut kernel, AT, 6 * HUGE, HUGETLB | MAP_FIXED).unwrap();
    let before = vmas(&mm);
    {
        let mut call = mm.update(&mut kernel);
        assert_eq!(mm.munmap(AT + HUGE, PAGE, &mut call), Err(Errno::EINVAL));
        assert_eq!(mm.munmap(AT + PAGE, HUGE, &mut call), Err(Errno::EINVAL));
        assert_eq!(mm.mprotect(AT, PAGE, PROT_READ, &mut call), Err(Errno::EINVAL));
        assert_eq!(mm.mseal(AT, PAGE, 0, &mut call), Err(Errno::EINVAL));
        assert_eq!(mm.madvise(AT, PAGE, 10, &mut call), Err(Errno::EINVAL));
    }
    assert_eq!(
        map(&mut mm, &mut kernel, AT + 6 * HUGE - PAGE, PAGE, ANON | MAP_FIXED),
        Err(Errno::EINVAL)
    );
    // A split at the start of the range may have been made. It stays, as in Linux.
    assert_eq!(vmas(&mm).iter().map(|vma| vma.1).sum::<u64>(), before[0].1);

    let mut call = mm.update(&mut kernel);
    assert_eq!(mm.mprotect(AT + HUGE, HUGE, PROT_READ, &mut call), Ok(0));
    assert_eq!(mm.mprotect(AT + HUGE, HUGE, RW, &mut call), Ok(0));
    assert_eq!(mm.munmap(AT + 4 * HUGE, HUGE, &mut call), Ok(0));
    drop(call);
    mm.check().unwrap();
    assert_eq!(kernel.free_huge_pages, 3);
    // They never merge, not even with what they were one with.
    let starts: Vec<u64> = mm.iter().map(|vma| (vma.start() - AT) / HUGE).collect();
    assert_eq!(starts, [0, 1, 2, 5]);
}

#[test]
fn huge_pages_move_and_shrink_but_do_not_grow() {
    let (mut mm, mut kernel) = space();
    map(&mut mm, &mut kernel, AT, 4 * HUGE, HUGETLB | MAP_FIXED).unwrap();
    let to = AT + 64 * HUGE;
    let mut call = mm.update(&mut kernel);
    let moves = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert_eq!(mm.mremap(AT, HUGE, 5 * HUGE, MREMAP_MAYMOVE, 0, &mut call), Err(Errno::EINVAL));
    assert_eq!(mm.mremap(AT + PAGE, HUGE, HUGE, 0, 0, &mut call), Err(Errno::EINVAL));
    // A new address that does not matter is checked all the same.
    assert_eq!(mm.mremap(AT, HUGE, HUGE, 0, PAGE, &mut call), Err(Errno::EINVAL));
    assert_eq!(mm.mremap(AT, HUGE, HUGE, moves, to + PAGE, &mut call), Err(Errno::EINVAL));
    assert_eq!(
        mm.mremap(AT, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, &mut call),
        Err(Errno::EINVAL)
    );
    // The same number of huge pages, whatever it is in small ones.
    assert_eq!(mm.mremap(AT, PAGE, 2 * PAGE, 0, 0, &mut call), Ok(AT));
    assert_eq!(mm.mremap(AT, 4 * HUGE, 2 * HUGE + PAGE, 0, 0, &mut call), Ok(AT));
    assert_eq!(mm.mremap(AT, 2 * HUGE, HUGE, moves, to, &mut call), Ok(to));
    drop(call);
    mm.check().unwrap();
    let found: Vec<(u64, u64)> =
        mm.iter().map(|vma| (vma.start(), vma.page_count() / 512)).collect();
    assert_eq!(found, [(AT + 2 * HUGE, 1), (to, 1)]);
    assert_eq!(kernel.free_huge_pages, 6);
}

#[test]
fn huge_pages_are_not_locked_and_not_dropped_in_part() {
    let (mut mm, mut kernel) = space();
    map(&mut mm, &mut kernel, AT, 3 * HUGE, HUGETLB | MAP_FIXED | MAP_LOCKED).unwrap();
    let mut call = mm.update(&mut kernel);
    assert_eq!(mm.mlock(AT, HUGE, &mut call), Ok(0));
    assert_eq!(mm.usage().locked(), 0);
    // Rounded down, for callers who do not know.
    assert_eq!(mm.madvise(AT, PAGE, 4, &mut call), Ok(0));
    assert_eq!(mm.madvise(AT, 2 * HUGE - PAGE, 4, &mut call), Ok(0));
    assert_eq!(mm.madvise(AT + PAGE, HUGE, 4, &mut call), Err(Errno::EINVAL));
    for advice in [8, 18, 20, 21, 25, 102, 103] {
        assert_eq!(mm.madvise(AT, HUGE, advice, &mut call), Err(Errno::EINVAL), "{advice}");
    }
    drop(call);
    let small = HUGE / PAGE;
    let expected = [
        (PageOp::Populate, AT, 3 * small),
        (PageOp::Populate, AT, small),
        (PageOp::DontNeed, AT, small),
    ];
    assert_eq!(kernel.page_ops, expected);
    assert_eq!(vmas(&mm), [(AT, 3, "rd wr mr mw me de ht ".to_string())]);
}

#[test]
fn huge_pages_of_a_file_need_no_flag() {
    let (mut mm, mut kernel) = space();
    let open = |page| Some(Inode::new(77).of_huge_pages(page).open());
    let args = |flags, offset, page| Mmap {
        addr: 0,
        len: PAGE,
        prot: RW,
        flags,
        offset,
        file: open(page),
    };
    let mut call = mm.update(&mut kernel);
    let at = mm.mmap(args(MAP_SHARED, 4 * HUGE, HUGE), &mut call).unwrap();
    assert!(at.is_multiple_of(HUGE));
    assert_eq!(mm.mmap(args(MAP_SHARED, PAGE, HUGE), &mut call), Err(Errno::EINVAL));
    // A file of small pages has no huge ones, and there are no pages of 12 KiB.
    assert_eq!(mm.mmap(args(MAP_SHARED | MAP_HUGETLB, 0, 0), &mut call), Err(Errno::EINVAL));
    assert_eq!(mm.mmap(args(MAP_SHARED, 0, 3 * PAGE), &mut call), Err(Errno::EINVAL));
    assert_eq!(mm.munmap(at, PAGE, &mut call), Err(Errno::EINVAL));
    drop(call);
    assert_eq!(vmas(&mm), [(at, 1, "rd wr sh mr mw me ms de ht ".to_string())]);
}

#[test]
fn limits_guards_and_the_heap_treat_huge_pages_like_others() {
    let (mut mm, mut kernel) = space();
    mm.set_limits(mm.limits().with(Resource::AddressSpace, 2 * HUGE));
    assert_eq!(map(&mut mm, &mut kernel, 0, 3 * HUGE, HUGETLB), Err(Errno::ENOMEM));
    mm.set_limits(mm.limits().with(Resource::AddressSpace, u64::MAX));
    mm.set_policy(Policy::new().with_guard(PAGE)).unwrap();
    let below = map(&mut mm, &mut kernel, 0, PAGE, ANON).unwrap();
    let at = map(&mut mm, &mut kernel, 0, HUGE, HUGETLB).unwrap();
    assert!(at.is_multiple_of(HUGE) && at + HUGE + PAGE <= below);
    mm.set_start_brk(at - 8 * PAGE, 0);
    let mut call = mm.update(&mut kernel);
    assert_eq!(mm.brk(at - 4 * PAGE, &mut call), at - 4 * PAGE);
    assert_eq!(mm.brk(at + PAGE, &mut call), at - 4 * PAGE);
    drop(call);
    assert_eq!(kernel.charged, 5 * PAGE);
}
