//! [`Mm`]: the address space of one program.

use core::fmt;

use super::exec::Gate;
use super::file::File;
use super::layout::Layout;
use super::limits::{Limits, Usage};
use super::maps::Places;
use super::pkey::Keys;
use super::policy::Policy;
use super::unmapped_area::guard_gaps;
use super::vm_flags::VmFlags;
use super::vma::{AnonVma, LinuxVma};
use crate::addr_space::{HasVmMap, SHOWN};
use crate::vm_map::{Update, VmMap, Vmas};
use crate::{Error, Hooks, NodeAlloc, Vma, VmaNode};

/// The version of Linux whose rules are followed.
///
/// It matters: mremap over several VMAs, for one, is new in 6.17.
///
/// ```
/// use kvma::linux::Rules;
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// // What uname(2) had better say.
/// let (major, minor) = space.inspect(|mm| mm.rules()).version();
/// assert_eq!(format!("{major}.{minor}.0"), "6.18.0");
/// assert_eq!(Rules::V6_18.version(), (6, 18));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    major: u32,
    minor: u32,
}

impl Rules {
    /// Linux 6.18.
    pub const V6_18: Self = Self { major: 6, minor: 18 };

    /// Returns the major and the minor version.
    pub const fn version(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

/// The largest number of VMAs that a program may have (`vm.max_map_count`), unless
/// [`Mm::set_max_map_count`] sets another.
pub const MAX_MAP_COUNT: usize = 65530;

/// An allocator that the nodes of an [`Mm`] can come from.
///
/// Implemented for every type that qualifies; it only saves writing the two bounds out.
///
/// ```
/// use kvma::linux::{File, Mm, MmAlloc};
///
/// /// Prints the maps file of any program.
/// fn print<F: File, A: MmAlloc<F>>(mm: &Mm<F, A>) {
///     println!("{mm}");
/// }
/// # use kvma::linux::{Layout, NoFile};
/// # use kvma::{FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # print(&Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # Ok::<(), kvma::Error>(())
/// ```
pub trait MmAlloc<F: File>: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone {}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> MmAlloc<F> for A {}

/// Carries the [`Kernel`](super::Kernel) into a call on [`Mm`], and owed work out of it.
///
/// Finish or drop it after releasing the lock that guards the [`Mm`], if there is one.
///
/// [`AddrSpace`](crate::AddrSpace) makes and finishes them by itself. A kernel with a lock of its
/// own does it:
///
/// ```
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{Errno, FixedPool, VmaNode};
/// # use std::sync::Mutex;
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let process = Mutex::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// let mut kernel = NoKernel;
/// let mut mm = process.lock().unwrap();
/// let mut call = mm.update(&mut kernel);
/// let answer = mm.mmap(memory, &mut call);
/// drop(mm); // unlock first
/// call.finish(); // waits for the TLB flush, drops handles of files
/// assert!(answer.is_ok());
/// # Ok::<(), Errno>(())
/// ```
pub type Call<'h, F, A, K> = Update<'h, LinuxVma<F>, A, K>;

/// The address space of one program, as Linux keeps it (`mm_struct`).
///
/// It has no lock of its own: put it into an [`AddrSpace`](crate::AddrSpace) for that.
///
/// Each call needs at most three nodes at a time. Where there are none it fails with `ENOMEM`, as
/// Linux does.
///
/// ```
/// use kvma::linux::abi::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ};
/// use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// use kvma::{Errno, FixedPool, VmaNode};
///
/// let nodes = FixedPool::<VmaNode<_>, 64>::new();
/// let mut mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
/// let mut kernel = NoKernel;
///
/// let flags = MAP_PRIVATE | MAP_ANONYMOUS;
/// let args = Mmap { addr: 0, len: 0x2000, prot: PROT_READ, flags, offset: 0, file: None };
/// let mut call = mm.update(&mut kernel);
/// let at = mm.mmap(args, &mut call)?;
/// call.finish();
/// assert_eq!(mm.maps().to_string(), format!("{at:x}-{:x} r--p 00000000 00:00 0 \n", at + 0x2000));
/// # Ok::<(), Errno>(())
/// ```
pub struct Mm<F: File, A: MmAlloc<F>> {
    pub(super) map: VmMap<LinuxVma<F>, A>,
    pub(super) layout: Layout,
    pub(super) limits: Limits,
    pub(super) usage: Usage,
    pub(super) max_map_count: usize,
    /// First byte of the heap.
    pub(super) start_brk: u64,
    /// First byte after the heap, which need not be page-aligned.
    pub(super) brk: u64,
    /// Bytes of initialised data, which `RLIMIT_DATA` counts with the heap.
    pub(super) data_segment: u64,
    /// An address in the stack that the program started with: maps calls its VMA `[stack]`. 0 if
    /// there is none.
    pub(super) start_stack: u64,
    /// The lock flags of what is mapped from now on (`mlockall(MCL_FUTURE)`).
    pub(super) future: VmFlags,
    pub(super) gate: Gate,
    pub(super) policy: Policy,
    pub(super) keys: Keys,
    /// The last number that a VMA's private pages were given.
    pub(super) last_anon_vma: Option<AnonVma>,
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Creates an empty address space. Takes one node.
    ///
    /// # Errors
    ///
    /// - [`Error::OutOfMemory`]: there is no node.
    /// - [`Error::Unaligned`], [`Error::OutOfRange`]: the layout contradicts itself.
    ///
    /// ```
    /// use kvma::linux::{Layout, Mm, NoFile};
    /// use kvma::{AddrSpace, Error, FixedPool, VmaNode};
    ///
    /// static NODES: FixedPool<VmaNode<kvma::linux::LinuxVma<NoFile>>, 64> = FixedPool::new();
    ///
    /// // A stack of 8 MiB at most, whose gap is kept free above the mappings.
    /// let layout = Layout::x86_64(8 << 20);
    /// let process = AddrSpace::new(Mm::new(layout, &NODES)?);
    /// assert_eq!(process.inspect(|mm| mm.map_count()), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(layout: Layout, alloc: A) -> Result<Self, Error> {
        layout.check()?;
        let mut map = VmMap::new(0..=layout.task_size() - 1, layout.page_size(), alloc)?;
        map.set_guard_gaps(guard_gaps(&layout));
        Ok(Self {
            map,
            layout,
            limits: Limits::default(),
            usage: Usage::default(),
            max_map_count: MAX_MAP_COUNT,
            start_brk: 0,
            brk: 0,
            data_segment: 0,
            start_stack: 0,
            future: VmFlags::empty(),
            gate: Gate::None,
            policy: Policy::new(),
            keys: Keys::new(),
            last_anon_vma: None,
        })
    }

    /// Returns what carries `kernel` into calls, and owed work out of them.
    pub fn update<'h, K: Hooks<LinuxVma<F>> + ?Sized>(
        &self,
        kernel: &'h mut K,
    ) -> Call<'h, F, A, K> {
        self.map.update(kernel)
    }

    /// Iterates over the VMAs in ascending order. [`VmFlags::of`] gives their flags.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// use kvma::linux::VmFlags;
    ///
    /// space.mmap(memory, &mut NoKernel)?;
    /// let writable = |mm: &Mm<_, _>| {
    ///     mm.iter().filter(|vma| VmFlags::of(vma).contains(VmFlags::WRITE)).count()
    /// };
    /// assert_eq!(space.inspect(writable), 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn iter(&self) -> Vmas<'_, LinuxVma<F>> {
        self.map.iter()
    }

    /// Returns the shape of the address space.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the resource limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sets the resource limits. What is in use already stays.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// use kvma::linux::{Limits, Resource};
    ///
    /// // setrlimit(RLIMIT_AS): no more than two pages, and `memory` is three.
    /// let limits = Limits::default().with(Resource::AddressSpace, 0x2000);
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_limits(limits));
    /// assert_eq!(space.mmap(memory, &mut NoKernel), Err(Errno::ENOMEM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Returns the version of Linux whose rules are followed.
    pub fn rules(&self) -> Rules {
        Rules::V6_18
    }

    /// Returns the kernel's own rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Sets the kernel's own rules. What is mapped already stays.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`]: the guard is not made of whole pages.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// use kvma::linux::Policy;
    ///
    /// // A page on both sides of each mapping stays free.
    /// let policy = Policy::new().with_guard(0x1000);
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_policy(policy))?;
    /// let above = space.mmap(memory.clone(), &mut NoKernel)?;
    /// let below = space.mmap(memory, &mut NoKernel)?;
    /// assert_eq!(above - (below + 0x3000), 0x1000);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), Error> {
        if !self.layout.is_aligned(policy.guard()) {
            return Err(Error::Unaligned);
        }
        self.policy = policy;
        Ok(())
    }

    /// Returns how much of each resource is in use.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// space.mmap(memory, &mut NoKernel)?; // three pages, of the program alone
    /// let usage = space.inspect(|mm| *mm.usage());
    /// assert_eq!((usage.total(), usage.data(), usage.locked()), (0x3000, 0x3000, 0));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Returns the number of VMAs (`map_count`).
    pub fn map_count(&self) -> usize {
        self.map.len()
    }

    /// Sets the largest number of VMAs. Those that exist stay.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// // vm.max_map_count: of two VMAs, neither can be split any more.
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_max_map_count(1));
    /// let at = space.mmap(memory, &mut NoKernel)?;
    /// assert_eq!(space.munmap(at + 0x1000, 0x1000, &mut NoKernel), Err(Errno::ENOMEM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_max_map_count(&mut self, max: usize) {
        self.max_map_count = max;
    }

    /// Checks every invariant of the map, and the counts against the VMAs. For tests.
    ///
    /// O(n log n).
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        self.map.check()?;
        let mut usage = Usage::default();
        for vma in self {
            usage.add(VmFlags::of(&vma), self.layout.bytes(vma.page_count()));
        }
        // The count of locked bytes may be too high: see `mremap`.
        if usage.equals_but_for_locked(&self.usage) && usage.locked() <= self.usage.locked() {
            Ok(())
        } else {
            Err("usage is not what the VMAs add up to")
        }
    }
}

impl<'a, F: File, A: MmAlloc<F>> IntoIterator for &'a Mm<F, A> {
    type Item = Vma<'a, LinuxVma<F>>;
    type IntoIter = Vmas<'a, LinuxVma<F>>;

    fn into_iter(self) -> Vmas<'a, LinuxVma<F>> {
        self.iter()
    }
}

impl<F: File, A: MmAlloc<F>> HasVmMap for Mm<F, A> {
    type Data = LinuxVma<F>;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<LinuxVma<F>, A> {
        &self.map
    }

    /// Returns what lines of maps need beside their VMA: see [`Places`].
    fn shown(&self) -> [u64; SHOWN] {
        Places::of(self).shown()
    }
}

impl<F: File, A: MmAlloc<F>> fmt::Debug for Mm<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mm")
            .field("layout", &self.layout)
            .field("limits", &self.limits)
            .field("usage", &self.usage)
            .field("policy", &self.policy)
            .field("brk", &format_args!("{:#x}..{:#x}", self.start_brk, self.brk))
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}

impl<F: File, A: MmAlloc<F>> fmt::Display for Mm<F, A> {
    /// Writes `/proc/PID/maps`, as [`maps`](Self::maps) does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.maps().fmt(f)
    }
}
