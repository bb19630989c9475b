//! Writing `/proc/PID/maps` and smaps without the lock.

use core::fmt::{self, Write};

use super::{MapsEntry, Places};
use crate::linux::vma::{Naming, StickyFlags, VmaKey, vm_flags};
use crate::linux::{File, LinuxVma, Mm, MmAlloc, Role, VmFlags};
use crate::{AddrSpace, Attrs, Backing, RawLock, ReadSide, Vma, VmaNode, VmaSnapshot};

/// The number of VMAs that are copied in one hold of the lock, where it must be taken.
const LINES_PER_HOLD: usize = 16;

/// A copy of a VMA with a handle of its own.
struct Line<F> {
    start: u64,
    last: u64,
    attrs: Attrs,
    sticky: StickyFlags,
    handle: Option<F>,
    role: Role,
}

impl<F: File> Line<F> {
    /// Makes a line of what a reader has found. Returns `None` if the handle is not to be had.
    fn of_snapshot(vma: &VmaSnapshot) -> Option<Self> {
        let (attrs, key) = (vma.attrs(), VmaKey(vma.key()));
        let (handle, role) = match (key.naming(), attrs.backing()) {
            (Naming::Unknown, _) => return None,
            (Naming::Handle(id, role), _) => (Some(F::from_id(id)?), role),
            (Naming::None, Backing::Object { id, .. }) => (Some(F::from_id(id)?), Role::Object),
            (Naming::None, Backing::Anonymous) => (None, Role::Object),
        };
        let (start, last) = (vma.range().start(), vma.range().last());
        Some(Self { start, last, attrs, sticky: key.sticky(), handle, role })
    }

    /// Copies a VMA under the lock.
    fn of_vma(vma: &Vma<'_, LinuxVma<F>>) -> Self {
        let data = vma.data();
        Self {
            start: vma.start(),
            last: vma.last(),
            attrs: vma.attrs(),
            sticky: data.sticky(),
            handle: data.object().or(data.name()).cloned(),
            role: data.role(),
        }
    }

    /// Leaves out what lies below `addr`, which the VMA holds or lies above of.
    fn not_below(self, addr: u64) -> Self {
        let start = self.start.max(addr);
        Self { start, attrs: self.attrs.advance(start.saturating_sub(self.start)), ..self }
    }

    fn entry(&self, places: Places) -> MapsEntry<'_, F> {
        let mut flags = vm_flags(&self.attrs);
        flags.set(VmFlags::MAYBE_GUARD, self.sticky.contains(StickyFlags::MAYBE_GUARD));
        let handle = self.handle.as_ref();
        MapsEntry::new(places, self.start, self.last, flags, &self.attrs, handle, self.role)
    }
}

impl<F, A, L> AddrSpace<Mm<F, A>, L>
where
    F: File,
    A: MmAlloc<F> + ReadSide<VmaNode<LinuxVma<F>>>,
    L: RawLock,
{
    /// Calls `visit` with each line of `/proc/PID/maps`, ascending, up to the first error: for
    /// smaps, where the kernel adds what it knows of each VMA. O(log n) a line.
    ///
    /// Takes no lock and waits for none, and `visit` runs without it, if the kernel's handles can
    /// be had by their numbers ([`File::from_id`]): see [`snapshots`](Self::snapshots), which also
    /// says how what is shown goes together. Else the lock is taken to copy the handles of 16 VMAs.
    ///
    /// # Errors
    ///
    /// Those of `visit`.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # use std::fmt::Write;
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # space.mmap(memory, &mut NoKernel)?;
    /// // smaps of a program with three pages.
    /// let mut text = String::new();
    /// space.for_each_line(|entry| {
    ///     writeln!(text, "{entry}")?;
    ///     writeln!(text, "Size: {:>18} kB", (entry.end() - entry.start()) / 1024)?;
    ///     writeln!(text, "VmFlags: {}", entry.flags())
    /// }).expect("a string takes everything");
    /// assert!(text.contains("Size:                 12 kB"));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn for_each_line<E>(
        &self,
        mut visit: impl FnMut(&MapsEntry<'_, F>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = Some(0);
        while let Some(from) = rest {
            let places = Places::from_shown(self.shown());
            let Some(vma) = self.next_vma(from) else { break };
            let Some(line) = Line::of_snapshot(&vma) else {
                rest = self.visit_copies(from, &mut visit)?;
                continue;
            };
            let line = line.not_below(from);
            visit(&line.entry(places))?;
            rest = line.last.checked_add(1);
        }
        Places::from_shown(self.shown()).gate.line().map_or(Ok(()), |gate| visit(&gate))
    }

    /// Visits the lines of the next VMAs from `from` on, with handles that are copied under the
    /// lock. Returns where the rest begins, if there may be any.
    #[cold]
    fn visit_copies<E>(
        &self,
        from: u64,
        visit: &mut impl FnMut(&MapsEntry<'_, F>) -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        let mut lines = [const { None }; LINES_PER_HOLD];
        let places = self.inspect(|mm| {
            let above = mm.map.touched(from, u64::MAX);
            let vmas = mm.map.vmas_in(above).map(|vma| Line::of_vma(&vma));
            lines.iter_mut().zip(vmas).for_each(|(line, vma)| *line = Some(vma));
            Places::of(mm)
        });
        let mut rest = None;
        for line in lines.into_iter().flatten() {
            let line: Line<F> = line.not_below(from);
            visit(&line.entry(places))?;
            rest = line.last.checked_add(1);
        }
        Ok(rest)
    }

    /// Writes `/proc/PID/maps`, as [`for_each_line`](Self::for_each_line) goes over it: without the
    /// lock, if the kernel's handles can be had by their numbers. O(n log n).
    ///
    /// Shows each VMA as it is at one time, shows what others map meanwhile if it lies above, and
    /// never goes back: so does Linux.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # space.mmap(memory, &mut NoKernel)?;
    /// let mut text = String::new();
    /// space.write_maps(&mut text).expect("a string takes everything");
    /// assert_eq!(text, space.inspect(|mm| mm.maps().to_string()));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn write_maps(&self, out: &mut (impl Write + ?Sized)) -> fmt::Result {
        self.for_each_line(|line| writeln!(out, "{line}"))
    }
}
