//! The kernel of a replay: Linux as the trace has met it.

use kvma::hooks::{Advice, RemovedVma};
use kvma::linux::{
    Capabilities, File, Inheritance, Kernel, LinuxVma, OpenFile, Overcommit, PageOp, Usage, VmFlags,
};
use kvma::{Attrs, Errno, Event, Hooks, Piece};

use crate::backing::Backing;
use crate::line::Privilege;

type Vma<'a> = LinuxVma<Backing<'a>>;

/// The memory of the machine on which traces are made, in bytes. It has no swap.
const MEMORY: u64 = 24_105 << 20;

/// The device of shared memory and of files made by `memfd_create(2)`.
const MEMORY_FILES: (u32, u32) = (0, 1);

/// The kernel that made the trace, as far as its answers depend on it. It passes the work on pages
/// to the kernel inside.
#[derive(Debug)]
pub struct TracedKernel<'s, 'a, K> {
    pub(crate) inner: &'s mut K,
    pub(crate) privilege: Privilege,
    /// The object that the current call maps, if the trace names it.
    pub(crate) backing: Option<Backing<'a>>,
}

impl<'a, K: Kernel<Backing<'a>>> Hooks<Vma<'a>> for TracedKernel<'_, 'a, K> {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, Vma<'a>>) -> Result<(), Errno> {
        self.inner.prepare(event)
    }

    fn prepares(&self) -> bool {
        self.inner.prepares()
    }

    fn cancel(&mut self, event: &Event<'_, Vma<'a>>) {
        self.inner.cancel(event);
    }

    fn on_map(&mut self, piece: &Piece<'_, Vma<'a>>) {
        self.inner.on_map(piece);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Vma<'a>>) {
        self.inner.on_unmap(piece);
    }

    fn on_protect(&mut self, piece: &Piece<'_, Vma<'a>>, old: &Attrs) {
        self.inner.on_protect(piece, old);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, Vma<'a>>, to: u64) {
        self.inner.on_relocate(piece, to);
    }

    fn on_advise(&mut self, piece: &Piece<'_, Vma<'a>>, advice: Advice) {
        self.inner.on_advise(piece, advice);
    }

    fn flush_begin(&mut self) {
        self.inner.flush_begin();
    }

    fn flush_wait(&mut self) {
        self.inner.flush_wait();
    }

    fn release(&mut self, removed: RemovedVma<Vma<'a>>) {
        self.inner.release(removed);
    }
}

impl<'a, K: Kernel<Backing<'a>>> Kernel<Backing<'a>> for TracedKernel<'_, 'a, K> {
    fn capabilities(&self) -> Capabilities {
        match self.privilege {
            Privilege::User => Capabilities::empty(),
            Privilege::Privileged => Capabilities::all(),
        }
    }

    fn charge(&mut self, bytes: u64, _usage: &Usage) -> Result<(), Errno> {
        enough_memory(bytes)
    }

    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        self.inner.inherit(how, vma)
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        // Huge pages can be made of shared memory, but not of files.
        let populates =
            matches!(op, PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite);
        if populates
            && VmFlags::from_bits_retain(piece.attrs().user_bits()).contains(VmFlags::HUGE_TLB)
        {
            // The machine has none.
            return Err(Errno::EFAULT);
        }
        let on_disk = piece.data().object().is_some_and(|file| file.device() != MEMORY_FILES);
        if op == PageOp::Collapse && on_disk {
            return Err(Errno::EINVAL);
        }
        self.inner.page_op(op, piece)
    }

    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<Backing<'a>, Errno> {
        if !flags.contains(VmFlags::NO_RESERVE) {
            enough_memory(len)?;
        }
        Ok(self.backing.unwrap_or(Backing::new("00:01 0 /dev/zero (deleted)")))
    }

    fn huge_memory(&mut self, _page: u64, _len: u64, flags: VmFlags) -> Result<Backing<'a>, Errno> {
        // None are set aside, so only those get them that do not reserve them.
        if !flags.contains(VmFlags::NO_RESERVE) {
            return Err(Errno::ENOMEM);
        }
        Ok(self.backing.unwrap_or(Backing::new("00:00 0 /anon_hugepage (deleted)")))
    }

    fn map_file(
        &mut self,
        file: &OpenFile<Backing<'a>>,
        vma: &Piece<'_, Vma<'a>>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        // A trace names the object of every mapping. Where it does not, the file has refused.
        if self.backing.is_none() {
            return Err(Errno::ENODEV);
        }
        self.inner.map_file(file, vma, flags)
    }
}

/// Decides whether so many bytes may be committed, as the machine of the traces does.
fn enough_memory(bytes: u64) -> Result<(), Errno> {
    Overcommit::Heuristic.decide(bytes, 0, MEMORY, 0)
}
