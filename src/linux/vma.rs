//! [`LinuxVma`]: the data of a VMA in [`Mm`](super::Mm), and how the core's attributes hold the
//! flags.

use core::num::NonZeroU32;

use bitflags::bitflags;

use super::file::{Alignment, File, Restrictions};
use super::vm_flags::VmFlags;
use crate::{Attrs, Backing, Errno, Prot, SplitGranularity, VmRange, Vma, VmaData, VmaFlags};

/// The meaning of a VMA's handle.
///
/// See [`Install`](super::Install) for an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The object that is mapped. Without a handle: plain anonymous memory.
    Object,
    /// A name for anonymous memory (`PR_SET_VMA_ANON_NAME`).
    Name,
    /// The name of memory that the kernel itself put there, such as `[vdso]`. Such a VMA cannot be
    /// split.
    Special,
}

bitflags! {
    /// Flags beside `vm_flags`. They do not keep neighbours apart: a merged VMA has those of both
    /// (`VM_STICKY`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct StickyFlags: u8 {
        /// A private page of the VMA's own has been made (it has an [`AnonVma`]).
        const HAS_ANON_VMA = 1;
        /// Guards have been installed, `gu` (`VM_MAYBE_GUARD`).
        const MAYBE_GUARD = 1 << 1;
        /// Merges with nothing. Set only while a call is under way.
        const KEEP_APART = 1 << 2;
        /// Some of its pages may be those of the parent, which had some at the time of the fork
        /// (`vma_had_uncowed_parents`).
        const FORKED = 1 << 3;
    }
}

/// The number of an `anon_vma`, by which Linux finds the VMAs that show a page: those of a program
/// which have private pages and were one once, or could have been when they got the first.
///
/// VMAs of different ones never merge. Numbers of one program only are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnonVma(NonZeroU32);

impl AnonVma {
    /// Returns the number after `last`. After 2^32 of them they begin again: two VMAs may merge
    /// then that Linux keeps apart.
    pub(super) fn after(last: Option<Self>) -> Self {
        let next = last.and_then(|Self(last)| last.checked_add(1));
        Self(next.unwrap_or(NonZeroU32::MIN))
    }
}

/// The data of a VMA in [`Mm`](super::Mm): the kernel's handle, and what it stands for.
///
/// 24 bytes with a handle of 8, 20 with one of 4.
///
/// ```
/// # use kvma::linux::{File, Layout, Mm, Mmap, NoKernel, OpenFile, Rights};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # #[derive(Clone, PartialEq, Debug)]
/// # struct Inode(u32);
/// # impl File for Inode {
/// #     fn id(&self) -> u64 { self.0.into() }
/// #     fn device(&self) -> (u32, u32) { (8, 1) }
/// #     fn inode(&self) -> u64 { self.0.into() }
/// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result { Ok(()) }
/// # }
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<Inode, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let file = Some(OpenFile::new(Inode(7), Rights::READ));
/// # let text = Mmap { addr: 0, len: 0x3000, prot: 1, flags: 2, offset: 0, file };
/// # space.mmap(text, &mut NoKernel)?;
/// // How often is file 7 mapped? Hooks get the same data, with each piece.
/// let mapped = |mm: &Mm<_, _>| {
///     mm.iter().filter(|vma| vma.data().object() == Some(&Inode(7))).count()
/// };
/// assert_eq!(space.inspect(mapped), 1);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinuxVma<F> {
    handle: Option<F>,
    anon_vma: Option<AnonVma>,
    role: Role,
    sticky: StickyFlags,
    displacement: Displacement,
}

/// How many pages anonymous memory lies above the place where its first page was made.
///
/// Linux keeps that place as `vm_pgoff`: memory that was moved merges only with memory that was
/// moved by as much. A number of 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Displacement([u8; 6]);

impl Displacement {
    const NONE: Self = Self([0; 6]);

    /// Returns the number, modulo 2^48.
    fn pages(self) -> i64 {
        let [a, b, c, d, e, f] = self.0;
        i64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    fn plus(self, pages: i64) -> Self {
        let [a, b, c, d, e, f, ..] = self.pages().wrapping_add(pages).to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl<F: File> LinuxVma<F> {
    pub(super) fn anonymous() -> Self {
        Self {
            handle: None,
            anon_vma: None,
            role: Role::Object,
            sticky: StickyFlags::empty(),
            displacement: Displacement::NONE,
        }
    }

    pub(super) fn new(handle: F, role: Role) -> Self {
        Self { handle: Some(handle), role, ..Self::anonymous() }
    }

    /// Returns the object that is mapped, if there is one.
    pub fn object(&self) -> Option<&F> {
        self.handle.as_ref().filter(|_| self.role == Role::Object)
    }

    /// Returns the name of a VMA that maps no object, if it has one.
    pub fn name(&self) -> Option<&F> {
        self.handle.as_ref().filter(|_| self.role != Role::Object)
    }

    /// Returns what calls may not do to the VMA.
    pub(super) fn restrictions(&self) -> Restrictions {
        self.object().map_or(Restrictions::empty(), F::restrictions)
    }

    /// Returns what the handle stands for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns `vm_pgoff` of anonymous memory that begins at `page`: the page itself, unless the
    /// memory was moved since its first page was made.
    pub(super) fn anon_pgoff(&self, page: u64) -> u64 {
        const BITS_48: u64 = (1 << 48) - 1;
        page.wrapping_sub(self.displacement.pages().cast_unsigned()) & BITS_48
    }

    pub(super) fn sticky(&self) -> StickyFlags {
        self.sticky
    }

    pub(super) fn insert_sticky(&mut self, flags: StickyFlags) {
        self.sticky |= flags;
    }

    pub(super) fn remove_sticky(&mut self, flags: StickyFlags) {
        self.sticky -= flags;
    }

    /// Returns what tells the VMAs apart that have private pages of their own, if this has any.
    pub(super) fn anon_vma(&self) -> Option<AnonVma> {
        self.anon_vma
    }

    /// Notes that the VMA has private pages of its own.
    pub(super) fn set_anon_vma(&mut self, anon_vma: AnonVma) {
        self.anon_vma = Some(anon_vma);
        self.sticky |= StickyFlags::HAS_ANON_VMA;
    }

    /// Notes that the VMA has no private pages of its own any more (`unlink_anon_vmas`).
    pub(super) fn unlink_anon_vma(&mut self) {
        self.anon_vma = None;
        self.sticky -= StickyFlags::HAS_ANON_VMA | StickyFlags::FORKED;
    }

    /// Returns `true` if pages of the two VMAs may be found in the same way
    /// (`is_mergeable_anon_vma`).
    fn shares_anon_vma(&self, other: &Self) -> bool {
        let has_parents = |vma: &Self| vma.sticky.contains(StickyFlags::FORKED);
        match (self.anon_vma, other.anon_vma) {
            (None, None) => true,
            (Some(_), None) => !has_parents(self),
            (None, Some(_)) => !has_parents(other),
            (own, others) => own == others,
        }
    }

    /// Returns `true` if the other VMA shows the same file, or as this one none.
    pub(super) fn shows_object_of(&self, other: &Self) -> bool {
        self.object() == other.object()
    }

    /// Gives anonymous memory a name, or takes it away. Returns the data with the former name, to
    /// be dropped after unlock.
    pub(super) fn replace_name(&mut self, name: Option<F>) -> Self {
        let role = if name.is_some() { Role::Name } else { Role::Object };
        core::mem::replace(self, Self { handle: name, role, ..*self })
    }
}

impl<F: File> VmaData for LinuxVma<F> {
    const HAS_GUARD_GAPS: bool = true;

    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        !(self.sticky | right.sticky).contains(StickyFlags::KEEP_APART)
            && self.role == right.role
            && self.handle == right.handle
            && self.displacement == right.displacement
            && self.shares_anon_vma(right)
    }

    fn merge(&mut self, _range: VmRange, right: &mut Self, _right_range: VmRange) {
        self.sticky |= right.sticky;
        self.anon_vma = self.anon_vma.or(right.anon_vma);
    }

    fn fork(&self, _range: VmRange) -> Self {
        self.clone()
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        let keeps = self.sticky.contains(StickyFlags::HAS_ANON_VMA) && self.object().is_none();
        let distance = to.wrapping_sub(from.start()).cast_signed() >> from.page_size().shift();
        self.displacement =
            if keeps { self.displacement.plus(distance) } else { Displacement::NONE };
    }

    /// Returns the flags that [`Fault::check_access`](super::Fault::check_access) needs, and whose
    /// name the VMA has. The object's number is in the backing.
    fn key(&self) -> u64 {
        VmaKey::of(self).0
    }
}

/// The number that readers without the lock see of a [`LinuxVma`].
///
/// ```text
///   63                             4   3..2     1..0
///   [ number of the name's handle ) [ naming ) [ sticky flags )
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VmaKey(pub(super) u64);

/// The name of a VMA that maps no object, to readers without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    None,
    /// A handle of this number.
    Handle(u64, Role),
    /// A handle whose number has no room in the key.
    Unknown,
}

impl VmaKey {
    /// The flags that readers need: `HAS_ANON_VMA` and `MAYBE_GUARD`.
    const STICKY: u8 = 0b11;
    const NAME: u64 = 1 << 2;
    const SPECIAL: u64 = 2 << 2;
    const UNKNOWN: u64 = 3 << 2;
    const NAMING: u64 = 3 << 2;
    const NUMBER: u32 = 4;

    fn of<F: File>(vma: &LinuxVma<F>) -> Self {
        let sticky = u64::from(vma.sticky.bits() & Self::STICKY);
        let Some(name) = vma.name() else { return Self(sticky) };
        // Its sign is kept: addresses of kernels are negative.
        let number = name.id().cast_signed();
        let shifted = number << Self::NUMBER;
        if shifted >> Self::NUMBER != number {
            return Self(sticky | Self::UNKNOWN);
        }
        let naming = if vma.role == Role::Special { Self::SPECIAL } else { Self::NAME };
        Self(sticky | naming | shifted.cast_unsigned())
    }

    /// Returns the flags beside `vm_flags`.
    pub(super) fn sticky(self) -> StickyFlags {
        StickyFlags::from_bits_retain(self.0 as u8 & Self::STICKY)
    }

    /// Returns whose name the VMA has.
    pub(super) fn naming(self) -> Naming {
        let number = (self.0.cast_signed() >> Self::NUMBER).cast_unsigned();
        match self.0 & Self::NAMING {
            Self::NAME => Naming::Handle(number, Role::Name),
            Self::SPECIAL => Naming::Handle(number, Role::Special),
            Self::UNKNOWN => Naming::Unknown,
            _ => Naming::None,
        }
    }
}

impl VmFlags {
    /// Returns all the flags of a VMA.
    pub fn of<F: File>(vma: &Vma<'_, LinuxVma<F>>) -> Self {
        let mut flags = vm_flags(&vma.attrs());
        let maybe_guard = vma.data().sticky().contains(StickyFlags::MAYBE_GUARD);
        flags.set(Self::MAYBE_GUARD, maybe_guard);
        flags
    }
}

/// Returns the core's attributes of a VMA with `flags`.
///
/// The user bits hold all flags; the core's own flags repeat those that a page fault reads.
pub(super) fn attrs(flags: VmFlags, backing: Backing, role: Role) -> Attrs {
    let mut attrs = Attrs::default().with_backing(backing);
    if role == Role::Special {
        attrs = attrs.with_split_granularity(SplitGranularity::Never);
    }
    with_vm_flags(attrs, flags)
}

/// Makes `attrs` those of a VMA of huge pages, which is split only between them.
///
/// # Errors
///
/// `EINVAL`: there are no pages of `page` bytes.
pub(super) fn with_huge_pages(attrs: Attrs, page: u64) -> Result<Attrs, Errno> {
    let granularity = SplitGranularity::from_bytes(page).ok_or(Errno::EINVAL)?;
    Ok(attrs.with_split_granularity(granularity))
}

/// Makes `attrs` those of a VMA of `file`, which says where it may be split.
///
/// # Errors
///
/// `EINVAL`: there are no pages of the file's size.
pub(super) fn with_file<F: File>(attrs: Attrs, file: &F) -> Result<Attrs, Errno> {
    if file.restrictions().contains(Restrictions::NO_SPLIT) {
        return Ok(attrs.with_split_granularity(SplitGranularity::Never));
    }
    match file.alignment() {
        Alignment::HugeTlb(page) => with_huge_pages(attrs, page),
        Alignment::Page | Alignment::Huge | Alignment::HugeShmem => Ok(attrs),
    }
}

/// Replaces the Linux flags of `attrs`.
pub(super) fn with_vm_flags(attrs: Attrs, flags: VmFlags) -> Attrs {
    const PROT: [(VmFlags, Prot); 3] =
        [(VmFlags::READ, Prot::READ), (VmFlags::WRITE, Prot::WRITE), (VmFlags::EXEC, Prot::EXEC)];
    const OTHERS: [(VmFlags, VmaFlags); 4] = [
        (VmFlags::SHARED, VmaFlags::SHARED),
        (VmFlags::GROWS_DOWN, VmaFlags::GROWS_DOWN),
        (VmFlags::LOCKED, VmaFlags::LOCKED),
        (VmFlags::SPECIAL, VmaFlags::NO_MERGE),
    ];
    let prot = PROT.into_iter().filter(|(flag, _)| flags.intersects(*flag));
    let mut attrs = attrs.with_prot(prot.map(|(_, prot)| prot).collect());
    for (flag, core) in OTHERS {
        attrs = if flags.intersects(flag) { attrs.with(core) } else { attrs.without(core) };
    }
    attrs.with_user_bits(flags.bits())
}

/// Returns the Linux flags that `attrs` hold.
pub(super) fn vm_flags(attrs: &Attrs) -> VmFlags {
    VmFlags::from_bits_retain(attrs.user_bits())
}
