//! What a process may use, and what it uses.

use super::vm_flags::VmFlags;

/// A resource that is limited (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `RLIMIT_AS`: all mappings together.
    AddressSpace,
    /// `RLIMIT_DATA`: private writable mappings, and the heap. If it is 0, mappings (but not the
    /// heap) may go up to the hard limit ([`DataMax`](Self::DataMax)): Linux lets Valgrind's
    /// programs.
    Data,
    /// The hard limit on data. It counts where the limit itself is 0.
    DataMax,
    /// `RLIMIT_MEMLOCK`: locked memory.
    MemLock,
    /// `RLIMIT_STACK`: how far a stack may grow.
    Stack,
}

/// Resource limits in bytes; `u64::MAX` is unlimited. Soft limits, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    address_space: u64,
    data: u64,
    data_max: u64,
    mem_lock: u64,
    stack: u64,
}

impl Default for Limits {
    /// What Linux starts its first process with: 8 MiB of stack, 8 MiB of locked memory, no other
    /// limit.
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
    /// The limit on `resource`.
    pub const fn get(&self, resource: Resource) -> u64 {
        match resource {
            Resource::AddressSpace => self.address_space,
            Resource::Data => self.data,
            Resource::DataMax => self.data_max,
            Resource::MemLock => self.mem_lock,
            Resource::Stack => self.stack,
        }
    }

    /// The same limits but for `resource`.
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

/// What is in use, in pages, as `/proc/PID/status` counts it.
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
    /// All mappings (`VmSize`).
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Locked memory (`VmLck`).
    pub const fn locked(&self) -> u64 {
        self.locked
    }

    /// Private writable mappings (`VmData`).
    pub const fn data(&self) -> u64 {
        self.data
    }

    /// Stacks (`VmStk`).
    pub const fn stack(&self) -> u64 {
        self.stack
    }

    /// Code (`VmExe` and `VmLib`).
    pub const fn exec(&self) -> u64 {
        self.exec
    }

    /// Mappings made with MAP_SHARED.
    pub const fn shared(&self) -> u64 {
        self.shared
    }

    /// VMAs that count as committed memory (`ac`).
    pub const fn committed(&self) -> u64 {
        self.committed
    }

    /// Sealed memory (`sl`).
    pub(super) const fn sealed(&self) -> u64 {
        self.sealed
    }

    fn count(&mut self, flags: VmFlags, pages: u64, by: fn(u64, u64) -> u64) {
        let kinds = [
            (true, &mut self.total),
            (flags.contains(VmFlags::LOCKED), &mut self.locked),
            (flags.is_data(), &mut self.data),
            (flags.is_stack(), &mut self.stack),
            (flags.is_exec(), &mut self.exec),
            (flags.contains(VmFlags::MAY_SHARE), &mut self.shared),
            (flags.contains(VmFlags::ACCOUNT), &mut self.committed),
            (flags.contains(VmFlags::SEALED), &mut self.sealed),
        ];
        for (_, counter) in kinds.into_iter().filter(|(counts, _)| *counts) {
            *counter = by(*counter, pages);
        }
    }

    /// `pages` pages with `flags` are mapped from now on.
    pub(super) fn add(&mut self, flags: VmFlags, pages: u64) {
        self.count(flags, pages, u64::saturating_add);
    }

    /// `pages` pages with `flags` are mapped no more.
    pub(super) fn remove(&mut self, flags: VmFlags, pages: u64) {
        self.count(flags, pages, u64::saturating_sub);
    }

    /// Whether all but the locked pages agree.
    pub(super) fn equals_but_for_locked(&self, other: &Self) -> bool {
        Self { locked: 0, ..*self } == Self { locked: 0, ..*other }
    }
}
