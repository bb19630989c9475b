//! The limits of a process, and its usage.

use super::file::File;
use super::kernel::{Capabilities, Kernel};
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use crate::Errno;

/// A resource that is limited (getrlimit(2)).
///
/// ```
/// use kvma::linux::{Limits, Resource};
///
/// /// setrlimit(2), as far as memory is concerned.
/// fn set(limits: Limits, resource: u32, soft: u64, hard: u64) -> Limits {
///     match resource {
///         2 => limits.with(Resource::Data, soft).with(Resource::DataMax, hard),
///         3 => limits.with(Resource::Stack, soft),
///         8 => limits.with(Resource::MemLock, soft),
///         9 => limits.with(Resource::AddressSpace, soft),
///         _ => limits,
///     }
/// }
///
/// const RLIMIT_STACK: u32 = 3;
/// let limits = set(Limits::default(), RLIMIT_STACK, 1 << 20, u64::MAX);
/// assert_eq!(limits.get(Resource::Stack), 1 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `RLIMIT_AS`: all mappings together.
    AddressSpace,
    /// `RLIMIT_DATA`: private writable mappings, and the heap. If it is 0, mappings (but not the
    /// heap) may go up to the hard limit ([`DataMax`](Self::DataMax)), as Linux lets Valgrind's
    /// programs.
    Data,
    /// The hard limit on data. It counts where the limit itself is 0.
    DataMax,
    /// `RLIMIT_MEMLOCK`: locked memory.
    MemLock,
    /// `RLIMIT_STACK`: how far a stack may grow.
    Stack,
}

/// Resource limits in bytes; `u64::MAX` is unlimited. They are soft limits, but for
/// [`Resource::DataMax`].
///
/// ```
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// use kvma::linux::{Limits, Resource};
///
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// let limits = Limits::default().with(Resource::AddressSpace, 0x2000);
/// space.update(0, &mut NoKernel, |mm, _| mm.set_limits(limits));
/// // `memory` is three pages.
/// assert_eq!(space.mmap(memory, &mut NoKernel), Err(Errno::ENOMEM));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    address_space: u64,
    data: u64,
    data_max: u64,
    mem_lock: u64,
    stack: u64,
}

impl Default for Limits {
    /// Returns the limits of Linux's first process: 8 MiB of stack, 8 MiB of locked memory, no
    /// other limit.
    fn default() -> Self {
        Self {
            address_space: u64::MAX,
            data: u64::MAX,
            data_max: u64::MAX,
            mem_lock: 8 << 20,
            stack: 8 << 20,
        }
    }
}

impl Limits {
    /// Returns the limit on `resource`.
    pub const fn get(&self, resource: Resource) -> u64 {
        match resource {
            Resource::AddressSpace => self.address_space,
            Resource::Data => self.data,
            Resource::DataMax => self.data_max,
            Resource::MemLock => self.mem_lock,
            Resource::Stack => self.stack,
        }
    }

    /// Sets the limit on `resource`.
    #[must_use]
    pub const fn with(mut self, resource: Resource, bytes: u64) -> Self {
        match resource {
            Resource::AddressSpace => self.address_space = bytes,
            Resource::Data => self.data = bytes,
            Resource::DataMax => self.data_max = bytes,
            Resource::MemLock => self.mem_lock = bytes,
            Resource::Stack => self.stack = bytes,
        }
        self
    }
}

/// Memory in use, in bytes, as `/proc/PID/status` counts it.
///
/// ```
/// use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
///
/// let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// space.mmap(memory, &mut NoKernel)?;
/// let usage = space.inspect(|mm| *mm.usage());
/// println!("VmSize: {} kB", usage.total() >> 10);
/// assert_eq!((usage.total(), usage.data(), usage.locked()), (0x3000, 0x3000, 0));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    total: u64,
    locked: u64,
    data: u64,
    stack: u64,
    exec: u64,
    shared: u64,
    committed: u64,
    sealed: u64,
}

impl Usage {
    /// Returns the bytes of all mappings (`VmSize`).
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Returns the bytes of locked mappings (`VmLck`).
    pub const fn locked(&self) -> u64 {
        self.locked
    }

    /// Returns the bytes of private writable mappings (`VmData`).
    pub const fn data(&self) -> u64 {
        self.data
    }

    /// Returns the bytes of stacks (`VmStk`).
    pub const fn stack(&self) -> u64 {
        self.stack
    }

    /// Returns the bytes of code (`VmExe` and `VmLib`).
    pub const fn exec(&self) -> u64 {
        self.exec
    }

    /// Returns the bytes mapped with `MAP_SHARED`.
    pub const fn shared(&self) -> u64 {
        self.shared
    }

    /// Returns the bytes of mappings that count as committed memory (`ac`).
    pub const fn committed(&self) -> u64 {
        self.committed
    }

    /// Returns the bytes of sealed mappings (`sl`).
    pub(super) const fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Changes every counter that `flags` belong to.
    fn count(&mut self, flags: VmFlags, bytes: u64, change: fn(u64, u64) -> u64) {
        let counters = [
            (true, &mut self.total),
            (flags.contains(VmFlags::LOCKED), &mut self.locked),
            (flags.is_data(), &mut self.data),
            (flags.is_stack(), &mut self.stack),
            (flags.is_exec(), &mut self.exec),
            (flags.contains(VmFlags::MAY_SHARE), &mut self.shared),
            (flags.contains(VmFlags::ACCOUNT), &mut self.committed),
            (flags.contains(VmFlags::SEALED), &mut self.sealed),
        ];
        for (_, counter) in counters.into_iter().filter(|(counts, _)| *counts) {
            *counter = change(*counter, bytes);
        }
    }

    /// Counts `bytes` bytes that are mapped with `flags` from now on.
    pub(super) fn add(&mut self, flags: VmFlags, bytes: u64) {
        self.count(flags, bytes, u64::saturating_add);
    }

    /// Counts `bytes` bytes that were mapped with `flags` until now.
    pub(super) fn remove(&mut self, flags: VmFlags, bytes: u64) {
        self.count(flags, bytes, u64::saturating_sub);
    }

    /// Returns `true` if all but the locked bytes agree.
    pub(super) fn equals_but_for_locked(&self, other: &Self) -> bool {
        Self { locked: 0, ..*self } == Self { locked: 0, ..*other }
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Returns the limit on `resource` in bytes, rounded down to whole pages.
    pub(super) fn limit(&self, resource: Resource) -> u64 {
        self.layout.page_down(self.limits.get(resource))
    }

    /// Returns `true` if `bytes` more bytes with `flags` stay within the limits on the address
    /// space and on data (`may_expand_vm`).
    pub(super) fn may_expand(&self, flags: VmFlags, bytes: u64) -> bool {
        let fits = |used: u64, limit| used.saturating_add(bytes) <= self.limit(limit);
        let data = match self.limits.get(Resource::Data) {
            0 => Resource::DataMax,
            _ => Resource::Data,
        };
        fits(self.usage.total(), Resource::AddressSpace)
            && (!flags.is_data() || fits(self.usage.data(), data))
    }

    /// Returns `true` if the caller may lock anything at all (`can_do_mlock`).
    pub(super) fn may_lock(&self, caps: Capabilities) -> bool {
        self.limits.get(Resource::MemLock) != 0 || caps.contains(Capabilities::IPC_LOCK)
    }

    /// Returns `true` if `bytes` more bytes with `flags` stay within the limit on locked memory
    /// (`mlock_future_ok`).
    pub(super) fn may_lock_more(&self, flags: VmFlags, bytes: u64, caps: Capabilities) -> bool {
        !flags.contains(VmFlags::LOCKED)
            || caps.contains(Capabilities::IPC_LOCK)
            || self.usage.locked().saturating_add(bytes) <= self.limit(Resource::MemLock)
    }

    /// Charges `bytes` bytes, unless there are none, and runs `change`. If that fails, the charge
    /// is taken back.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::charge`] and of `change`.
    pub(super) fn charged<K: Kernel<F> + ?Sized>(
        &mut self,
        bytes: u64,
        call: &mut Call<'_, F, A, K>,
        change: impl FnOnce(&mut Self, &mut Call<'_, F, A, K>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if bytes > 0 {
            call.hooks().charge(bytes, &self.usage)?;
        }
        let result = change(self, call);
        if result.is_err() && bytes > 0 {
            call.hooks().uncharge(bytes);
        }
        result
    }
}
