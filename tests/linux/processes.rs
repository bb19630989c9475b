//! More than one program: fork, exec, advice for others.

use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Fault, FaultAction, Install, Kernel, Layout, LinuxVma, Mm, Mmap, NoKernel, Resource,
    Role, SegvCode, Target, VmFlags,
};
use kvma::{BoxAlloc, Errno, VmaNode};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

type Space = Mm<Inode, Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>>;

/// The name of special memory.
const VDSO: Inode = Inode::new(0).named("[vdso]");
const GIB: u64 = 1 << 30;
const FLAGS: u64 = ANON | MAP_FIXED;

/// Returns the kernel of a machine with 24 GiB of memory.
fn machine() -> TestKernel {
    TestKernel::default().with_memory(24 * GIB)
}

fn space() -> Space {
    Mm::new(Layout::x86_64(8 << 20), Arc::default()).unwrap()
}

fn map<K: Kernel<Inode>>(mm: &mut Space, kernel: &mut K, addr: u64, len: u64) {
    let args = Mmap { addr, len, prot: RW, flags: FLAGS, offset: 0, file: None };
    mm.mmap(args, &mut mm.update(kernel)).unwrap();
}

#[test]
fn a_child_is_charged_vma_by_vma() {
    let (mut mm, mut machine) = (space(), machine());
    map(&mut mm, &mut machine, AT, 14 * GIB);
    map(&mut mm, &mut machine, AT + 20 * GIB, 14 * GIB);
    // Together more than there is.
    assert!(mm.fork(&mut mm.update(&mut machine)).is_ok());
    assert_eq!(machine.charged, 4 * 14 * GIB);
    // They merge into one, which alone is more than there is.
    map(&mut mm, &mut machine, AT + 14 * GIB, 6 * GIB);
    let charged = machine.charged;
    assert_eq!(mm.fork(&mut mm.update(&mut machine)).err(), Some(Errno::ENOMEM));
    assert_eq!(machine.charged, charged);
}

#[test]
fn what_was_charged_for_one_vma_is_uncharged_if_the_next_is_refused() {
    let (mut mm, mut machine) = (space(), machine());
    map(&mut mm, &mut machine, AT, PAGE);
    for at in [20, 40] {
        map(&mut mm, &mut machine, AT + at * GIB, 20 * GIB);
    }
    let charged = machine.charged;
    assert_eq!(mm.fork(&mut mm.update(&mut machine)).err(), Some(Errno::ENOMEM));
    assert_eq!(machine.charged, charged);
}

#[test]
fn a_vector_of_ranges_is_checked_before_any_is_advised() {
    let mut mm = space();
    map(&mut mm, &mut NoKernel, AT, 4 * PAGE);
    let mut advise = |ranges: &[(u64, u64)], advice, flags| {
        let ranges = ranges.iter().copied();
        mm.process_madvise(Target::Own, ranges, advice, flags, &mut mm.update(&mut NoKernel))
    };
    let own = (AT, PAGE);
    assert_eq!(advise(&[own, (AT + PAGE, PAGE)], 10, 0), Ok(2 * PAGE));
    assert_eq!(advise(&[own, (u64::MAX - PAGE, PAGE)], 10, 0), Err(Errno::EFAULT));
    assert_eq!(advise(&[own, (mm_end(), 1)], 10, 0), Err(Errno::EFAULT));
    assert_eq!(advise(&[own, (mm_end(), 0)], 10, 0), Ok(PAGE));
    assert_eq!(advise(&[(u64::MAX, PAGE), (AT, 1 << 63)], 10, 0), Err(Errno::EINVAL));
    assert_eq!(advise(&[own; 1025], 10, 0), Err(Errno::EINVAL));
    assert_eq!(advise(&[own; 1024], 10, 0), Ok(1024 * PAGE));
    // The upper halves of `int` arguments do not count.
    assert_eq!(advise(&[own], 10 | 1 << 32, 1 << 32), Ok(PAGE));
    assert_eq!(advise(&[own], 99, 0), Err(Errno::EINVAL));
    // An empty range is checked only if it is the first.
    assert_eq!(advise(&[own, (AT + 1, 0), own], 10, 0), Ok(2 * PAGE));
    assert_eq!(advise(&[(AT, 0), (AT + 1, 0), own], 10, 0), Ok(PAGE));
    assert_eq!(advise(&[(AT + 1, 0), own], 10, 0), Err(Errno::EINVAL));
    // Nothing is checked of a vector without bytes.
    assert_eq!(advise(&[], 99, 0), Ok(0));
    assert_eq!(advise(&[(AT + 1, 0)], 99, 0), Ok(0));
    assert_eq!(advise(&[own], 99, 1), Err(Errno::EINVAL));
}

fn mm_end() -> u64 {
    space().layout().task_size()
}

#[test]
fn a_vector_of_ranges_ends_below_two_gibibytes() {
    let mut mm = space();
    map(&mut mm, &mut NoKernel, AT, 4 * GIB);
    let most = (2 * GIB) - PAGE;
    let mut advise = |ranges: &[(u64, u64)]| {
        mm.process_madvise(
            Target::Own,
            ranges.iter().copied(),
            10,
            0,
            &mut mm.update(&mut NoKernel),
        )
    };
    assert_eq!(advise(&[(AT, 3 * GIB)]), Ok(most));
    // What exceeds the total is not advised, but checked unless it is the only range.
    assert_eq!(advise(&[(AT, 3 * GIB), (1, PAGE)]), Ok(most));
    assert_eq!(advise(&[(AT, GIB), (AT + 2 * GIB, 2 * GIB)]), Ok(most));
    assert_eq!(advise(&[(AT, GIB), (mm_end() - GIB, 2 * GIB)]), Err(Errno::EFAULT));
    assert_eq!(advise(&[(mm_end() - GIB, 1 << 62)]), Err(Errno::EFAULT));
}

#[test]
fn others_are_advised_what_does_them_no_harm() {
    let mut mm = space();
    map(&mut mm, &mut NoKernel, AT, 4 * PAGE);
    let mut advise = |advice| {
        mm.process_madvise(Target::Other, [(AT, PAGE)], advice, 0, &mut mm.update(&mut NoKernel))
    };
    assert_eq!(advise(20), Ok(PAGE));
    assert_eq!(advise(20 | 1 << 32), Ok(PAGE));
    assert_eq!(advise(10), Err(Errno::EINVAL));
}

/// Linux asks for memory for whatever grows, even if it does not charge it.
#[test]
fn a_stack_grows_by_no_more_than_the_memory_there_is() {
    for (prot, kept) in [(PROT_READ, 0), (RW, 2 * PAGE)] {
        let (mut mm, mut machine) = (space(), machine());
        mm.set_limits(mm.limits().with(Resource::Stack, u64::MAX));
        let args =
            Mmap { addr: AT, len: PAGE, prot, flags: FLAGS | MAP_GROWSDOWN, offset: 0, file: None };
        mm.mmap(args, &mut mm.update(&mut machine)).unwrap();
        let mut read =
            |addr| mm.fault(&Fault::new(addr, Access::Read), &mut mm.update(&mut machine));
        assert_eq!(read(AT - 25 * GIB), FaultAction::Refuse(SegvCode::MapErr));
        assert_eq!(read(AT - 1), FaultAction::Map);
        assert_eq!(machine.charged, kept);
    }
}

/// The calls of a kernel for `execve`.
#[test]
fn a_new_image_takes_the_place_of_the_old_one() {
    let mut mm = space();
    map(&mut mm, &mut NoKernel, AT, 4 * PAGE);
    mm.mlockall(MCL_FUTURE | MCL_ONFAULT, &mut mm.update(&mut NoKernel)).unwrap();
    mm.set_limits(mm.limits().with(Resource::Stack, 512 << 20));
    let limit = mm.limits().get(Resource::Stack);
    let layout = Layout::x86_64(limit);
    mm.clear(layout, &mut mm.update(&mut NoKernel)).unwrap();
    let (start, end) = layout.stack(PAGE, limit);
    let flags = VmFlags::READ
        | VmFlags::WRITE
        | VmFlags::MAY_ACCESS
        | VmFlags::GROWS_DOWN
        | VmFlags::ACCOUNT;
    let stack = Install { start, end, flags, offset: 0, handle: None };
    mm.install(stack, &mut mm.update(&mut NoKernel)).unwrap();
    mm.set_start_stack(end - 8);
    let start = mm.unmapped_area(2 * PAGE).unwrap();
    assert_eq!(start, layout.base() - 2 * PAGE);
    let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND;
    let handle = Some((VDSO, Role::Special));
    let vdso = Install { start, end: start + 2 * PAGE, flags, offset: 0, handle };
    mm.install(vdso, &mut mm.update(&mut NoKernel)).unwrap();
    let args = Mmap {
        addr: 0,
        len: 1,
        prot: RW,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        offset: 0,
        file: None,
    };
    assert_eq!(mm.mmap(args, &mut mm.update(&mut NoKernel)), Ok(start - PAGE));
    // As a whole it can be given a name, which is not shown; a part of it cannot.
    let mut name = |addr, pages, name| {
        mm.set_anon_name(addr, pages * PAGE, name, &mut mm.update(&mut NoKernel))
    };
    assert_eq!(name(start, 2, Some(&VDSO)), Ok(0));
    assert_eq!(name(start, 1, Some(&VDSO)), Err(Errno::EINVAL));
    assert_eq!(name(start, 1, None), Ok(0));
    // MCL_FUTURE has gone with the old image, the limits have not.
    assert_eq!(mm.usage().locked(), 0);
    assert_eq!(mm.limits().get(Resource::Stack), limit);
    assert_eq!(mm.unmapped_area(mm_end()), Err(Errno::ENOMEM));
}
