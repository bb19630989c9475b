//! What a VMA holds besides its flags.

use bitflags::bitflags;

use super::file::File;
use super::vm_flags::VmFlags;
use crate::{Attrs, Backing, Errno, SplitGranularity, VmaData, VmaFlags};

/// What a VMA's handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// There is none: plain anonymous memory. Or the object that is mapped.
    Object,
    /// A name for anonymous memory (`PR_SET_VMA_ANON_NAME`).
    Name,
    /// The name of memory that the kernel itself put there, such as `[vdso]`. It cannot be split.
    Special,
}

bitflags! {
    /// What has happened to a VMA. Does not keep neighbours apart: what they become has the marks
    /// of both.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Marks: u8 {
        /// A private page of its own has been made (in Linux: it has an `anon_vma`).
        const HAS_ANON_VMA = 1;
        /// Guards have been installed, `gu` (`VM_MAYBE_GUARD`).
        const GUARDS = 1 << 1;
        /// For the moment, it is joined with nothing.
        const APART = 1 << 2;
    }
}

/// A VMA's data in [`Mm`](super::Mm): the owner's handle and what it stands for. 16 bytes with a
/// handle of 8 or 4.
#[derive(Debug, Clone)]
pub struct LinuxVma<F> {
    handle: Option<F>,
    role: Role,
    marks: Marks,
    shift: Shift,
}

/// How many pages anonymous memory lies above where its pages were first touched (Linux keeps that
/// place as the offset): moved, it fits neighbours only that were moved with it. A number of 48
/// bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shift([u8; 6]);

impl Shift {
    const NONE: Self = Self([0; 6]);

    /// The number, modulo 2^48.
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
        Self { handle: None, role: Role::Object, marks: Marks::empty(), shift: Shift::NONE }
    }

    pub(super) fn new(handle: F, role: Role) -> Self {
        Self { handle: Some(handle), role, marks: Marks::empty(), shift: Shift::NONE }
    }

    /// The object that is mapped, if there is one.
    pub fn object(&self) -> Option<&F> {
        self.handle.as_ref().filter(|_| self.role == Role::Object)
    }

    /// The name of a VMA that shows no object, if it has one.
    pub fn name(&self) -> Option<&F> {
        self.handle.as_ref().filter(|_| self.role != Role::Object)
    }

    /// Where anonymous memory that now begins at page `page` was first touched (`vm_pgoff`): there
    /// itself, unless it was moved since.
    pub(super) fn first_touched(&self, page: u64) -> u64 {
        const BITS_48: u64 = (1 << 48) - 1;
        page.wrapping_sub(self.shift.pages().cast_unsigned()) & BITS_48
    }

    /// What the handle stands for.
    pub fn role(&self) -> Role {
        self.role
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks
    }

    pub(super) fn mark(&mut self, marks: Marks) {
        self.marks |= marks;
    }

    pub(super) fn unmark(&mut self, marks: Marks) {
        self.marks -= marks;
    }

    /// Gives anonymous memory a name, or takes it away.
    pub(super) fn rename(&mut self, name: Option<F>) {
        self.role = if name.is_some() { Role::Name } else { Role::Object };
        self.handle = name;
    }
}

impl<F: File> VmaData for LinuxVma<F> {
    fn split(&mut self, _pages: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _pages: u64, right: &Self) -> bool {
        !(self.marks | right.marks).contains(Marks::APART)
            && self.role == right.role
            && self.handle == right.handle
            && self.shift == right.shift
    }

    fn merge(&mut self, _pages: u64, right: Self) {
        self.marks |= right.marks;
    }

    fn fork(&self) -> Self {
        self.clone()
    }

    fn relocate(&mut self, pages: i64) {
        let stays = self.marks.contains(Marks::HAS_ANON_VMA) && self.object().is_none();
        self.shift = if stays { self.shift.plus(pages) } else { Shift::NONE };
    }

    /// What has happened to the VMA, for [`Fault::check_access`](super::Fault::check_access). The
    /// object's number is in the backing.
    fn key(&self) -> u64 {
        u64::from(self.marks.bits())
    }
}

/// The core's attributes of a VMA with `flags`. The word of 64 owner's bits holds all flags; the
/// hot word repeats those that a page fault reads.
pub(super) fn attrs(flags: VmFlags, backing: Backing, role: Role) -> Attrs {
    let mut hot = VmaFlags::empty();
    if role == Role::Special {
        hot = hot.with_split_granularity(SplitGranularity::Never);
    }
    with_vm_flags(Attrs::default().with_flags(hot).with_backing(backing), flags)
}

/// The same attributes for a VMA of huge pages, which is cut only between them.
///
/// # Errors
/// `EINVAL`: there are no pages of that size.
pub(super) fn with_huge_pages(attrs: Attrs, page: u64) -> Result<Attrs, Errno> {
    let cut = SplitGranularity::from_bytes(page).ok_or(Errno::EINVAL)?;
    Ok(attrs.with_flags(attrs.flags().with_split_granularity(cut)))
}

/// The same attributes with other Linux flags.
pub(super) fn with_vm_flags(attrs: Attrs, flags: VmFlags) -> Attrs {
    const HOT: [(VmFlags, VmaFlags); 6] = [
        (VmFlags::READ, VmaFlags::READ),
        (VmFlags::WRITE, VmaFlags::WRITE),
        (VmFlags::EXEC, VmaFlags::EXEC),
        (VmFlags::SHARED, VmaFlags::SHARED),
        (VmFlags::GROWS_DOWN, VmaFlags::GROWS_DOWN),
        (VmFlags::LOCKED, VmaFlags::LOCKED),
    ];
    let mut hot = attrs.flags();
    for (flag, vma_flag) in HOT {
        hot.set(vma_flag, flags.contains(flag));
    }
    hot.set(VmaFlags::NO_MERGE, flags.intersects(VmFlags::SPECIAL));
    attrs.with_flags(hot).with_user_bits(flags.bits())
}

/// All Linux flags of a VMA.
pub(super) fn vm_flags(attrs: &Attrs) -> VmFlags {
    VmFlags::from_bits_retain(attrs.user_bits())
}
