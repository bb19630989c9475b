//! What is there before a program makes its first call.

use super::file::{Alignment, File};
use super::kernel::{Capabilities, Kernel};
use super::layout::Layout;
use super::pkey::Keys;
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, attrs, with_huge_pages};
use super::{Call, Mm};
use crate::{Backing, Errno, Error, Merge, NodeAlloc, VmaNode};

/// Whether `[vsyscall]` is listed. It lies in the upper half, outside of the address space, and no
/// call touches it (`get_gate_vma`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It is not.
    None,
    /// `--xp`: its three functions may be called.
    Execute,
    /// `r-xp`: it may be read too.
    ReadExecute,
}

/// A VMA that the kernel itself puts into an address space, as `execve` does.
#[derive(Debug, Clone)]
pub struct Install<F> {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// All its flags.
    pub flags: VmFlags,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The handle, and what it stands for.
    pub handle: Option<(F, Role)>,
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// Puts a VMA of the kernel's own into a free range. It is not joined with its neighbours, and
    /// no limit is asked.
    ///
    /// # Errors
    /// `EINVAL`: unaligned, empty, beyond user space. `EEXIST`: in use. `ENOMEM`: no node, or not
    /// enough memory for VMAs with `ac`.
    pub fn install<O: Kernel<F>>(
        &mut self,
        vma: Install<F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let Install { start, end, flags, offset, handle } = vma;
        let len = end.checked_sub(start).ok_or(Errno::EINVAL)?;
        if !self.layout.is_aligned(len) || !self.layout.is_aligned(offset) {
            return Err(Errno::EINVAL);
        }
        let (start, end) = self.layout.user_range(start, len)?;
        let mut huge = None;
        let (backing, data) = match handle {
            None => (Backing::Anonymous, LinuxVma::anonymous()),
            Some((file, Role::Object)) => {
                if let Alignment::HugeTlb(page) = file.alignment() {
                    huge = Some(page);
                }
                let backing = Backing::Object { id: file.id(), offset: self.layout.pages(offset) };
                (backing, LinuxVma::new(file, Role::Object))
            }
            Some((name, role)) => (Backing::Anonymous, LinuxVma::new(name, role)),
        };
        let mut attrs = attrs(flags, backing, data.role());
        if let Some(page) = huge {
            attrs = with_huge_pages(attrs, page)?;
        }
        let pages = self.layout.pages(len);
        let accounted = flags.contains(VmFlags::ACCOUNT);
        if accounted {
            call.hooks().charge(pages, &self.usage)?;
        }
        let inserted = self.insert(start, end, attrs, data, Merge::Never, call);
        if inserted.is_err() && accounted {
            call.hooks().uncharge(pages);
        }
        inserted
    }

    /// Where mmap would put `len` bytes of memory without an object if it got no hint: for what the
    /// kernel itself maps, such as `[vdso]`, which is then [installed](Self::install) there. O(log
    /// n).
    ///
    /// # Errors
    /// `ENOMEM`: no room.
    pub fn unmapped_area(&self, len: u64) -> Result<u64, Errno> {
        let len = self.layout.page_up(len);
        let wanted =
            PlacementRequest { addr: 0, len, offset: 0, map_flags: 0, alignment: Alignment::Page };
        self.get_unmapped_area(&wanted, Capabilities::empty())
    }

    /// Says where the program's stack begins: its VMA is the one that maps calls `[stack]`.
    pub fn set_start_stack(&mut self, addr: u64) {
        self.start_stack = addr;
    }

    /// Where the program's stack begins, or 0.
    pub fn start_stack(&self) -> u64 {
        self.start_stack
    }

    /// Lists `[vsyscall]`, or not.
    pub fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// Whether `[vsyscall]` is listed.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Changes where things go from now on. What is mapped stays.
    ///
    /// # Errors
    /// A layout that makes no sense or is of another size.
    pub fn set_layout(&mut self, layout: Layout) -> Result<(), Error> {
        self.check_layout(&layout)?;
        self.layout = layout;
        Ok(())
    }

    pub(super) fn check_layout(&self, layout: &Layout) -> Result<(), Error> {
        layout.check()?;
        let same = layout.task_size() == self.layout.task_size()
            && layout.page_size() == self.layout.page_size();
        if same { Ok(()) } else { Err(Error::OutOfRange) }
    }

    /// Removes everything, and starts anew with another layout: what `execve` does first, and a
    /// process that ends, last. Limits stay. O(n); behind a lock,
    /// [`AddrSpace::clear`](crate::AddrSpace::clear) releases it every few VMAs.
    ///
    /// # Errors
    /// A layout that makes no sense or is of another size, before anything has changed.
    pub fn clear<O: Kernel<F>>(
        &mut self,
        layout: Layout,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Error> {
        self.check_layout(&layout)?;
        let committed = self.usage.committed();
        self.map.clear(call)?;
        if committed > 0 {
            call.hooks().uncharge(committed);
        }
        self.start_anew(layout);
        Ok(())
    }

    /// Forgets all of the last program but its limits. Nothing is mapped any more.
    pub(super) fn start_anew(&mut self, layout: Layout) {
        self.layout = layout;
        self.usage = Default::default();
        self.set_start_brk(0, 0);
        self.start_stack = 0;
        self.future = VmFlags::empty();
        self.gate = Gate::None;
        self.keys = Keys::new();
    }
}
