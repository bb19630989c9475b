//! Taking over what is mapped already: nobody is told, since nothing happens.

use crate::error::Error;
use crate::hooks::NoHooks;
use crate::node::NodeAlloc;
use crate::vm_map::{MapRequest, Placement, VmMap};
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Takes over a range that is mapped already: as [`map`](VmMap::map), but without hooks, and
    /// [`Placement::Fixed`] replaces nothing ([`Error::Overlap`]).
    pub fn adopt(&mut self, request: MapRequest<V>) -> Result<u64, Error> {
        let place = match request.placement() {
            Placement::Fixed(addr) => Placement::FixedNoReplace(addr),
            place => place,
        };
        let mut nobody = NoHooks;
        let mut update = self.update(&mut nobody);
        self.map(request.replaced(place, |data| data), &mut update)
    }
}
