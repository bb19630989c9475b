//! [`Kernel`]: what this layer asks of the kernel around it, and tells it.

use bitflags::bitflags;

use super::file::{File, OpenFile};
use super::limits::Usage;
use super::overcommit::Overcommit;
use super::page_op::PageOp;
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use crate::{Errno, Hooks, Piece};

bitflags! {
    /// The capabilities of the caller (capabilities(7)), as far as memory calls ask for them.
    ///
    /// ```
    /// use kvma::linux::Capabilities;
    ///
    /// /// Takes those that count here from a set as in capset(2).
    /// fn capabilities(effective: u64) -> Capabilities {
    ///     const CAP_IPC_LOCK: u64 = 1 << 14;
    ///     const CAP_SYS_RAWIO: u64 = 1 << 17;
    ///     const CAP_SYS_ADMIN: u64 = 1 << 21;
    ///     let mut caps = Capabilities::empty();
    ///     caps.set(Capabilities::IPC_LOCK, effective & CAP_IPC_LOCK != 0);
    ///     caps.set(Capabilities::SYS_RAWIO, effective & CAP_SYS_RAWIO != 0);
    ///     caps.set(Capabilities::SYS_ADMIN, effective & CAP_SYS_ADMIN != 0);
    ///     caps
    /// }
    ///
    /// assert_eq!(capabilities(1 << 14), Capabilities::IPC_LOCK);
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Capabilities: u8 {
        /// `CAP_IPC_LOCK`: lock more memory than the limit.
        const IPC_LOCK = 1;
        /// `CAP_SYS_RAWIO`: map the lowest addresses.
        const SYS_RAWIO = 1 << 1;
        /// `CAP_SYS_ADMIN`: commit the last few per cent of memory.
        const SYS_ADMIN = 1 << 2;
    }
}

/// How a child gets the pages of a VMA at fork.
///
/// ```
/// use kvma::linux::{Inheritance, Kernel, LinuxVma, NoFile};
/// use kvma::{Errno, Hooks, Piece};
///
/// /// The page tables of a parent and its child.
/// struct Fork {
///     copy_on_write: Vec<u64>,
/// }
///
/// # impl Hooks<LinuxVma<NoFile>> for Fork {
/// #     type Error = Errno;
/// # }
/// impl Kernel<NoFile> for Fork {
///     fn inherit(
///         &mut self,
///         how: Inheritance,
///         vma: &Piece<'_, LinuxVma<NoFile>>,
///     ) -> Result<(), Errno> {
///         match how {
///             // Entries become read-only on both sides, and frames have one owner more.
///             Inheritance::CopyOnWrite => self.copy_on_write.extend(vma.range().pages()),
///             // The child's page faults find the object's pages, or make new ones.
///             Inheritance::Share | Inheritance::Wipe => {}
///         }
///         Ok(())
///     }
/// }
/// # use kvma::linux::abi::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ};
/// # use kvma::linux::{Layout, Mm, Mmap};
/// # use kvma::{AddrSpace, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let parent = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let flags = MAP_PRIVATE | MAP_ANONYMOUS;
/// # let memory = Mmap { addr: 0, len: 0x2000, prot: PROT_READ, flags, offset: 0, file: None };
/// # let mut kernel = Fork { copy_on_write: Vec::new() };
/// # let at = parent.mmap(memory, &mut kernel)?;
/// # parent.fork(&mut kernel)?;
/// # assert_eq!(kernel.copy_on_write, [at, at + 0x1000]);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inheritance {
    /// Both see the same pages until one writes: take write access away on both sides.
    CopyOnWrite,
    /// Both see the same pages for good. The child's entries may be left to its page faults, except
    /// for guards, which it inherits here as everywhere.
    Share,
    /// The child sees zeros, and no guards (`MADV_WIPEONFORK`).
    Wipe,
}

/// The kernel's side of a call: the [`Hooks`] that edit page tables, and what only it knows.
///
/// Everything but the hooks has a default: no privileges, memory without end, no shared anonymous
/// memory. [`NoKernel`](super::NoKernel) is a kernel that does nothing more, and
/// [`WithErrno`](super::WithErrno) makes one of hooks.
///
/// The hooks' error is an [`Errno`]: what they refuse with is what the call returns.
///
/// All methods run under the lock that guards the [`Mm`](super::Mm), if there is one, and must not
/// call back into the address space.
///
/// ```
/// use kvma::linux::{Kernel, LinuxVma, NoFile, Usage};
/// use kvma::{Errno, Hooks, Piece};
///
/// /// A kernel that clears page tables, and has so many bytes for what may be committed.
/// struct Memory {
///     free: u64,
/// }
///
/// impl Hooks<LinuxVma<NoFile>> for Memory {
///     type Error = Errno;
///
///     fn on_unmap(&mut self, piece: &Piece<'_, LinuxVma<NoFile>>) {
///         println!("clear {:?}", piece.range());
///     }
/// }
///
/// impl Kernel<NoFile> for Memory {
///     fn charge(&mut self, bytes: u64, _usage: &Usage) -> Result<(), Errno> {
///         self.free = self.free.checked_sub(bytes).ok_or(Errno::ENOMEM)?;
///         Ok(())
///     }
///
///     fn uncharge(&mut self, bytes: u64) {
///         self.free += bytes;
///     }
/// }
/// ```
pub trait Kernel<F: File>: Hooks<LinuxVma<F>, Error = Errno> {
    /// Returns the capabilities of the caller.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    /// Returns the mode of `vm.overcommit_memory`.
    fn overcommit(&self) -> Overcommit {
        Overcommit::default()
    }

    /// Charges this process, which uses `usage` so far, for `bytes` more bytes of committed memory
    /// (`security_vm_enough_memory_mm`). [`Overcommit::decide`] knows Linux's rules.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, which the call returns. Nothing is charged then.
    fn charge(&mut self, bytes: u64, usage: &Usage) -> Result<(), Errno> {
        let _ = (bytes, usage);
        Ok(())
    }

    /// Takes the charge for `bytes` bytes back.
    fn uncharge(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// Makes an object of `len` bytes for shared anonymous memory (`shmem_zero_setup`).
    ///
    /// Without `nr` in `flags` its pages are to be charged like those of private memory, by the
    /// object.
    ///
    /// # Errors
    ///
    /// Whatever mmap is to return. Old mappings at a fixed address are gone by then.
    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<F, Errno> {
        let _ = (len, flags);
        Err(Errno::ENOMEM)
    }

    /// Returns the size in bytes of the huge pages that `MAP_HUGETLB` means by the logarithm in its
    /// size bits; 0 there is the usual size (`hstate_sizelog`).
    ///
    /// It is one of the sizes of [`SplitGranularity`](crate::SplitGranularity). `None` if this
    /// machine has no such pages, which mmap calls `EINVAL`. By default, the two sizes of x86-64.
    fn huge_page(&self, log2: u32) -> Option<u64> {
        match log2 {
            0 | 21 => Some(2 << 20),
            30 => Some(1 << 30),
            _ => None,
        }
    }

    /// Makes an object for `MAP_HUGETLB`: `len` bytes in huge pages of `page` bytes
    /// (`hugetlb_file_setup`, `hugetlb_reserve_pages`).
    ///
    /// Without `nr` in `flags` as many pages are to be set aside for it, even if it is private or
    /// cannot be accessed. Those that were never used are given back when the VMA is unmapped.
    ///
    /// # Errors
    ///
    /// Whatever mmap is to return. Old mappings at a fixed address are gone by then. By default
    /// `ENOMEM`: there are no huge pages.
    fn huge_memory(&mut self, page: u64, len: u64, flags: VmFlags) -> Result<F, Errno> {
        let _ = (page, len, flags);
        Err(Errno::ENOMEM)
    }

    /// Asks the file whether it agrees to be mapped, and returns the flags of the VMA
    /// (`f_op->mmap`, `f_op->mmap_prepare`).
    ///
    /// `vma` shows what will be mapped unless it merges: the range, and where in the file it
    /// begins. `flags` are its flags so far, to be returned as they are, or with others of
    /// [`VmFlags::OF_FILE`] or less of [`VmFlags::MAY_ACCESS`]; other differences do not count.
    /// With `io`, `de`, `pf` or `mm` it never merges and is never locked. A file that adds `lo`
    /// need not look at the limit on locked memory: over it, mmap returns `EAGAIN`.
    ///
    /// # Errors
    ///
    /// Whatever mmap is to return: the file's own errno. Old mappings at a fixed address are gone
    /// by then.
    fn map_file(
        &mut self,
        file: &OpenFile<F>,
        vma: &Piece<'_, LinuxVma<F>>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        let _ = (file, vma);
        Ok(flags)
    }

    /// Lets a child inherit the pages of a VMA, at the same addresses.
    ///
    /// `vma` is what the child's will be. The parent's has the same range, and the same attributes
    /// but for locks, so that for [`Inheritance::CopyOnWrite`] one walk serves both page tables.
    ///
    /// The tokens of page faults that have looked up a VMA of the parent are invalid by then, and
    /// `flush_begin` follows the last VMA, or the one that was refused; `flush_wait` comes after
    /// unlock. Nobody else sees the child's page tables until fork has succeeded. If it fails, even
    /// for a later VMA, throw them away.
    ///
    /// # Errors
    ///
    /// Whatever fork is to return.
    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let _ = (how, vma);
        Ok(())
    }

    /// Does `op` to the pages of `piece`.
    ///
    /// # Errors
    ///
    /// Whatever the call is to return; mmap and mlockall ignore it. `EFAULT` for a page that cannot
    /// be brought in because it is a guard or lies beyond the end of the object.
    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let _ = (op, piece);
        Ok(())
    }
}
