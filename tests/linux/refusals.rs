//! Refusals: the kernel's error is what the call returns, whatever number it is; and the kernels
//! that are made of hooks.

use kvma::linux::abi::*;
use kvma::linux::{
    File, Inheritance, Kernel, Layout, LinuxVma, Mm, Mmap, NoKernel, OpenFile, PageOp, VmFlags,
    WithErrno, on_event,
};
use kvma::{Errno, Error, Event, Heap, Hooks, Piece};
use kvma_test_support::Inode;

use super::{ANON, AT, PAGE, RW};

/// A number that this crate has no name for.
const STRANGE: Errno = Errno(4095);

/// A kernel that refuses everything but hooks, each step with another number.
struct Refuses;

impl Hooks<LinuxVma<Inode>> for Refuses {
    type Error = Errno;
}

impl Kernel<Inode> for Refuses {
    fn map_file(
        &mut self,
        _file: &OpenFile<Inode>,
        _vma: &Piece<'_, LinuxVma<Inode>>,
        _flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        Err(Errno(4001))
    }

    fn shared_memory(&mut self, _len: u64, _flags: VmFlags) -> Result<Inode, Errno> {
        Err(Errno(4002))
    }

    fn huge_memory(&mut self, _page: u64, _len: u64, _flags: VmFlags) -> Result<Inode, Errno> {
        Err(Errno(4003))
    }

    fn inherit(&mut self, _: Inheritance, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        Err(Errno(4004))
    }

    fn page_op(&mut self, _: PageOp, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        Err(Errno(4005))
    }
}

fn program() -> Mm<Inode, Heap> {
    Mm::new(Layout::x86_64(8 << 20), Heap).unwrap()
}

fn map<F: File, K: Kernel<F>>(
    mm: &mut Mm<F, Heap>,
    flags: u64,
    file: Option<OpenFile<F>>,
    kernel: &mut K,
) -> Result<u64, Errno> {
    let flags = flags | MAP_FIXED;
    let args = Mmap { addr: AT, len: 0x20_0000, prot: RW, flags, offset: 0, file };
    mm.mmap(args, &mut mm.update(kernel))
}

#[test]
fn the_kernels_errno_is_the_answer() {
    let mut mm = program();
    let file = Inode::new(1).open();
    assert_eq!(map(&mut mm, MAP_PRIVATE, Some(file), &mut Refuses), Err(Errno(4001)));
    assert_eq!(map(&mut mm, MAP_SHARED | MAP_ANONYMOUS, None, &mut Refuses), Err(Errno(4002)));
    assert_eq!(map(&mut mm, ANON | MAP_HUGETLB, None, &mut Refuses), Err(Errno(4003)));
    assert_eq!(map(&mut mm, ANON, None, &mut Refuses), Ok(AT));
    assert_eq!(mm.fork(&mut mm.update(&mut Refuses)).err(), Some(Errno(4004)));
    let mut kernel = Refuses;
    let mut call = mm.update(&mut kernel);
    assert_eq!(mm.madvise(AT, PAGE, 4, &mut call), Err(Errno(4005)));
    assert_eq!(mm.mincore(AT, PAGE, &mut call), Err(Errno(4005)));
    // The memory is locked all the same.
    assert_eq!(mm.mlock(AT, PAGE, &mut call), Err(Errno(4005)));
    call.finish();
    assert_eq!(mm.usage().locked(), PAGE);
}

#[test]
fn hooks_with_an_error_of_their_own_make_a_kernel() {
    /// An error that the kernel's page tables have.
    #[derive(Debug)]
    struct PageTableError;

    impl From<Error> for PageTableError {
        fn from(_error: Error) -> Self {
            Self
        }
    }

    impl From<PageTableError> for Errno {
        fn from(_error: PageTableError) -> Self {
            STRANGE
        }
    }

    /// Page tables that have no room for anything but what is unmapped.
    #[derive(Default)]
    struct PageTables {
        cancelled: usize,
    }

    impl<V> Hooks<V> for PageTables {
        type Error = PageTableError;

        fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), PageTableError> {
            if matches!(event, Event::Unmap(_)) { Ok(()) } else { Err(PageTableError) }
        }

        fn cancel(&mut self, _event: &Event<'_, V>) {
            self.cancelled += 1;
        }
    }

    let mut mm = program();
    map(&mut mm, ANON, None, &mut NoKernel).unwrap();
    let mut kernel = WithErrno(PageTables::default());
    assert_eq!(mm.mprotect(AT, PAGE, PROT_READ, &mut mm.update(&mut kernel)), Err(STRANGE));
    assert_eq!(mm.munmap(AT, PAGE, &mut mm.update(&mut kernel)), Ok(0));
    assert_eq!(kernel.0.cancelled, 0);
}

/// Hooks that prepare nothing are not asked, whoever translates their errors.
#[test]
fn hooks_that_prepare_nothing_are_not_asked_behind_with_errno() {
    struct Unprepared;

    impl<V> Hooks<V> for Unprepared {
        type Error = Errno;

        fn prepares(&self) -> bool {
            false
        }

        fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Errno> {
            panic!("asked to prepare");
        }
    }

    let mut mm = program();
    let mut kernel = WithErrno(Unprepared);
    map(&mut mm, ANON, None, &mut kernel).unwrap();
    assert_eq!(mm.munmap(AT, PAGE, &mut mm.update(&mut kernel)), Ok(0));
}

#[test]
fn a_closure_makes_a_kernel() {
    let mut events = Vec::new();
    let mut kernel = on_event(|event: Event<'_, LinuxVma<Inode>>| {
        let what = match event {
            Event::Map(_) => "map",
            Event::Unmap(_) => "unmap",
            Event::Protect { .. } => "protect",
            Event::Relocate { .. } => "relocate",
        };
        events.push((what, event.piece().range().page_count()));
    });
    let mut mm = program();
    map(&mut mm, ANON, None, &mut kernel).unwrap();
    mm.mprotect(AT, PAGE, PROT_READ, &mut mm.update(&mut kernel)).unwrap();
    let (to, flags) = (AT + 0x4000_0000, MREMAP_MAYMOVE | MREMAP_FIXED);
    mm.mremap(AT, PAGE, PAGE, flags, to, &mut mm.update(&mut kernel)).unwrap();
    mm.munmap(to, PAGE, &mut mm.update(&mut kernel)).unwrap();
    assert_eq!(events, [("map", 512), ("protect", 1), ("relocate", 1), ("unmap", 1)]);
}

#[test]
fn a_kernel_may_be_a_trait_object() {
    let mut kernel: Box<dyn Kernel<Inode>> = Box::new(NoKernel);
    let mut mm = program();
    let args = Mmap { addr: AT, len: PAGE, prot: RW, flags: ANON, offset: 0, file: None };
    assert_eq!(mm.mmap(args, &mut mm.update(kernel.as_mut())), Ok(AT));
}
