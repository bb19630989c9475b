//! Long operations, with the lock released in between.
//!
//! Everything that may fail is done for the whole range before the first batch. Batches go upwards,
//! and never touch what others have mapped behind them. Others may see the range done in part; what
//! they map or unmap ahead of the next batch counts as if it had been done before.
//!
//! Replacing ([`Placement::Fixed`](crate::Placement::Fixed)), restoring, forking and protecting are
//! never done in batches: they hold the lock for as many VMAs as there are.

use super::{AddrSpace, HasVmMap};
use crate::hooks::Hooks;
use crate::pending_flush::FlushSlot;
use crate::range::{PageRange, VmRange};
use crate::sync::RawLock;
use crate::update::Update;

/// The largest number of VMAs for which unmapping, clearing and
/// [`in_batches`](AddrSpace::in_batches) hold the lock.
pub const MAX_VMAS_PER_LOCK_HOLD: usize = 64;

/// The state of a long operation after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

impl Progress {
    /// Returns `More` if something is left of a range.
    pub(crate) fn with_rest(rest: PageRange) -> Self {
        if rest.is_empty() { Self::Done } else { Self::More }
    }
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Runs `batch` under the lock until it is done or fails. Before each run there are `nodes`
    /// nodes, as far as there is memory. In between, the lock is released, the flush waited for,
    /// and what was removed released.
    pub(crate) fn run_batches<H: Hooks<M::Data> + ?Sized, E>(
        &self,
        nodes: usize,
        hooks: &mut H,
        mut batch: impl FnMut(&mut M, &mut Update<'_, M::Data, M::Alloc, H>) -> Result<Progress, E>,
    ) -> Result<(), E> {
        let slot = FlushSlot::new(&self.pending_flushes);
        let mut update = self.new_update(&slot, hooks);
        let result = loop {
            let _ = update.preallocate(nodes);
            // Not in the `match`, which would keep the lock.
            let progress = batch(&mut self.lock_for_change(), &mut update);
            match progress {
                Ok(Progress::More) => update.finish_batch(nodes),
                Ok(Progress::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        update.finish();
        slot.end_if_forgotten(|| hooks.flush_wait());
        result
    }

    /// Runs `step` over the VMAs in `len` bytes from `start`, in batches: each call is given, under
    /// the lock, a range with at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs in it, ascending, and `nodes`
    /// preallocated nodes, as far as there is memory. In between, the lock is released, the flush
    /// waited for, and what was removed released. For work that may be seen half done: locking all
    /// of a program's memory.
    ///
    /// Must not be called where the lock is held.
    ///
    /// # Errors
    ///
    /// The first error of `step` ends it; the batches before stay done. Check what can be checked
    /// beforehand, with [`inspect`](Self::inspect) or in the first step.
    ///
    /// ```
    /// # use kvma::{Vma, VmaFlags};
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// // mlockall(2), in as many holds of the lock as it takes.
    /// space.in_batches(0x1000, 0xf_f000, 3, &mut NoHooks, |map, range, update| {
    ///     let len = range.len().ok_or(Error::OutOfRange)?;
    ///     map.update_attrs(range.start(), len, |vma| vma.attrs().locked(), update)
    /// })?;
    /// let is_locked = |vma: Vma<'_, ()>| vma.attrs().flags().contains(VmaFlags::LOCKED);
    /// assert!(space.inspect(|map| map.iter().all(is_locked)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn in_batches<H: Hooks<M::Data> + ?Sized>(
        &self,
        start: u64,
        len: u64,
        nodes: usize,
        hooks: &mut H,
        mut step: impl FnMut(
            &mut M,
            VmRange,
            &mut Update<'_, M::Data, M::Alloc, H>,
        ) -> Result<(), H::Error>,
    ) -> Result<(), H::Error> {
        self.check_reentry()?;
        let mut rest = self.inspect(|map| map.vm_map().touched(start, len));
        if rest.is_empty() {
            return Ok(());
        }
        self.run_batches(nodes, hooks, |map, update| {
            let batch = map.vm_map().first_batch(rest, MAX_VMAS_PER_LOCK_HOLD);
            let page_size = map.vm_map().page_size();
            step(map, VmRange::from_pages(batch, page_size), update)?;
            rest = PageRange::new(batch.end, rest.end);
            Ok(Progress::with_rest(rest))
        })
    }
}
