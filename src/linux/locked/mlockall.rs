//! mlockall(2), munlockall(2)

use super::super::file::File;
use super::super::kernel::{Capabilities, Kernel};
use super::super::limits::Resource;
use super::super::mlock::UNLOCKABLE;
use super::super::vm_flags::VmFlags;
use super::super::vma::{LinuxVma, vm_flags};
use super::super::{Call, Mm};
use super::NODES;
use crate::addr_space::{AddrSpace, MAX_VMAS_PER_LOCK_HOLD};
use crate::range::Span;
use crate::sync::RawLock;
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// mlockall(2): [`Mm::mlockall`], in pieces of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there
    /// are more: each is locked, and then brought in. Returns 0.
    ///
    /// What it says of the future holds from the first piece on. Of several calls at once, the last
    /// to come by a VMA says whether it is locked.
    ///
    /// # Errors
    /// As [`Mm::mlockall`]. `ENOMEM` also if other threads map so much between two pieces that the
    /// next one would exceed the limit on locked memory: the pieces before it stay locked.
    pub fn mlockall<O: Kernel<F>>(&self, flags: u64, owner: &mut O) -> Result<u64, Errno> {
        let caps = owner.capabilities();
        let begin = |mm: &mut Mm<F, A>| mm.begin_mlockall(flags, caps);
        self.lock_in_pieces(begin, caps, owner)?;
        Ok(0)
    }

    /// munlockall(2): [`Mm::munlockall`], in pieces of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if
    /// there are more. Returns 0.
    pub fn munlockall<O: Kernel<F>>(&self, owner: &mut O) -> u64 {
        let begin = |mm: &mut Mm<F, A>| {
            mm.begin_munlockall();
            Ok(Some(VmFlags::empty()))
        };
        // Nothing is over a limit for being unlocked.
        let _ = self.lock_in_pieces(begin, Capabilities::empty(), owner);
        0
    }

    /// Gives all VMAs the lock flags that `begin` says, if it says so. It runs in the first piece's
    /// hold.
    fn lock_in_pieces<O: Kernel<F>>(
        &self,
        begin: impl FnOnce(&mut Mm<F, A>) -> Result<Option<VmFlags>, Errno>,
        caps: Capabilities,
        owner: &mut O,
    ) -> Result<(), Errno> {
        let mut call = self.owed(owner);
        let _ = call.reserve(NODES);
        let begun = {
            let mut mm = self.begin();
            match begin(&mut mm) {
                Ok(Some(lock)) => {
                    let all = mm.map.space().span();
                    mm.lock_front(all, MAX_VMAS_PER_LOCK_HOLD, lock, caps, &mut call)
                        .map(|rest| Some((lock, rest)))
                }
                Ok(None) => Ok(None),
                Err(errno) => Err(errno),
            }
        };
        let Some((lock, mut rest)) = begun? else { return Ok(()) };
        while !rest.is_empty() {
            call.settle(NODES);
            let _ = call.reserve(NODES);
            let done = self.begin().lock_front(rest, MAX_VMAS_PER_LOCK_HOLD, lock, caps, &mut call);
            rest = done?;
        }
        Ok(())
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// Locks the first `limit` VMAs of `rest`, as far as they can be, and brings them in; or
    /// unlocks them, if `lock` is empty. Returns what is left of `rest`.
    fn lock_front<O: Kernel<F>>(
        &mut self,
        rest: Span,
        limit: usize,
        lock: VmFlags,
        caps: Capabilities,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Span, Errno> {
        let first_batch = self.map.first_batch(rest, limit);
        let (start, end) =
            (self.layout.bytes(first_batch.start), self.layout.bytes(first_batch.end));
        if !lock.is_empty() && !self.may_lock_all(caps) && !self.may_lock_these(first_batch) {
            return Err(Errno::ENOMEM);
        }
        self.lock_all(start, end, lock, call);
        if !lock.is_empty() {
            self.populate_all(start, end, call);
        }
        Ok(Span::new(first_batch.end, rest.end))
    }

    /// Whether what is locked stays within the limit with all that is mapped in `span`. O(log n +
    /// VMAs).
    fn may_lock_these(&self, span: Span) -> bool {
        let (start, pages) = (self.layout.bytes(span.start), self.layout.bytes(span.len()));
        let vmas = self.map.overlapping(start, pages);
        let more =
            vmas.filter(|vma| !vm_flags(&vma.attrs()).intersects(UNLOCKABLE | VmFlags::LOCKED));
        let more =
            more.map(|vma| vma.range().span().intersect(span).len()).fold(0, u64::saturating_add);
        let limit = self.layout.pages(self.limits.get(Resource::MemLock));
        self.usage.locked().saturating_add(more) <= limit
    }
}
