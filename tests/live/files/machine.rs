//! kvma's side: files as the kernel of this test describes them.

use std::collections::HashMap;

use kvma::linux::{
    Alignment, Capabilities, Kernel, LinuxVma, OpenFile, PageOp, Restrictions, Rights, Traits,
    VmFlags,
};
use kvma::{Errno, Hooks, Piece};
use kvma_test_support::Inode;

const ENODEV: Errno = Errno(19);

/// The kind of file behind a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Made by memfd_create(2).
    Memory,
    /// A memfd with `F_SEAL_WRITE`, or `F_SEAL_FUTURE_WRITE`.
    Sealed,
    /// On a tmpfs with `huge=always`.
    HugeMemory,
    /// Made by `memfd_secret(2)`.
    Secret,
    /// Made by `io_uring_setup(2)`.
    Ring,
    /// Made by `perf_event_open(2)`.
    Perf,
    /// A segment of System V shared memory.
    Segment,
}

/// A kernel with such files.
#[derive(Debug, Default)]
pub struct Machine {
    capabilities: Capabilities,
    kinds: HashMap<u64, Kind>,
    /// Sizes of the segments.
    sizes: HashMap<u64, u64>,
    attachments: u64,
}

impl Machine {
    pub fn new(capabilities: Capabilities) -> Self {
        Self { capabilities, ..Self::default() }
    }

    pub fn add(&mut self, fd: u64, kind: Kind) {
        self.kinds.insert(fd, kind);
    }

    pub fn add_segment(&mut self, id: u64, bytes: u64) {
        self.sizes.insert(id, bytes);
    }

    /// Returns the file that an mmap of the descriptor sees.
    pub fn open(&self, fd: u64) -> Option<OpenFile<Inode>> {
        let kind = *self.kinds.get(&fd)?;
        let file = Inode::new(fd);
        let (file, traits) = match kind {
            Kind::Memory | Kind::Segment => (file, Traits::empty()),
            Kind::Sealed => (file, Traits::WRITE_SEALED),
            Kind::HugeMemory => (file.aligned(Alignment::HugeShmem), Traits::empty()),
            Kind::Secret => {
                let restrictions = Restrictions::NO_LOCK | Restrictions::NO_POPULATE;
                (file.restricted(restrictions), Traits::NO_EXEC)
            }
            Kind::Ring => (file.restricted(Restrictions::NO_ADDRESS), Traits::NO_EXEC),
            Kind::Perf => (file.restricted(Restrictions::NO_SPLIT), Traits::NO_EXEC),
        };
        Some(OpenFile::new(file, Rights::READ | Rights::WRITE).with_traits(traits))
    }

    /// A new attachment of a segment.
    pub fn attach(&mut self, id: u64) -> Result<Inode, Errno> {
        let bytes = *self.sizes.get(&id).ok_or(Errno::EINVAL)?;
        self.attachments += 1;
        let number = (1 << 32) + self.attachments;
        self.kinds.insert(number, Kind::Segment);
        Ok(Inode::new(number).segment(bytes))
    }

    fn kind(&self, piece: &Piece<'_, LinuxVma<Inode>>) -> Option<Kind> {
        use kvma::linux::File;
        self.kinds.get(&piece.data().object()?.id()).copied()
    }
}

impl Hooks<LinuxVma<Inode>> for Machine {
    type Error = Errno;
}

impl Kernel<Inode> for Machine {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn map_file(
        &mut self,
        _file: &OpenFile<Inode>,
        vma: &Piece<'_, LinuxVma<Inode>>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        let private = !flags.contains(VmFlags::MAY_SHARE);
        let io = VmFlags::IO | VmFlags::PFN_MAP;
        match self.kind(vma) {
            Some(Kind::Secret | Kind::Perf) if private => Err(Errno::EINVAL),
            Some(Kind::Secret) => Ok(flags | VmFlags::LOCKED | VmFlags::DONT_DUMP),
            Some(Kind::Ring) => Ok(flags | VmFlags::DONT_EXPAND | VmFlags::MIXED_MAP),
            Some(Kind::Perf) => {
                let unwanted = VmFlags::DONT_COPY | VmFlags::DONT_DUMP;
                Ok(flags | unwanted | io | VmFlags::DONT_EXPAND)
            }
            _ => Ok(flags),
        }
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        let populates =
            matches!(op, PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite);
        match (self.kind(piece), op) {
            // The test has dropped the pages, which came with mmap.
            (Some(Kind::Ring), _) if populates => Err(Errno::EFAULT),
            (Some(Kind::Ring | Kind::Perf), PageOp::Remove) => Err(ENODEV),
            (Some(Kind::Ring | Kind::Perf | Kind::Secret), PageOp::WriteBack) => Err(Errno::EINVAL),
            // The seal forbids it, whoever may write.
            (Some(Kind::Sealed), PageOp::Remove) => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }
}
