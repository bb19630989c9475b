//! System calls where no recorded trace goes: faults, fork, names, keys, the kernel's own rules,
//! failures.

use std::sync::Arc;

use kvma::addr_space::HasVmMap;
use kvma::linux::abi::*;
use kvma::linux::{
    Access, Capabilities, CommitLimit, Fault, FaultAction, Inheritance, Install, Layout, LinuxVma,
    Mm, Mmap, Mode, NoKernel, OpenFile, PageOp, Policy, Resource, Role, SegvCode, Target, UNSERVED,
    Unserved, VmFlags, WriteExec,
};
use kvma::{AddrSpace, BoxAlloc, Errno, Error, FixedPool, PageSize, VmaNode};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>;
type Space = Mm<Inode, Alloc>;

fn space() -> Space {
    Mm::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap()
}

fn map(
    mm: &mut Space,
    kernel: &mut TestKernel,
    addr: u64,
    pages: u64,
    prot: u64,
    flags: u64,
) -> Result<u64, Errno> {
    let args = Mmap { addr, len: pages * PAGE, prot, flags, offset: 0, file: None };
    let result = mm.mmap(args, &mut mm.update(kernel));
    mm.check().unwrap();
    result
}

fn file(number: u64) -> Option<OpenFile<Inode>> {
    Some(Inode::new(number).open())
}

fn vmas(mm: &Space) -> Vec<(u64, u64, String)> {
    mm.iter().map(|vma| (vma.start(), vma.page_count(), VmFlags::of(&vma).to_string())).collect()
}

#[test]
fn faults_map_copy_grow_or_are_refused() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    map(&mut mm, &mut kernel, AT, 2, PROT_READ, ANON | MAP_FIXED).unwrap();
    map(&mut mm, &mut kernel, AT + 8 * PAGE, 2, RW, ANON | MAP_FIXED).unwrap();
    map(&mut mm, &mut kernel, AT + 16 * PAGE, 1, PROT_EXEC, ANON | MAP_FIXED).unwrap();
    map(&mut mm, &mut kernel, AT + 24 * PAGE, 1, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
        .unwrap();
    map(&mut mm, &mut kernel, AT + 32 * PAGE, 1, 0, ANON | MAP_FIXED).unwrap();
    let mut fault = |fault: Fault| mm.fault(&fault, &mut mm.update(&mut kernel));
    let refused = |code| FaultAction::Refuse(code);
    assert_eq!(fault(Fault::new(AT + 5, Access::Read)), FaultAction::Map);
    assert_eq!(fault(Fault::new(AT, Access::Write)), refused(SegvCode::AccErr));
    assert_eq!(fault(Fault::new(AT, Access::Execute)), refused(SegvCode::AccErr));
    assert_eq!(fault(Fault::new(AT + 2 * PAGE, Access::Read)), refused(SegvCode::MapErr));
    assert_eq!(fault(Fault::new(AT + 8 * PAGE, Access::Write)), FaultAction::Copy);
    assert_eq!(fault(Fault::new(AT + 8 * PAGE, Access::Write).by(Mode::Kernel)), FaultAction::Copy);
    assert_eq!(fault(Fault::new(AT + 16 * PAGE, Access::Execute)), FaultAction::Map);
    assert_eq!(fault(Fault::new(AT + 16 * PAGE, Access::Read)), FaultAction::Map);
    assert_eq!(
        fault(Fault::new(AT + 16 * PAGE, Access::Execute).by(Mode::Kernel)),
        refused(SegvCode::AccErr)
    );
    assert_eq!(fault(Fault::new(AT + 24 * PAGE, Access::Write)), FaultAction::Map);
    assert_eq!(fault(Fault::new(AT + 32 * PAGE, Access::Read)), refused(SegvCode::AccErr));
    assert_eq!(fault(Fault::new(u64::MAX, Access::Read)), refused(SegvCode::MapErr));
}

#[test]
fn a_stack_grows_within_its_limit_its_gap_and_the_reach_of_the_stack_pointer() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let stack = AT + 0x1000 * PAGE;
    map(&mut mm, &mut kernel, stack, 1, RW, ANON | MAP_FIXED | MAP_GROWSDOWN).unwrap();
    let write = |addr| Fault::new(addr, Access::Write);
    let maperr = FaultAction::Refuse(SegvCode::MapErr);
    let far = write(stack - 20 * PAGE).with_stack_pointer(stack);
    assert_eq!(mm.fault(&far, &mut mm.update(&mut kernel)), maperr);
    assert_eq!(mm.fault(&far.by(Mode::Kernel), &mut mm.update(&mut kernel)), FaultAction::Copy);
    assert_eq!(mm.fault(&write(stack - 21 * PAGE), &mut mm.update(&mut kernel)), FaultAction::Copy);
    assert_eq!(vmas(&mm)[0].0, stack - 21 * PAGE);
    // 8 MiB in all.
    assert_eq!(mm.fault(&write(stack - 2048 * PAGE), &mut mm.update(&mut kernel)), maperr);
    // Something below keeps 256 pages free above itself, unless it cannot be accessed.
    let below = stack - 300 * PAGE;
    map(&mut mm, &mut kernel, below, 1, PROT_READ, ANON | MAP_FIXED).unwrap();
    assert_eq!(mm.fault(&write(below + 256 * PAGE), &mut mm.update(&mut kernel)), maperr);
    assert_eq!(
        mm.fault(&write(below + 257 * PAGE), &mut mm.update(&mut kernel)),
        FaultAction::Copy
    );
    mm.mprotect(below, PAGE, 0, &mut mm.update(&mut kernel)).unwrap();
    assert_eq!(mm.fault(&write(below + PAGE), &mut mm.update(&mut kernel)), FaultAction::Copy);
    assert_eq!(mm.usage().stack(), 300 * PAGE);
    mm.check().unwrap();
}

#[test]
fn most_page_faults_are_answered_without_the_lock() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    map(&mut mm, &mut kernel, AT, 2, RW, ANON | MAP_FIXED).unwrap();
    let space = AddrSpace::new(mm);
    let write = Fault::new(AT, Access::Write);
    let seen = space.lookup(AT).unwrap();
    // The first write changes the VMA and needs the lock. Later ones do not.
    assert_eq!(write.check_access(&seen.attrs(), seen.key()), None);
    assert_eq!(
        space.update(0, &mut kernel, |mm, update| mm.fault(&write, update)),
        FaultAction::Copy
    );
    let seen = space.lookup(AT).unwrap();
    assert_eq!(write.check_access(&seen.attrs(), seen.key()), Some(FaultAction::Copy));
    let read = Fault::new(AT, Access::Read);
    assert_eq!(read.check_access(&seen.attrs(), seen.key()), Some(FaultAction::Map));
}

#[test]
fn fork_leaves_out_wipes_unlocks_and_charges() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    for (page, flags) in
        [(0, ANON), (2, ANON), (4, ANON), (6, MAP_SHARED | MAP_ANONYMOUS), (8, ANON)]
    {
        map(&mut mm, &mut kernel, AT + page * PAGE, 1, RW, flags | MAP_FIXED).unwrap();
    }
    let mut advise = |page, advice| {
        mm.madvise(AT + page * PAGE, PAGE, advice, &mut mm.update(&mut kernel)).unwrap();
    };
    advise(2, 10); // DONTFORK
    advise(4, 18); // WIPEONFORK
    mm.mlock(AT, 9 * PAGE, &mut mm.update(&mut kernel)).unwrap_err();
    assert_eq!(mm.usage().locked(), PAGE);
    let before = kernel.charged;
    let mut child = mm.fork(&mut mm.update(&mut kernel)).unwrap();
    assert_eq!(kernel.charged, before + 3 * PAGE);
    assert_eq!(child.usage().locked(), 0);
    assert_eq!(child.usage().total(), 4 * PAGE);
    child.check().unwrap();
    use Inheritance::*;
    let expected = [(CopyOnWrite, 0), (Wipe, 4), (Share, 6), (CopyOnWrite, 8)];
    assert_eq!(kernel.inherited, expected.map(|(how, page)| (how, AT + page * PAGE)));
    child.clear(*mm.layout(), &mut child.update(&mut kernel)).unwrap();
    assert_eq!(kernel.charged, before);
    // No memory to charge: no child, and nothing stays charged.
    kernel.set_commit_limit(CommitLimit::of_bytes(PageSize::SIZE_4K, before + 2 * PAGE, 0));
    assert_eq!(mm.fork(&mut mm.update(&mut kernel)).err(), Some(Errno::ENOMEM));
    assert_eq!(kernel.charged, before);
}

#[test]
fn charges_are_right_to_the_page() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let k = &mut kernel;
    map(&mut mm, k, AT, 8, RW, ANON | MAP_FIXED).unwrap();
    map(&mut mm, k, AT + 4 * PAGE, 8, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(k.charged, 12 * PAGE);
    map(&mut mm, k, AT + 4 * PAGE, 1, PROT_READ, ANON | MAP_FIXED).unwrap();
    assert_eq!(k.charged, 11 * PAGE);
    mm.mprotect(AT, 2 * PAGE, PROT_READ, &mut mm.update(k)).unwrap();
    assert_eq!(k.charged, 9 * PAGE);
    mm.mremap(AT + 5 * PAGE, 7 * PAGE, 9 * PAGE, MREMAP_MAYMOVE, 0, &mut mm.update(k)).unwrap();
    assert_eq!(k.charged, 11 * PAGE);
    k.set_commit_limit(CommitLimit::of_bytes(PageSize::SIZE_4K, 12 * PAGE, 0));
    assert_eq!(map(&mut mm, k, AT, 12, RW, ANON | MAP_FIXED), Err(Errno::ENOMEM));
    assert_eq!(k.charged, 11 * PAGE);
    assert_eq!(mm.usage().committed(), 11 * PAGE);
    mm.clear(*mm.layout(), &mut mm.update(k)).unwrap();
    assert_eq!(k.charged, 0);
}

/// Linux takes `lo` off what DONTUNMAP leaves behind and does not look at its neighbours: they stay
/// apart even if they are equal, and the history of one does not become that of the other.
#[test]
fn what_dontunmap_leaves_behind_does_not_merge() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let k = &mut kernel;
    map(&mut mm, k, AT, 4, RW, ANON | MAP_FIXED | MAP_LOCKED).unwrap();
    map(&mut mm, k, AT + 4 * PAGE, 4, RW, ANON | MAP_FIXED).unwrap();
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    let to = AT + 64 * PAGE;
    mm.mremap(AT, PAGE, PAGE, flags, to, &mut mm.update(k)).unwrap();
    assert_eq!(mm.map_count(), 3);
    assert_eq!(mm.usage().locked(), 5 * PAGE, "Linux 6.18 goes on counting what it has unlocked");
    mm.mprotect(AT, 8 * PAGE, PROT_READ, &mut mm.update(k)).unwrap();
    let accounted: Vec<_> = vmas(&mm).iter().map(|vma| vma.2.contains("ac")).collect();
    assert_eq!(accounted, [true, false, true], "{:?}", vmas(&mm));
    mm.check().unwrap();
}

/// A name with a line feed in it.
const NAME: Inode = Inode::new(7).named("/file\n7");

#[test]
fn names_keep_neighbours_apart_and_are_shown() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    map(&mut mm, &mut kernel, AT, 4, RW, ANON | MAP_FIXED).unwrap();
    mm.set_anon_name(AT + PAGE, PAGE, Some(&NAME), &mut mm.update(&mut kernel)).unwrap();
    assert_eq!(mm.map_count(), 3);
    assert!(
        mm.maps().to_string().contains("00:00 0                          [anon:/file\\0127]"),
        "{}",
        mm.maps()
    );
    mm.set_anon_name(AT, 4 * PAGE, Some(&NAME), &mut mm.update(&mut kernel)).unwrap();
    assert_eq!(mm.map_count(), 1);
    mm.set_anon_name(AT, 4 * PAGE, None, &mut mm.update(&mut kernel)).unwrap();
    let gap = mm.set_anon_name(AT, 5 * PAGE, None, &mut mm.update(&mut kernel));
    assert_eq!(gap, Err(Errno::ENOMEM));
    let args = Mmap {
        addr: AT,
        len: PAGE,
        prot: RW,
        flags: MAP_SHARED | MAP_FIXED,
        offset: 0,
        file: file(3),
    };
    mm.mmap(args, &mut mm.update(&mut kernel)).unwrap();
    let of_file = mm.set_anon_name(AT, PAGE, Some(&NAME), &mut mm.update(&mut kernel));
    assert_eq!(of_file, Err(Errno::EBADF));
    mm.check().unwrap();
}

#[test]
fn a_newline_in_a_path_does_not_forge_a_line() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let file = Some(Inode::new(3).named("/file\n3").open());
    let flags = MAP_PRIVATE | MAP_FIXED;
    let args = Mmap { addr: AT, len: PAGE, prot: 1, flags, offset: 3 * PAGE, file };
    mm.mmap(args, &mut mm.update(&mut kernel)).unwrap();
    assert_eq!(
        mm.maps().to_string(),
        format!("{AT:x}-{:x} r--p 00003000 08:01 3{:26}/file\\0123\n", AT + PAGE, "")
    );
    let text = mm.maps().to_string();
    let line = kvma::linux::maps::parse(&text).next().unwrap().unwrap();
    assert_eq!((line.start, line.offset, line.inode, line.name), (AT, 3 * PAGE, 3, "/file\\0123"));
}

#[test]
fn keys_are_handed_out_and_tag_vmas() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    map(&mut mm, &mut kernel, AT, 4, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(mm.pkey_alloc(1, 0), Err(Errno::EINVAL));
    assert_eq!(mm.pkey_alloc(0, 4), Err(Errno::EINVAL));
    for key in 1..16 {
        assert_eq!(mm.pkey_alloc(0, 1), Ok(key));
    }
    assert_eq!(mm.pkey_alloc(0, 0), Err(Errno(28)));
    assert_eq!(mm.pkey_free(5), Ok(0));
    assert_eq!(mm.pkey_free(5), Err(Errno::EINVAL));
    let mut tag = |key| mm.pkey_mprotect(AT, PAGE, RW, key, &mut mm.update(&mut kernel));
    assert_eq!(tag(5), Err(Errno::EINVAL));
    assert_eq!(tag(9), Ok(0));
    let seen = VmFlags::of(&mm.iter().next().unwrap());
    assert!(seen.contains(VmFlags::PKEY_0 | VmFlags::PKEY_3) && !seen.contains(VmFlags::PKEY_1));
    assert_eq!(mm.map_count(), 2);
    // Plain mprotect keeps the key, key 0 takes it away.
    mm.mprotect(AT, PAGE, PROT_READ, &mut mm.update(&mut kernel)).unwrap();
    assert!(VmFlags::of(&mm.iter().next().unwrap()).contains(VmFlags::PKEY_3));
    mm.pkey_mprotect(AT, PAGE, RW, 0, &mut mm.update(&mut kernel)).unwrap();
    assert_eq!(mm.map_count(), 1);
}

#[test]
fn write_and_execute_exclude_each_other_if_the_kernel_says_so() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let k = &mut kernel;
    mm.set_policy(Policy::new().with_write_exec(WriteExec::NotTogether)).unwrap();
    assert_eq!(map(&mut mm, k, AT, 1, RW | PROT_EXEC, ANON | MAP_FIXED), Err(Errno::EACCES));
    map(&mut mm, k, AT, 1, RW, ANON | MAP_FIXED).unwrap();
    let prot =
        |mm: &mut Space, k: &mut TestKernel, prot| mm.mprotect(AT, PAGE, prot, &mut mm.update(k));
    assert_eq!(prot(&mut mm, k, RW | PROT_EXEC), Err(Errno::EACCES));
    assert_eq!(prot(&mut mm, k, PROT_READ | PROT_EXEC), Ok(0));
    assert_eq!(prot(&mut mm, k, RW), Ok(0));
    mm.set_policy(Policy::new().with_write_exec(WriteExec::Never)).unwrap();
    assert_eq!(prot(&mut mm, k, PROT_READ | PROT_EXEC), Err(Errno::EACCES));
    assert_eq!(
        map(&mut mm, k, AT + PAGE, 1, PROT_READ | PROT_EXEC, ANON | MAP_FIXED),
        Ok(AT + PAGE)
    );
}

#[test]
fn guards_stay_free_on_both_sides() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    assert_eq!(mm.set_policy(Policy::new().with_guard(1)), Err(Error::Unaligned));
    mm.set_policy(Policy::new().with_guard(4 * PAGE)).unwrap();
    for pages in [1, 3, 512, 2, 1024] {
        map(&mut mm, &mut kernel, 0, pages, RW, ANON).unwrap();
        map(&mut mm, &mut kernel, AT, pages, RW, ANON).unwrap();
    }
    assert_eq!(mm.map_count(), 10);
    assert!(mm.iter().all(|vma| vma.gap_before() >= 4 * PAGE));
    let first = mm.iter().next().unwrap().start();
    let pages = mm.iter().next().unwrap().page_count();
    let moved = mm.mremap(
        first,
        pages * PAGE,
        (pages + 64) * PAGE,
        MREMAP_MAYMOVE,
        0,
        &mut mm.update(&mut kernel),
    );
    moved.unwrap();
    assert!(mm.iter().all(|vma| vma.gap_before() >= 4 * PAGE));
}

#[test]
fn the_base_moves_by_the_kernels_random_bits() {
    let plain = Layout::x86_64(8 << 20);
    assert_eq!(plain.randomised(u64::MAX, 0), plain);
    assert_eq!(plain.randomised(5, 28).base(), plain.base() - 5 * PAGE);
    assert_eq!(plain.randomised(u64::MAX, 28).base(), plain.base() - ((1 << 28) - 1) * PAGE);
    Mm::<Inode, Alloc>::new(plain.randomised(u64::MAX, 64), Alloc::default()).unwrap();
}

#[test]
fn advice_reaches_the_kernel_with_exact_ranges() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    map(&mut mm, &mut kernel, AT, 4, RW, ANON | MAP_FIXED).unwrap();
    map(&mut mm, &mut kernel, AT + 6 * PAGE, 4, PROT_READ, ANON | MAP_FIXED).unwrap();
    let dontneed = mm.madvise(AT + PAGE, 7 * PAGE, 4, &mut mm.update(&mut kernel));
    assert_eq!(dontneed, Err(Errno::ENOMEM));
    assert_eq!(
        kernel.page_ops,
        [(PageOp::DontNeed, AT + PAGE, 3), (PageOp::DontNeed, AT + 6 * PAGE, 2)]
    );
    kernel.page_ops.clear();
    assert_eq!(mm.mincore(AT + PAGE, 2 * PAGE + 1, &mut mm.update(&mut kernel)), Ok(0));
    assert_eq!(mm.mincore(AT, 5 * PAGE, &mut mm.update(&mut kernel)), Err(Errno::ENOMEM));
    assert_eq!(mm.mincore(AT, u64::MAX, &mut mm.update(&mut kernel)), Err(Errno::ENOMEM));
    assert_eq!(kernel.page_ops, [(PageOp::Residency, AT + PAGE, 3), (PageOp::Residency, AT, 4)]);
    let ranges = [(AT, PAGE), (AT + PAGE, PAGE), (AT + 4 * PAGE, PAGE), (AT, PAGE)];
    let advised = mm.process_madvise(Target::Other, ranges, 20, 0, &mut mm.update(&mut kernel));
    assert_eq!(advised, Ok(2 * PAGE));
    let advised = mm.process_madvise(Target::Other, ranges, 4, 0, &mut mm.update(&mut kernel));
    assert_eq!(advised, Err(Errno::EINVAL));
}

#[test]
fn msync_writes_back_in_order() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    for page in [0, 2] {
        let (addr, flags) = (AT + page * PAGE, MAP_SHARED | MAP_FIXED);
        let args = Mmap { addr, len: PAGE, prot: RW, flags, offset: page * PAGE, file: file(3) };
        mm.mmap(args, &mut mm.update(&mut kernel)).unwrap();
    }
    map(&mut mm, &mut kernel, AT + 3 * PAGE, 1, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(mm.msync(AT, 4 * PAGE, MS_SYNC, &mut mm.update(&mut kernel)), Err(Errno::ENOMEM));
    assert_eq!(
        kernel.page_ops,
        [(PageOp::WriteBack, AT, 1), (PageOp::WriteBack, AT + 2 * PAGE, 1)]
    );
}

#[test]
fn a_refusing_hook_and_an_empty_pool_change_nothing() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    map(&mut mm, &mut kernel, AT, 8, RW, ANON | MAP_FIXED).unwrap();
    let before = vmas(&mm);
    let committed = kernel.charged;
    kernel.refuse_prepare = Some(Errno::EINTR);
    let k = &mut kernel;
    assert_eq!(map(&mut mm, k, AT + 8 * PAGE, 1, RW, ANON | MAP_FIXED), Err(Errno::EINTR));
    assert_eq!(mm.munmap(AT, 8 * PAGE, &mut mm.update(k)), Err(Errno::EINTR));
    assert_eq!(mm.mprotect(AT, 8 * PAGE, PROT_READ, &mut mm.update(k)), Err(Errno::EINTR));
    let grow = mm.mremap(AT, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE, 0, &mut mm.update(k));
    assert_eq!(grow, Err(Errno::EINTR));
    assert_eq!(k.charged, committed);
    assert_eq!(vmas(&mm), before);
    mm.check().unwrap();

    static POOL: FixedPool<VmaNode<LinuxVma<Inode>>, 8> = FixedPool::new();
    let mut mm: Mm<Inode, _> = Mm::new(Layout::x86_64(8 << 20), &POOL).unwrap();
    let mut failed = 0;
    for i in 0..40u64 {
        let args = Mmap {
            addr: AT + (i % 13) * 2 * PAGE,
            len: PAGE * (1 + i % 5),
            prot: i % 4,
            flags: ANON | MAP_FIXED,
            offset: 0,
            file: None,
        };
        failed += usize::from(mm.mmap(args, &mut mm.update(&mut NoKernel)) == Err(Errno::ENOMEM));
        mm.check().unwrap();
        failed += usize::from(
            mm.mprotect(AT + i % 29 * PAGE, PAGE, RW, &mut mm.update(&mut NoKernel))
                == Err(Errno::ENOMEM),
        );
        mm.check().unwrap();
    }
    assert!(failed > 0);
    mm.clear(*mm.layout(), &mut mm.update(&mut NoKernel)).unwrap();
    assert_eq!(mm.map_count(), 0);
}

/// Arguments come straight from user space.
#[test]
fn no_argument_panics() {
    let edges = [
        0,
        1,
        PAGE - 1,
        PAGE,
        0x1_0000,
        AT,
        AT + 3 * PAGE,
        0x7fff_ffff_f000,
        0x8000_0000_0000,
        1 << 63,
        u64::MAX - PAGE,
        u64::MAX - PAGE + 1,
        u64::MAX,
    ];
    let mut mm = space();
    let mut kernel = TestKernel::default().with_capabilities(Capabilities::all());
    mm.set_start_brk(0x60_0000, 0);
    let special = (Inode::new(1), Role::Special);
    let flags = VmFlags::READ | VmFlags::MAY_READ | VmFlags::DONT_EXPAND;
    let vma =
        Install { start: AT + PAGE, end: AT + 3 * PAGE, flags, offset: 0, handle: Some(special) };
    mm.install(vma, &mut mm.update(&mut kernel)).unwrap();
    let k = &mut kernel;
    for a in edges {
        for b in edges {
            for flags in [
                ANON,
                ANON | MAP_FIXED,
                MAP_SHARED | MAP_ANONYMOUS,
                MAP_PRIVATE,
                ANON | MAP_32BIT,
                u64::MAX,
            ] {
                let args = Mmap { addr: a, len: b, prot: a, flags, offset: b, file: file(1) };
                let _ = mm.mmap(args, &mut mm.update(k));
            }
            let _ = mm.mprotect(a, b, b, &mut mm.update(k));
            let _ = mm.msync(a, b, 4, &mut mm.update(k));
            let _ = mm.mincore(a, b, &mut mm.update(k));
            let _ = mm.set_anon_name(a, b, None, &mut mm.update(k));
            let _ = mm.pkey_mprotect(a, b, 1, b, &mut mm.update(k));
            let _ =
                mm.fault(&Fault::new(a, Access::Write).with_stack_pointer(b), &mut mm.update(k));
            let _ = mm.grow_stack(a, &mut mm.update(k));
            mm.brk(a, &mut mm.update(k));
            let _ = mm.sbrk(b.cast_signed(), &mut mm.update(k));
            for advice in [0, 4, 14, 22, 102, b] {
                let _ = mm.madvise(a, b, advice, &mut mm.update(k));
            }
            let _ = mm.mlock(a, b, &mut mm.update(k));
            let _ = mm.munlock(a, b, &mut mm.update(k));
            for c in edges {
                for flags in 0..8 {
                    let _ = mm.mremap(a, b, c, flags, b, &mut mm.update(k));
                    let _ = mm.mremap(a, b, b, flags, c, &mut mm.update(k));
                }
            }
            let _ = mm.munmap(a, b, &mut mm.update(k));
            mm.check().unwrap();
        }
        let _ = mm.mlockall(a, &mut mm.update(k));
    }
    mm.munlockall(&mut mm.update(k));
}

#[test]
fn limits_have_their_errno() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let k = &mut kernel;
    mm.set_limits(mm.limits().with(Resource::AddressSpace, 4 * PAGE).with(Resource::MemLock, 0));
    assert_eq!(map(&mut mm, k, AT, 5, RW, ANON | MAP_FIXED), Err(Errno::ENOMEM));
    assert_eq!(map(&mut mm, k, AT, 1, RW, ANON | MAP_FIXED | MAP_LOCKED), Err(Errno::EPERM));
    mm.set_limits(mm.limits().with(Resource::MemLock, PAGE));
    assert_eq!(map(&mut mm, k, AT, 2, RW, ANON | MAP_FIXED | MAP_LOCKED), Err(Errno::EAGAIN));
    map(&mut mm, k, AT, 4, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(mm.mlock(AT, 2 * PAGE, &mut mm.update(k)), Err(Errno::ENOMEM));
    mm.set_max_map_count(1);
    assert_eq!(mm.munmap(AT + PAGE, PAGE, &mut mm.update(k)), Err(Errno::ENOMEM));
    assert_eq!(mm.madvise(AT + PAGE, PAGE, 1, &mut mm.update(k)), Err(Errno::EAGAIN));
    assert_eq!(mm.munmap(AT, PAGE, &mut mm.update(k)), Ok(0));
}

#[test]
fn the_data_of_a_vma_is_small() {
    assert!(size_of::<LinuxVma<u32>>() <= 20);
    assert!(size_of::<LinuxVma<&u64>>() <= 24);
}

#[test]
fn calls_that_are_not_served_say_what_to_answer() {
    assert_eq!(Unserved::by_number(216).map(Unserved::errno), Some(Errno::ENOSYS));
    assert!(Unserved::by_number(9).is_none());
    assert!(
        UNSERVED.iter().all(|call| Unserved::by_number(call.number()) == Some(call)),
        "a number twice"
    );
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn calls_that_are_not_served_have_the_numbers_of_linux() {
    let numbers = [
        ("remap_file_pages", libc::SYS_remap_file_pages),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("mbind", libc::SYS_mbind),
        ("set_mempolicy", libc::SYS_set_mempolicy),
        ("get_mempolicy", libc::SYS_get_mempolicy),
        ("set_mempolicy_home_node", libc::SYS_set_mempolicy_home_node),
        ("migrate_pages", libc::SYS_migrate_pages),
        ("move_pages", libc::SYS_move_pages),
        ("memfd_secret", libc::SYS_memfd_secret),
        ("shmget", libc::SYS_shmget),
        ("shmctl", libc::SYS_shmctl),
        ("io_setup", libc::SYS_io_setup),
        ("io_destroy", libc::SYS_io_destroy),
        ("uselib", libc::SYS_uselib),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("swapon", libc::SYS_swapon),
        ("swapoff", libc::SYS_swapoff),
        ("membarrier", libc::SYS_membarrier),
        ("process_mrelease", libc::SYS_process_mrelease),
        // Newer than the libc crate.
        ("map_shadow_stack", 453),
        ("cachestat", 451),
    ];
    for call in UNSERVED {
        let known = numbers.iter().find(|(name, _)| *name == call.name());
        assert_eq!(known.map(|(_, number)| *number), Some(call.number().into()), "{}", call.name());
    }
}

#[test]
fn the_map_below_is_reachable() {
    let mm = space();
    assert!(mm.vm_map().is_empty());
    assert_eq!(mm.rules(), kvma::linux::Rules::V6_18);
}
