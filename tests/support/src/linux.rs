//! Files and a kernel for the Linux layer.

use std::fmt;

use kvma::linux::{
    Alignment, Capabilities, CommitLimit, File, Inheritance, Kernel, LinuxVma, OpenFile,
    Overcommit, PageOp, Restrictions, Rights, Usage, VmFlags,
};
use kvma::{Attrs, Backing, Errno, Event, Hooks, PageSize, Piece, Prot};

use crate::guards::GuardRanges;

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;

/// A file, known by its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inode {
    number: u64,
    device: (u32, u32),
    path: Option<&'static str>,
    alignment: Alignment,
    restrictions: Restrictions,
    segment: Option<u64>,
    pages: u64,
}

impl Inode {
    /// A file of unlimited length on device 8:1, whose path is `/file/NUMBER`.
    pub const fn new(number: u64) -> Self {
        let (alignment, restrictions) = (Alignment::Page, Restrictions::empty());
        let (device, path, segment, pages) = ((8, 1), None, None, u64::MAX);
        Self { number, device, path, alignment, restrictions, segment, pages }
    }

    /// Gives the file another path, or special memory its name.
    pub const fn named(self, path: &'static str) -> Self {
        Self { path: Some(path), ..self }
    }

    /// Puts the file on another device.
    pub const fn on_device(self, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..self }
    }

    /// Lets the file end after `pages` pages: those behind cannot be populated.
    pub const fn of_pages(self, pages: u64) -> Self {
        Self { pages, ..self }
    }

    /// Makes the file one of huge pages of `bytes` bytes; 0 leaves it one of small pages.
    pub const fn of_huge_pages(self, bytes: u64) -> Self {
        let alignment = if bytes == 0 { Alignment::Page } else { Alignment::HugeTlb(bytes) };
        Self { alignment, ..self }
    }

    /// Puts mappings of the file where `alignment` says.
    pub const fn aligned(self, alignment: Alignment) -> Self {
        Self { alignment, ..self }
    }

    /// Forbids calls to do `restrictions` to VMAs of the file.
    pub const fn restricted(self, restrictions: Restrictions) -> Self {
        Self { restrictions, ..self }
    }

    /// Makes the file a segment of System V shared memory of `bytes` bytes.
    pub const fn segment(self, bytes: u64) -> Self {
        let this = self.on_device(0, 1).restricted(Restrictions::NO_JOINT_MOVE);
        Self { segment: Some(bytes), ..this }
    }

    /// Opens the file for reading and writing.
    pub fn open(self) -> OpenFile<Self> {
        OpenFile::new(self, Rights::READ | Rights::WRITE)
    }
}

impl File for Inode {
    fn id(&self) -> u64 {
        self.number
    }

    fn device(&self) -> (u32, u32) {
        self.device
    }

    fn inode(&self) -> u64 {
        self.number
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self.path {
            Some(path) => out.write_str(path),
            None => write!(out, "/file/{}", self.number),
        }
    }

    fn alignment(&self) -> Alignment {
        self.alignment
    }

    fn segment_size(&self) -> Option<u64> {
        self.segment
    }

    fn restrictions(&self) -> Restrictions {
        self.restrictions
    }
}

/// A kernel that writes down what it is told, and is as strict as it is told to be.
///
/// At first it refuses nothing, has no privileges and no huge pages, and gives shared memory the
/// numbers from 1001 on.
#[derive(Debug)]
pub struct TestKernel {
    /// The page operations: which, first byte, pages.
    pub page_ops: Vec<(PageOp, u64, u64)>,
    /// The VMAs that a child inherited: how, first byte.
    pub inherited: Vec<(Inheritance, u64)>,
    /// The ranges that were unmapped: first byte, pages.
    pub unmapped: Vec<(u64, u64)>,
    /// The ranges that were protected: first byte, old protection, new one.
    pub protected: Vec<(u64, Prot, Prot)>,
    /// Bytes that are charged to all processes together.
    pub charged: u64,
    /// Huge pages of 2 MiB that nobody has.
    pub free_huge_pages: u64,
    /// Pages that cannot be populated.
    pub guards: GuardRanges,
    /// The privileges of the caller.
    pub capabilities: Capabilities,
    /// Makes `prepare` refuse every event.
    pub refuse_prepare: Option<Errno>,
    /// Makes `prepare` refuse to unmap.
    pub refuse_unmap: Option<Errno>,
    /// Makes `prepare` refuse to move.
    pub refuse_relocate: Option<Errno>,
    /// Makes files refuse to be mapped.
    pub refuse_files: Option<Errno>,
    /// The flags that files set and clear in their VMAs.
    pub file_flags: (VmFlags, VmFlags),
    overcommit: Overcommit,
    memory: u64,
    commit_limit: CommitLimit,
    objects: u64,
}

impl Default for TestKernel {
    fn default() -> Self {
        Self {
            page_ops: Vec::new(),
            inherited: Vec::new(),
            unmapped: Vec::new(),
            protected: Vec::new(),
            charged: 0,
            free_huge_pages: 0,
            guards: GuardRanges::default(),
            capabilities: Capabilities::empty(),
            refuse_prepare: None,
            refuse_unmap: None,
            refuse_relocate: None,
            refuse_files: None,
            file_flags: (VmFlags::empty(), VmFlags::empty()),
            overcommit: Overcommit::Heuristic,
            memory: u64::MAX,
            commit_limit: CommitLimit::of_bytes(PageSize::SIZE_4K, u64::MAX, 0),
            objects: 0,
        }
    }
}

impl TestKernel {
    /// Lets the caller do what `capabilities` say.
    pub fn with_capabilities(self, capabilities: Capabilities) -> Self {
        Self { capabilities, ..self }
    }

    /// Refuses what alone exceeds `bytes` bytes of memory (`vm.overcommit_memory` 0).
    pub fn with_memory(self, bytes: u64) -> Self {
        Self { overcommit: Overcommit::Heuristic, memory: bytes, ..self }
    }

    /// Refuses what exceeds `limit` (`vm.overcommit_memory` 2).
    pub fn with_commit_limit(mut self, limit: CommitLimit) -> Self {
        self.set_commit_limit(limit);
        self
    }

    /// Refuses from now on what exceeds `limit` (`vm.overcommit_memory` 2).
    pub fn set_commit_limit(&mut self, limit: CommitLimit) {
        (self.overcommit, self.commit_limit) = (Overcommit::Never, limit);
    }

    /// Lets `bytes` bytes be charged already.
    pub fn with_charged(self, bytes: u64) -> Self {
        Self { charged: bytes, ..self }
    }

    /// Sets `pages` huge pages of 2 MiB aside.
    pub fn with_huge_pages(self, pages: u64) -> Self {
        Self { free_huge_pages: pages, ..self }
    }
}

/// First byte and pages of a piece.
fn extent<V>(piece: &Piece<'_, V>) -> (u64, u64) {
    (piece.range().start(), piece.range().page_count())
}

impl Hooks<LinuxVma<Inode>> for TestKernel {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        let refuse_this = match event {
            Event::Unmap(_) => self.refuse_unmap,
            Event::Relocate { .. } => self.refuse_relocate,
            _ => None,
        };
        self.refuse_prepare.or(refuse_this).map_or(Ok(()), Err)
    }

    fn on_unmap(&mut self, piece: &Piece<'_, LinuxVma<Inode>>) {
        let (start, pages) = extent(piece);
        self.unmapped.push((start, pages));
        self.guards.remove(start, start + pages * PAGE);
        let flags = VmFlags::from_bits_retain(piece.attrs().user_bits());
        if flags.contains(VmFlags::HUGE_TLB) && !flags.contains(VmFlags::NO_RESERVE) {
            let huge = HUGE_PAGE / PAGE;
            assert!(pages.is_multiple_of(huge), "a huge page was split: {piece:?}");
            self.free_huge_pages += pages / huge;
        }
    }

    fn on_relocate(&mut self, piece: &Piece<'_, LinuxVma<Inode>>, to: u64) {
        let (start, pages) = extent(piece);
        self.guards.relocate(start, start + pages * PAGE, to);
    }

    fn on_protect(&mut self, piece: &Piece<'_, LinuxVma<Inode>>, old: &Attrs) {
        self.protected.push((piece.range().start(), old.prot(), piece.attrs().prot()));
    }
}

impl Kernel<Inode> for TestKernel {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn overcommit(&self) -> Overcommit {
        self.overcommit
    }

    fn charge(&mut self, bytes: u64, usage: &Usage) -> Result<(), Errno> {
        let limit = self.commit_limit.for_process(usage, self.capabilities);
        self.overcommit.decide(bytes, self.charged + bytes, self.memory, limit)?;
        self.charged += bytes;
        Ok(())
    }

    fn uncharge(&mut self, bytes: u64) {
        self.charged = self.charged.checked_sub(bytes).expect("more is uncharged than was charged");
    }

    fn shared_memory(&mut self, _len: u64, _flags: VmFlags) -> Result<Inode, Errno> {
        self.objects += 1;
        Ok(Inode::new(1000 + self.objects))
    }

    fn huge_memory(&mut self, page: u64, len: u64, flags: VmFlags) -> Result<Inode, Errno> {
        assert!(flags.contains(VmFlags::HUGE_TLB | VmFlags::DONT_EXPAND));
        assert!(len.is_multiple_of(page));
        if !flags.contains(VmFlags::NO_RESERVE) {
            let free = if page == HUGE_PAGE { self.free_huge_pages } else { 0 };
            self.free_huge_pages = free.checked_sub(len / page).ok_or(Errno::ENOMEM)?;
        }
        self.objects += 1;
        let object = Inode::new(1000 + self.objects).on_device(0, 17);
        Ok(object.named("/anon_hugepage (deleted)").of_huge_pages(page))
    }

    fn map_file(
        &mut self,
        _file: &OpenFile<Inode>,
        _vma: &Piece<'_, LinuxVma<Inode>>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        let (set, clear) = self.file_flags;
        self.refuse_files.map_or(Ok((flags | set) - clear), Err)
    }

    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        self.inherited.push((how, vma.range().start()));
        Ok(())
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        let (start, pages) = extent(piece);
        self.page_ops.push((op, start, pages));
        let end = start + pages * PAGE;
        match op {
            PageOp::GuardInstall => self.guards.install(start, end),
            PageOp::GuardRemove => self.guards.remove(start, end),
            PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite => {
                let first = match piece.attrs().backing() {
                    Backing::Object { offset, .. } => offset / PAGE,
                    Backing::Anonymous => 0,
                };
                let beyond = |inode: &Inode| first.saturating_add(pages) > inode.pages;
                if piece.data().object().is_some_and(beyond) || self.guards.meets(start, end) {
                    return Err(Errno::EFAULT);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
