//! Calls at their edges: of the address space, of the largest number of VMAs, of flags that go
//! together.

mod kernels;
mod limits;
mod memory;

use kvma::linux::abi::*;
use kvma::linux::{Access, Fault, FaultAction, Layout, LinuxVma, Mm, Mmap, VmFlags};
use kvma::{Errno, Heap};
use kvma_test_support::{Inode, TestKernel};

use super::{AT, PAGE};

const SHARED: u64 = MAP_SHARED | MAP_ANONYMOUS;
const RX: u64 = PROT_READ | PROT_EXEC;
const POPULATE_WRITE: u64 = 23;
const COLLAPSE: u64 = 25;
const HUGE: u64 = 2 << 20;
const TOP: u64 = 0x7fff_ffff_f000;

struct Program {
    mm: Mm<Inode, Heap>,
    kernel: TestKernel,
}

impl Program {
    fn new() -> Self {
        let mm = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        Self { mm, kernel: TestKernel::default() }
    }

    /// Lets the program have no more VMAs than it has.
    fn full(mut self) -> Self {
        self.mm.set_max_map_count(self.mm.map_count());
        self
    }

    fn call(
        &mut self,
        call: impl FnOnce(
            &mut Mm<Inode, Heap>,
            &mut kvma::Update<'_, LinuxVma<Inode>, Heap, TestKernel>,
        ) -> Result<u64, Errno>,
    ) -> Result<u64, Errno> {
        let mut update = self.mm.update(&mut self.kernel);
        let answer = call(&mut self.mm, &mut update);
        update.finish();
        self.mm.check().unwrap();
        answer
    }

    fn mmap(&mut self, addr: u64, len: u64, prot: u64, flags: u64) -> Result<u64, Errno> {
        let args = Mmap { addr, len, prot, flags, offset: 0, file: None };
        self.call(|mm, update| mm.mmap(args, update))
    }

    fn map(&mut self, page: u64, pages: u64, prot: u64, flags: u64) {
        let at = AT + page * PAGE;
        assert_eq!(self.mmap(at, pages * PAGE, prot, flags | MAP_FIXED), Ok(at));
    }

    fn mprotect(&mut self, page: u64, pages: u64, prot: u64) -> Result<u64, Errno> {
        self.call(|mm, update| mm.mprotect(AT + page * PAGE, pages * PAGE, prot, update))
    }

    fn madvise(&mut self, page: u64, pages: u64, advice: u64) -> Result<u64, Errno> {
        self.call(|mm, update| mm.madvise(AT + page * PAGE, pages * PAGE, advice, update))
    }

    fn mremap(&mut self, page: u64, old: u64, new: u64, flags: u64, to: u64) -> Result<u64, Errno> {
        let (addr, old, new) = (AT + page * PAGE, old * PAGE, new * PAGE);
        self.call(|mm, update| mm.mremap(addr, old, new, flags, to, update))
    }

    fn write(&mut self, page: u64) {
        let write = Fault::new(AT + page * PAGE, Access::Write);
        let action = self.mm.fault(&write, &mut self.mm.update(&mut self.kernel));
        assert_eq!(action, FaultAction::Copy);
    }

    /// First page above `AT` and pages of each VMA that lies there.
    fn ranges(&self) -> Vec<(u64, u64)> {
        let vmas = self.mm.iter().filter(|vma| (AT..AT + (1 << 30)).contains(&vma.start()));
        vmas.map(|vma| ((vma.start() - AT) / PAGE, vma.page_count())).collect()
    }

    fn flags(&self, page: u64) -> VmFlags {
        VmFlags::of(&self.mm.iter().find(|vma| vma.range().contains(AT + page * PAGE)).unwrap())
    }
}
