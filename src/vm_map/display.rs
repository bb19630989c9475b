//! How a map is printed.

use core::fmt;

use super::VmMap;
use crate::node::NodeAlloc;
use crate::range::PageRange;
use crate::vma::{Vma, VmaData, VmaNode, write_range};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> fmt::Debug for VmMap<V, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmMap").field("space", &self.space()).field("vmas", &self.iter()).finish()
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> fmt::Display for VmMap<V, A> {
    /// Writes a line for each VMA as `/proc/PID/maps` does; with `{:#}`, gaps and claims have lines
    /// as well.
    ///
    /// ```
    /// # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap};
    /// # use kvma::VmaNode;
    /// # let pool = FixedPool::<VmaNode, 8>::new();
    /// let mut map = VmMap::new(0x1000..=0xffff, PageSize::SIZE_4K, &pool)?;
    /// let request = MapRequest::new(Placement::Fixed(0x4000), 0x2000, Attrs::new(Prot::RW));
    /// map.map(request, &mut NoHooks)?;
    /// assert_eq!(map.to_string(), "00004000-00006000 rw-p 00000000\n");
    /// assert_eq!(
    ///     format!("{map:#}"),
    ///     "00001000-00004000 (gap)\n\
    ///      00004000-00006000 rw-p 00000000\n\
    ///      00006000-00010000 (gap)\n"
    /// );
    /// # Ok::<(), kvma::Error>(())
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = self.tree.space();
        let mut at = space.start;
        for entry in self.tree.entries(space) {
            self.write_gap(f, at, entry.range().start)?;
            at = entry.range().end;
            match Vma::new(entry, self.page_size) {
                Some(vma) => writeln!(f, "{vma}")?,
                None if f.alternate() => {
                    write_range(f, self.vm_range(entry.range()))?;
                    f.write_str(" (claim)\n")?;
                }
                None => {}
            }
        }
        self.write_gap(f, at, space.end)
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    fn write_gap(&self, f: &mut fmt::Formatter<'_>, start: u64, end: u64) -> fmt::Result {
        if !f.alternate() || start >= end {
            return Ok(());
        }
        write_range(f, self.vm_range(PageRange::new(start, end)))?;
        f.write_str(" (gap)\n")
    }
}
