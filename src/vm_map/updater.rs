//! Hooks and updates, either of which an operation takes.

use super::VmMap;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

/// Hooks, or an [`Update`] that carries them: every operation of a [`VmMap`] takes either.
///
/// With hooks, the operation stands alone: the work that it owes is done before it returns. With an
/// update, several operations are one change, and the work is done when the update is finished.
///
/// Implemented for every [`Hooks`] and for `Update`, and for nothing else. `By` tells the two
/// apart, and is always inferred.
///
/// Code of your own that works with both passes them on:
///
/// ```
/// use kvma::vm_map::Updater;
/// use kvma::{Attrs, Error, MapRequest, NodeAlloc, Placement, Prot, Search, VmMap, VmaNode};
///
/// /// Maps a stack with a page below it that nothing may touch.
/// fn map_stack<A, By, U>(
///     map: &mut VmMap<(), A>,
///     len: u64,
///     update: &mut U,
/// ) -> Result<u64, U::Error>
/// where
///     A: NodeAlloc<VmaNode> + Clone,
///     U: Updater<(), A, By> + ?Sized,
/// {
///     let place = Placement::Any(Search::new().top_down().guard(0x1000));
///     map.map(MapRequest::new(place, len, Attrs::new(Prot::RW)), update)
/// }
/// # use kvma::{FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
///
/// map_stack(&mut map, 0x2000, &mut NoHooks)?; // a change by itself
/// let mut hooks = NoHooks;
/// let mut update = map.update(&mut hooks);
/// map_stack(&mut map, 0x2000, &mut update)?; // one change, both
/// map_stack(&mut map, 0x2000, &mut update)?;
/// update.finish();
/// assert_eq!(map.len(), 3);
/// # Ok::<(), Error>(())
/// ```
pub trait Updater<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, By>: sealed::Sealed<V, By> {
    /// The hooks.
    type Hooks: Hooks<V, Error = Self::Error> + ?Sized;
    /// The hooks' error.
    type Error: From<Error>;

    /// Runs `change` with an update for `map`.
    #[doc(hidden)]
    fn run<R>(
        &mut self,
        map: &mut VmMap<V, A>,
        change: impl FnOnce(&mut VmMap<V, A>, &mut Update<'_, V, A, Self::Hooks>) -> R,
    ) -> R;
}

/// Marks an [`Updater`] that is hooks.
#[derive(Clone, Copy, Debug)]
pub enum ByHooks {}

/// Marks an [`Updater`] that is an [`Update`].
#[derive(Clone, Copy, Debug)]
pub enum ByUpdate {}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> Updater<V, A, ByHooks>
    for H
{
    type Hooks = H;
    type Error = H::Error;

    #[doc(hidden)]
    fn run<R>(
        &mut self,
        map: &mut VmMap<V, A>,
        change: impl FnOnce(&mut VmMap<V, A>, &mut Update<'_, V, A, H>) -> R,
    ) -> R {
        let mut update = Update::new(map.alloc.clone(), map.page_size, self, None);
        change(map, &mut update)
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> Updater<V, A, ByUpdate>
    for Update<'_, V, A, H>
{
    type Hooks = H;
    type Error = H::Error;

    #[doc(hidden)]
    fn run<R>(
        &mut self,
        map: &mut VmMap<V, A>,
        change: impl FnOnce(&mut VmMap<V, A>, &mut Update<'_, V, A, H>) -> R,
    ) -> R {
        change(map, self)
    }
}

mod sealed {
    use super::{ByHooks, ByUpdate, Hooks, NodeAlloc, Update, VmaData, VmaNode};

    pub trait Sealed<V, By> {}

    impl<V, H: Hooks<V> + ?Sized> Sealed<V, ByHooks> for H {}

    impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> Sealed<V, ByUpdate>
        for Update<'_, V, A, H>
    {
    }
}
