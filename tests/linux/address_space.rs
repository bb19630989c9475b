//! The calls on an `AddrSpace`: each does what the call of the same name does on the `Mm` in it.

use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Fault, FaultAction, Install, Kernel, Layout, LinuxVma, Mm, Mmap, PageOp, Role, Target,
    VmFlags,
};
use kvma::lock::{Ticket, TrackedLock};
use kvma::{AddrSpace, BoxAlloc, Errno, Event, Hooks, VmaNode};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>;
type Space = AddrSpace<Mm<Inode, Alloc>>;

fn new_space() -> Space {
    AddrSpace::new(Mm::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap())
}

fn map(space: &Space, page: u64, pages: u64, kernel: &mut TestKernel) -> Result<u64, Errno> {
    let (addr, len, flags) = (AT + page * PAGE, pages * PAGE, ANON | MAP_FIXED);
    space.mmap(Mmap { addr, len, prot: RW, flags, offset: 0, file: None }, kernel)
}

/// Returns the first page, the pages and the flags of each VMA from `AT` on.
fn vmas(space: &Space) -> Vec<(u64, u64, VmFlags)> {
    space.inspect(|mm| {
        mm.check().unwrap();
        let above = mm.iter().filter(|vma| vma.start() >= AT);
        above.map(|vma| ((vma.start() - AT) / PAGE, vma.page_count(), VmFlags::of(&vma))).collect()
    })
}

const PLAIN: VmFlags =
    VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::MAY_ACCESS).union(VmFlags::ACCOUNT);

#[test]
fn calls_that_change_vmas() {
    let (space, mut kernel) = (new_space(), TestKernel::default());
    assert_eq!(map(&space, 0, 8, &mut kernel), Ok(AT));
    assert_eq!(space.mprotect(AT, PAGE, PROT_READ, &mut kernel), Ok(0));
    assert_eq!(vmas(&space)[0], (0, 1, PLAIN - VmFlags::WRITE - VmFlags::ACCOUNT));
    assert_eq!(space.madvise(AT + PAGE, PAGE, 10, &mut kernel), Ok(0));
    assert_eq!(vmas(&space)[1], (1, 1, PLAIN | VmFlags::DONT_COPY));
    assert_eq!(space.mlock(AT + 2 * PAGE, PAGE, &mut kernel), Ok(0));
    assert_eq!(space.mlock2(AT + 3 * PAGE, PAGE, MLOCK_ONFAULT, &mut kernel), Ok(0));
    assert_eq!(vmas(&space)[2], (2, 1, PLAIN | VmFlags::LOCKED));
    assert_eq!(vmas(&space)[3], (3, 1, PLAIN | VmFlags::LOCK));
    assert_eq!(space.munlock(AT + 2 * PAGE, 2 * PAGE, &mut kernel), Ok(0));
    assert_eq!(vmas(&space)[2], (2, 6, PLAIN));
    let name = Inode::new(7).named("arena");
    assert_eq!(space.set_anon_name(AT + 4 * PAGE, PAGE, Some(&name), &mut kernel), Ok(0));
    assert!(space.inspect(|mm| mm.maps().to_string().contains("[anon:arena]")));
    assert_eq!(space.mseal(AT + 7 * PAGE, PAGE, 0, &mut kernel), Ok(0));
    assert_eq!(space.munmap(AT + 7 * PAGE, PAGE, &mut kernel), Err(Errno::EPERM));
    let key = space.pkey_alloc(0, 0).unwrap();
    assert_eq!(space.pkey_mprotect(AT + 6 * PAGE, PAGE, RW, key, &mut kernel), Ok(0));
    assert_eq!(vmas(&space)[5], (6, 1, PLAIN | VmFlags::PKEY_0));
    assert_eq!((space.pkey_free(key), space.pkey_free(key)), (Ok(0), Err(Errno::EINVAL)));
    let to = AT + 100 * PAGE;
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert_eq!(space.mremap(AT, PAGE, PAGE, flags, to, &mut kernel), Ok(to));
    assert_eq!(vmas(&space).last(), Some(&(100, 1, PLAIN - VmFlags::WRITE - VmFlags::ACCOUNT)));
}

#[test]
fn calls_about_pages() {
    let (space, mut kernel) = (new_space(), TestKernel::default());
    map(&space, 0, 4, &mut kernel).unwrap();
    assert_eq!(space.mincore(AT, PAGE, &mut kernel), Ok(0));
    let ranges = [(AT + PAGE, PAGE)];
    assert_eq!(space.process_madvise(Target::Other, ranges, 20, 0, &mut kernel), Ok(PAGE));
    assert_eq!(space.msync(AT, PAGE, MS_SYNC, &mut kernel), Ok(0));
    let shared = MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS;
    let args = Mmap { addr: AT, len: PAGE, prot: RW, flags: shared, offset: 0, file: None };
    space.mmap(args, &mut kernel).unwrap();
    assert_eq!(space.msync(AT, PAGE, MS_SYNC, &mut kernel), Ok(0));
    let ops =
        [(PageOp::Residency, AT, 1), (PageOp::Cold, AT + PAGE, 1), (PageOp::WriteBack, AT, 1)];
    assert_eq!(kernel.page_ops, ops);
}

#[test]
fn heap_stack_and_faults() {
    let (space, mut kernel) = (new_space(), TestKernel::default());
    let start = 0x5555_5555_4000;
    space.update(0, &mut kernel, |mm, _| mm.set_start_brk(start, 0));
    assert_eq!(space.brk(start + PAGE, &mut kernel), start + PAGE);
    assert_eq!(space.sbrk(PAGE as i64, &mut kernel), Ok(start + PAGE));
    assert_eq!(space.brk(0, &mut kernel), start + 2 * PAGE);
    let flags = PLAIN | VmFlags::GROWS_DOWN;
    let (stack_start, end) = (AT + 100 * PAGE, AT + 101 * PAGE);
    let stack = Install { start: stack_start, end, flags, offset: 0, handle: None };
    space.install(stack, &mut kernel).unwrap();
    let write = |page| Fault::new(AT + page * PAGE, Access::Write);
    assert_eq!(space.fault(&write(99), &mut kernel), FaultAction::Copy);
    assert_eq!(space.grow_stack(AT + 98 * PAGE, &mut kernel), Ok(()));
    assert_eq!(vmas(&space)[0], (98, 3, flags));
    map(&space, 0, 1, &mut kernel).unwrap();
    space.note_write(AT);
    // It stays charged: it has a page of its own.
    space.mprotect(AT, PAGE, PROT_READ, &mut kernel).unwrap();
    assert_eq!(vmas(&space)[0].2, PLAIN - VmFlags::WRITE);
}

#[test]
fn a_call_from_a_hook_is_refused() {
    type Tracked = AddrSpace<Mm<Inode, Alloc>, TrackedLock<Ticket>>;

    /// Calls back into the space that it is told about.
    struct Nested<'s>(&'s Tracked);

    impl Hooks<LinuxVma<Inode>> for Nested<'_> {
        type Error = Errno;

        fn prepare(&mut self, _event: &Event<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
            let mut kernel = TestKernel::default();
            self.0.munmap(AT, PAGE, &mut kernel)?;
            Ok(())
        }
    }

    impl Kernel<Inode> for Nested<'_> {}

    let mm = Mm::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap();
    let space = Tracked::with_lock(mm, TrackedLock::new(Ticket::new(), || 1));
    let args = Mmap { addr: 0, len: PAGE, prot: RW, flags: ANON, offset: 0, file: None };
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        space.mmap(args, &mut Nested(&space))
    }));
    if cfg!(debug_assertions) {
        assert!(answer.is_err());
    } else {
        assert_eq!(answer.unwrap(), Err(Errno::EDEADLK));
    }
    assert_eq!(space.inspect(Mm::map_count), 0);
}

#[test]
fn special_memory_is_installed_with_its_name() {
    let (space, mut kernel) = (new_space(), TestKernel::default());
    let handle = Some((Inode::new(1).named("[vdso]"), Role::Special));
    let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_READ | VmFlags::MAY_EXEC;
    let vdso = Install { start: AT, end: AT + 2 * PAGE, flags, offset: 0, handle };
    assert_eq!(space.install(vdso.clone(), &mut kernel), Ok(()));
    assert_eq!(space.install(vdso, &mut kernel), Err(Errno::EEXIST));
    assert!(space.inspect(|mm| mm.maps().to_string().contains("[vdso]")));
    assert_eq!(space.munmap(AT, PAGE, &mut kernel), Err(Errno::EINVAL));
}
