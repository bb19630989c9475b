//! Taking over what is mapped already.

use super::VmMap;
use crate::error::Error;
use crate::hooks::NoHooks;
use crate::node::NodeAlloc;
use crate::placement::{MapRequest, Placement};
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Adds a VMA for a range that is mapped already, and returns its byte address. No hook is
    /// called, because nothing happens to page tables.
    ///
    /// For what a boot loader or a firmware has mapped, or a process that somebody else has set up.
    /// Does what [`map`](Self::map) does otherwise, but never replaces anything:
    /// [`Placement::Fixed`] means [`Placement::FixedNoReplace`].
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::{Attrs, Error, Heap, MapRequest, PageSize, Placement, Prot, VmMap};
    ///
    /// let mut map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, Heap)?;
    /// let kernel = MapRequest::new(Placement::Fixed(0x10000), 0x4000, Attrs::new(Prot::RX));
    /// assert_eq!(map.adopt(kernel), Ok(0x10000));
    /// assert_eq!(map.adopt(kernel), Err(Error::Overlap));
    /// # }
    /// # Ok::<(), kvma::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map), and [`Error::Overlap`] where something is known to be mapped.
    pub fn adopt(&mut self, request: MapRequest<V>) -> Result<u64, Error> {
        let placement = match request.placement {
            Placement::Fixed(addr) => Placement::FixedNoReplace(addr),
            placement => placement,
        };
        self.map(MapRequest { placement, ..request }, &mut NoHooks)
    }
}
