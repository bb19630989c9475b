//! What stands for the kernel in a replay.

use kvma::linux::{
    Capabilities, File, Inheritance, Kernel, LinuxVma, OpenFile, Overcommit, PageOp, VmFlags,
};
use kvma::{Attrs, Errno, Error, Event, Hooks, Piece};

use crate::line::{Backing, Privilege};

type Vma<'a> = LinuxVma<Backing<'a>>;

/// Memory of the machine on which traces are made, in bytes; it has no swap.
const MEMORY: u64 = 24_105 << 20;

/// Device of shared memory and of files made by memfd_create(2).
const MEMORY_FILES: (u32, u32) = (0, 1);

/// The kernel that made the trace, as far as calls depend on it, in first_batch of an owner who
/// does the work.
pub struct TracedKernel<'s, 'a, O> {
    pub(crate) owner: &'s mut O,
    pub(crate) privilege: Privilege,
    /// What the call at hand maps, if the trace says so.
    pub(crate) backing: Option<Backing<'a>>,
}

impl<'a, O: Kernel<Backing<'a>>> Hooks<Vma<'a>> for TracedKernel<'_, 'a, O> {
    fn prepare(&mut self, event: &Event<'_, Vma<'a>>) -> Result<(), Error> {
        self.owner.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, Vma<'a>>) {
        self.owner.cancel(event);
    }

    fn map(&mut self, piece: &Piece<'_, Vma<'a>>) {
        self.owner.map(piece);
    }

    fn unmap(&mut self, piece: &Piece<'_, Vma<'a>>) {
        self.owner.unmap(piece);
    }

    fn protect(&mut self, piece: &Piece<'_, Vma<'a>>, old: &Attrs) {
        self.owner.protect(piece, old);
    }

    fn relocate(&mut self, piece: &Piece<'_, Vma<'a>>, to: u64) {
        self.owner.relocate(piece, to);
    }

    fn flush_begin(&mut self) {
        self.owner.flush_begin();
    }

    fn flush_wait(&mut self) {
        self.owner.flush_wait();
    }
}

impl<'a, O: Kernel<Backing<'a>>> Kernel<Backing<'a>> for TracedKernel<'_, 'a, O> {
    fn capabilities(&self) -> Capabilities {
        match self.privilege {
            Privilege::User => Capabilities::empty(),
            Privilege::Privileged => Capabilities::all(),
        }
    }

    fn commit(&mut self, pages: u64) -> Result<(), Errno> {
        Overcommit::Heuristic.decide(pages, 0, MEMORY / 4096, 0)
    }

    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        self.owner.inherit(how, vma)
    }

    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        // Huge pages can be made of shared memory, but not of files.
        let brings_in =
            matches!(action, PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite);
        if brings_in
            && VmFlags::from_bits_retain(piece.attrs().user_bits()).contains(VmFlags::HUGE_TLB)
        {
            // There is none.
            return Err(Errno::EFAULT);
        }
        let on_disk = piece.data().object().is_some_and(|file| file.device() != MEMORY_FILES);
        if action == PageOp::Collapse && on_disk {
            return Err(Errno::EINVAL);
        }
        self.owner.page_op(action, piece)
    }

    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<Backing<'a>, Errno> {
        if !flags.contains(VmFlags::NO_RESERVE) {
            self.commit(len / 4096)?;
        }
        Ok(self.backing.unwrap_or(Backing { text: "00:01 0 /dev/zero (deleted)" }))
    }

    fn huge_memory(&mut self, _page: u64, _len: u64, flags: VmFlags) -> Result<Backing<'a>, Errno> {
        // None are set aside, so that only those get them who do not insist.
        if !flags.contains(VmFlags::NO_RESERVE) {
            return Err(Errno::ENOMEM);
        }
        Ok(self.backing.unwrap_or(Backing { text: "00:00 0 /anon_hugepage (deleted)" }))
    }

    fn map_file(&mut self, file: &OpenFile<Backing<'a>>, flags: VmFlags) -> Result<(), Errno> {
        // A trace says what each call has mapped: where it does not, the file itself had something
        // against it.
        if self.backing.is_none() {
            return Err(Errno::ENODEV);
        }
        self.owner.map_file(file, flags)
    }
}
