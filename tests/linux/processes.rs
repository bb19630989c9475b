//! The Linux layer where more than one program comes in: fork, exec, advice for others.

use std::fmt;
use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Fault, FaultAction, File, Install, Kernel, Layout, LinuxVma, Mm, Mmap, Overcommit,
    Resource, Role, SegvCode, Target, VmFlags,
};
use kvma::{BoxAlloc, Errno, Hooks, NoHooks, VmaNode};

#[derive(Clone, Copy, Debug, PartialEq)]
struct Name;

impl File for Name {
    fn id(&self) -> u64 {
        0
    }

    fn device(&self) -> (u32, u32) {
        (0, 0)
    }

    fn inode(&self) -> u64 {
        0
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("[vdso]")
    }
}

type Space = Mm<Name, Arc<BoxAlloc<VmaNode<LinuxVma<Name>>>>>;

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
const AT: u64 = 0x5000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const FLAGS: u64 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

/// A machine with 24 GiB of memory.
#[derive(Default)]
struct Machine {
    promised: u64,
}

impl Hooks<LinuxVma<Name>> for Machine {}

impl Kernel<Name> for Machine {
    fn commit(&mut self, pages: u64) -> Result<(), Errno> {
        Overcommit::Heuristic.decide(pages, 0, 24 * GIB / PAGE, 0)?;
        self.promised += pages;
        Ok(())
    }

    fn uncharge(&mut self, pages: u64) {
        self.promised =
            self.promised.checked_sub(pages).expect("more given back than was promised");
    }
}

fn space() -> Space {
    Mm::new(Layout::x86_64(8 << 20), Arc::default()).unwrap()
}

fn map<O: Kernel<Name>>(mm: &mut Space, owner: &mut O, addr: u64, len: u64) {
    let args = Mmap { addr, len, prot: RW, flags: FLAGS, offset: 0, file: None };
    mm.mmap(args, &mut mm.update(owner)).unwrap();
}

#[test]
fn a_child_is_promised_memory_vma_by_vma() {
    let (mut mm, mut machine) = (space(), Machine::default());
    map(&mut mm, &mut machine, AT, 14 * GIB);
    map(&mut mm, &mut machine, AT + 20 * GIB, 14 * GIB);
    // Together more than there is.
    assert!(mm.fork(&mut mm.update(&mut machine)).is_ok());
    assert_eq!(machine.promised, 4 * 14 * GIB / PAGE);
    // They become one, which alone is more than there is.
    map(&mut mm, &mut machine, AT + 14 * GIB, 6 * GIB);
    let promised = machine.promised;
    assert_eq!(mm.fork(&mut mm.update(&mut machine)).err(), Some(Errno::ENOMEM));
    assert_eq!(machine.promised, promised);
}

#[test]
fn what_one_vma_was_promised_is_given_back_if_the_next_is_refused() {
    let (mut mm, mut machine) = (space(), Machine::default());
    map(&mut mm, &mut machine, AT, PAGE);
    for at in [20, 40] {
        map(&mut mm, &mut machine, AT + at * GIB, 20 * GIB);
    }
    let promised = machine.promised;
    assert_eq!(mm.fork(&mut mm.update(&mut machine)).err(), Some(Errno::ENOMEM));
    assert_eq!(machine.promised, promised);
}

#[test]
fn a_vector_of_ranges_is_checked_before_any_is_advised() {
    let mut mm = space();
    map(&mut mm, &mut NoHooks, AT, 4 * PAGE);
    let mut advise = |ranges: &[(u64, u64)], advice, flags| {
        let ranges = ranges.iter().copied();
        mm.process_madvise(Target::Own, ranges, advice, flags, &mut mm.update(&mut NoHooks))
    };
    let own = (AT, PAGE);
    assert_eq!(advise(&[own, (AT + PAGE, PAGE)], 10, 0), Ok(2 * PAGE));
    assert_eq!(advise(&[own, (u64::MAX - PAGE, PAGE)], 10, 0), Err(Errno::EFAULT));
    assert_eq!(advise(&[own, (mm_end(), 1)], 10, 0), Err(Errno::EFAULT));
    assert_eq!(advise(&[own, (mm_end(), 0)], 10, 0), Ok(PAGE));
    assert_eq!(advise(&[(u64::MAX, PAGE), (AT, 1 << 63)], 10, 0), Err(Errno::EINVAL));
    assert_eq!(advise(&[own; 1025], 10, 0), Err(Errno::EINVAL));
    assert_eq!(advise(&[own; 1024], 10, 0), Ok(1024 * PAGE));
    // Of `int` arguments the upper half does not count.
    assert_eq!(advise(&[own], 10 | 1 << 32, 1 << 32), Ok(PAGE));
    assert_eq!(advise(&[own], 99, 0), Err(Errno::EINVAL));
    // A range of nothing is looked at only if it is the first.
    assert_eq!(advise(&[own, (AT + 1, 0), own], 10, 0), Ok(2 * PAGE));
    assert_eq!(advise(&[(AT, 0), (AT + 1, 0), own], 10, 0), Ok(PAGE));
    assert_eq!(advise(&[(AT + 1, 0), own], 10, 0), Err(Errno::EINVAL));
    assert_eq!(advise(&[], 99, 0), Ok(0));
    assert_eq!(advise(&[own], 99, 1), Err(Errno::EINVAL));
}

fn mm_end() -> u64 {
    space().layout().task_size()
}

#[test]
fn a_vector_of_ranges_ends_below_two_gibibytes() {
    let mut mm = space();
    map(&mut mm, &mut NoHooks, AT, 4 * GIB);
    let most = (2 * GIB) - PAGE;
    let mut advise = |ranges: &[(u64, u64)]| {
        mm.process_madvise(Target::Own, ranges.iter().copied(), 10, 0, &mut mm.update(&mut NoHooks))
    };
    assert_eq!(advise(&[(AT, 3 * GIB)]), Ok(most));
    // What does not count is not advised, but looked at unless it is all there is.
    assert_eq!(advise(&[(AT, 3 * GIB), (1, PAGE)]), Ok(most));
    assert_eq!(advise(&[(AT, GIB), (mm_end() - GIB, 2 * GIB)]), Err(Errno::EFAULT));
    assert_eq!(advise(&[(mm_end() - GIB, 1 << 62)]), Err(Errno::EFAULT));
}

#[test]
fn others_are_advised_what_does_them_no_harm() {
    let mut mm = space();
    map(&mut mm, &mut NoHooks, AT, 4 * PAGE);
    let mut advise = |advice| {
        mm.process_madvise(Target::Other, [(AT, PAGE)], advice, 0, &mut mm.update(&mut NoHooks))
    };
    assert_eq!(advise(20), Ok(PAGE));
    assert_eq!(advise(20 | 1 << 32), Ok(PAGE));
    assert_eq!(advise(10), Err(Errno::EINVAL));
}

/// Linux asks for memory whatever grows, even if it does not count it.
#[test]
fn a_stack_grows_by_no_more_than_there_is_memory() {
    for (prot, kept) in [(PROT_READ, 0), (RW, 2)] {
        let (mut mm, mut machine) = (space(), Machine::default());
        mm.set_limits(mm.limits().with(Resource::Stack, u64::MAX));
        let args =
            Mmap { addr: AT, len: PAGE, prot, flags: FLAGS | MAP_GROWSDOWN, offset: 0, file: None };
        mm.mmap(args, &mut mm.update(&mut machine)).unwrap();
        let mut read =
            |addr| mm.fault(&Fault::new(addr, Access::Read), &mut mm.update(&mut machine));
        assert_eq!(read(AT - 25 * GIB), FaultAction::Refuse(SegvCode::MapErr));
        assert_eq!(read(AT - 1), FaultAction::Map);
        assert_eq!(machine.promised, kept);
    }
}

/// What `execve` does, as a kernel does it.
#[test]
fn a_new_image_takes_the_place_of_the_old_one() {
    let mut mm = space();
    map(&mut mm, &mut NoHooks, AT, 4 * PAGE);
    mm.mlockall(MCL_FUTURE | MCL_ONFAULT, &mut mm.update(&mut NoHooks)).unwrap();
    mm.set_limits(mm.limits().with(Resource::Stack, 512 << 20));
    let limit = mm.limits().get(Resource::Stack);
    let layout = Layout::x86_64(limit);
    mm.clear(layout, &mut mm.update(&mut NoHooks)).unwrap();
    let (start, end) = layout.stack(PAGE, limit);
    let flags = VmFlags::READ
        | VmFlags::WRITE
        | VmFlags::MAY_ACCESS
        | VmFlags::GROWS_DOWN
        | VmFlags::ACCOUNT;
    let stack = Install { start, end, flags, offset: 0, handle: None };
    mm.install(stack, &mut mm.update(&mut NoHooks)).unwrap();
    mm.set_start_stack(end - 8);
    let start = mm.unmapped_area(2 * PAGE).unwrap();
    assert_eq!(start, layout.base() - 2 * PAGE);
    let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND;
    let handle = Some((Name, Role::Special));
    let vdso = Install { start, end: start + 2 * PAGE, flags, offset: 0, handle };
    mm.install(vdso, &mut mm.update(&mut NoHooks)).unwrap();
    let args = Mmap {
        addr: 0,
        len: 1,
        prot: RW,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        offset: 0,
        file: None,
    };
    assert_eq!(mm.mmap(args, &mut mm.update(&mut NoHooks)), Ok(start - PAGE));
    // All of it can be given a name, which does not show; part of it cannot.
    let mut name = |addr, pages, name| {
        mm.set_anon_name(addr, pages * PAGE, name, &mut mm.update(&mut NoHooks))
    };
    assert_eq!(name(start, 2, Some(&Name)), Ok(0));
    assert_eq!(name(start, 1, Some(&Name)), Err(Errno::EINVAL));
    assert_eq!(name(start, 1, None), Ok(0));
    // MCL_FUTURE has gone with the old image, limits have not.
    assert_eq!(mm.usage().locked(), 0);
    assert_eq!(mm.limits().get(Resource::Stack), limit);
    assert_eq!(mm.unmapped_area(mm_end()), Err(Errno::ENOMEM));
}
