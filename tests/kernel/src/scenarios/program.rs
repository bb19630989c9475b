//! A program for scenarios: a process that makes Linux calls.

use core::fmt;

use kvma::linux::abi::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ,
    PROT_WRITE,
};
use kvma::linux::{Call, File, LinuxVma, Mm, Mmap, OpenFile, Rights};
use kvma::{Errno, VmaNode};

use crate::contents::Contents;
use crate::hooks::PageHooks;
use crate::nodes::{Nodes, nodes};
use crate::paging::PAGE_SIZE;
use crate::probe;
use crate::space::Space;

/// A file, by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestFile(pub u64);

impl File for TestFile {
    fn id(&self) -> u64 {
        self.0
    }

    fn device(&self) -> (u32, u32) {
        (8, 1)
    }

    fn inode(&self) -> u64 {
        self.0
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/{}", self.0)
    }
}

impl Contents for LinuxVma<TestFile> {
    fn begins_as_zeros(&self) -> bool {
        false
    }
}

type Alloc = &'static Nodes<VmaNode<LinuxVma<TestFile>>>;
/// The VMAs of a program.
pub type ProgramMm = Mm<TestFile, Alloc>;

pub static NODES: Nodes<VmaNode<LinuxVma<TestFile>>> = nodes();

/// The address of page 0 of programs.
pub const AT: u64 = 0x5000_0000_0000;

pub const PROT_NONE: u64 = 0;
pub const RW: u64 = PROT_READ | PROT_WRITE;

/// Returns the address of a page.
pub fn at(page: u64) -> u64 {
    AT + page * PAGE_SIZE
}

/// Loads from a page, as the program whose space the processor is in.
pub fn load(page: u64) -> Option<u64> {
    probe::as_program(|| probe::load(at(page)))
}

/// Stores to a page, as the program whose space the processor is in.
pub fn store(page: u64, value: u64) -> bool {
    probe::as_program(|| probe::store(at(page), value))
}

/// A process. Its pages are numbered from [`AT`].
pub struct Program(pub Space<ProgramMm>);

impl Program {
    fn call(
        &self,
        call: impl FnOnce(
            &mut ProgramMm,
            &mut Call<'_, TestFile, Alloc, PageHooks<'_>>,
        ) -> Result<u64, Errno>,
    ) {
        if let Err(errno) = self.0.change(call) {
            panic!("a call was refused: {errno}");
        }
    }

    /// Maps private memory.
    pub fn map(&self, page: u64, pages: u64, prot: u64, flags: u64) {
        let flags = flags | MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        let args =
            Mmap { addr: at(page), len: pages * PAGE_SIZE, prot, flags, offset: 0, file: None };
        self.call(|mm, call| mm.mmap(args, call));
    }

    /// Maps a file, shared.
    pub fn map_shared(&self, page: u64, pages: u64, prot: u64, file: TestFile) {
        let file = Some(OpenFile::new(file, Rights::READ | Rights::WRITE));
        let flags = MAP_SHARED | MAP_FIXED;
        let args = Mmap { addr: at(page), len: pages * PAGE_SIZE, prot, flags, offset: 0, file };
        self.call(|mm, call| mm.mmap(args, call));
    }

    pub fn unmap(&self, page: u64, pages: u64) {
        self.call(|mm, call| mm.munmap(at(page), pages * PAGE_SIZE, call));
    }

    pub fn protect(&self, page: u64, pages: u64, prot: u64) {
        self.call(|mm, call| mm.mprotect(at(page), pages * PAGE_SIZE, prot, call));
    }

    pub fn advise(&self, page: u64, pages: u64, advice: u64) {
        self.call(|mm, call| mm.madvise(at(page), pages * PAGE_SIZE, advice, call));
    }

    pub fn relocate(&self, page: u64, pages: u64, to: u64) {
        let (len, flags) = (pages * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED);
        self.call(|mm, call| mm.mremap(at(page), len, len, flags, at(to), call));
    }

    pub fn fork(&self) -> Self {
        Self(self.0.fork().unwrap_or_else(|errno| panic!("fork was refused: {errno}")))
    }

    /// Returns the first page of the VMA that holds the page.
    pub fn begin(&self, page: u64) -> Option<u64> {
        self.0.vmas.lookup(at(page)).map(|vma| (vma.range().start() - AT) / PAGE_SIZE)
    }
}
