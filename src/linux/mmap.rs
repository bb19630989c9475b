//! mmap(2)

use super::PageRange;
use super::abi::{
    LEGACY_MAP_MASK, MAP_ANONYMOUS, MAP_DROPPABLE, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN,
    MAP_HUGE_MASK, MAP_HUGE_SHIFT, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK, MAP_NORESERVE,
    MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MAP_SYNC, MAP_TYPE,
    PROT_WRITE,
};
use super::file::{Alignment, File, MAX_FILE_BYTES, OpenFile, Restrictions, Rights, Traits};
use super::kernel::Kernel;
use super::layout::round_up;
use super::mm::{Call, Mm, MmAlloc};
use super::mprotect::access_flags;
use super::overcommit::Overcommit;
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, attrs, with_file, with_huge_pages, with_vm_flags};
use crate::{Attrs, Backing, Errno, Merge, Piece, SplitGranularity, VmRange};

/// The file is in use as swap space ("text file busy").
const ETXTBSY: Errno = Errno(26);

/// The arguments of mmap(2), as user space passed them.
///
/// ```
/// use kvma::linux::{Mmap, NoFile};
///
/// /// Makes them of a system call's registers (x86-64). This kernel has no files.
/// fn mmap_args([addr, len, prot, flags, _fd, offset]: [u64; 6]) -> Mmap<NoFile> {
///     Mmap { addr, len, prot, flags, offset, file: None }
/// }
/// # use kvma::linux::{Layout, Mm, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// // From here on everything is checked as Linux checks it: here, that the length is not 0.
/// let registers = [0, 0, 3, 0x22, u64::MAX, 0];
/// assert_eq!(space.mmap(mmap_args(registers), &mut NoKernel), Err(Errno::EINVAL));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mmap<F> {
    /// The hint, or with `MAP_FIXED` the address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`
    pub prot: u64,
    /// `MAP_*`
    pub flags: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The file behind the descriptor; `None` if the descriptor is bad. Ignored with
    /// `MAP_ANONYMOUS`.
    pub file: Option<OpenFile<F>>,
}

/// A mapping to be made, as far as it is known before anything changes.
enum MmapSource<'f, F> {
    /// Private anonymous memory.
    Private,
    /// Shared anonymous memory: an object that the kernel makes once the range is free.
    Shared,
    /// A file.
    File(&'f OpenFile<F>),
    /// `MAP_HUGETLB`: an object that the kernel makes, even if the mapping is private.
    Huge,
}

/// The arguments of mmap that count for a file as for anonymous memory (`do_mmap`). Bytes.
pub(super) struct MmapArgs {
    pub(super) addr: u64,
    pub(super) len: u64,
    pub(super) prot: u64,
    pub(super) flags: u64,
    pub(super) offset: u64,
    /// Bytes of the huge pages that it is to consist of, if it is.
    pub(super) huge: Option<u64>,
}

/// A mapping that has passed the checks of its arguments.
struct NewMapping<'f, F> {
    range: PageRange,
    flags: VmFlags,
    /// Offset in the object, in bytes.
    offset: u64,
    /// Bytes of the huge pages that it consists of, if it does.
    huge: Option<u64>,
    source: MmapSource<'f, F>,
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Maps a file or anonymous memory: mmap(2). Returns the address.
    ///
    /// Linux checks much before it changes anything, but not everything: if a limit or the charge
    /// is refused, splits at the ends of a fixed range stay, and if the file or the shared object
    /// refuses, the old mappings there are gone.
    ///
    /// # Errors
    ///
    /// Those of mmap(2); `EPERM` for a fixed range that is sealed or too low, `EAGAIN` over the
    /// limit on locked memory; and those of the kernel and the file.
    ///
    /// ```
    /// use kvma::linux::abi::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// // `space` is an `AddrSpace<Mm>`.
    /// let memory = Mmap {
    ///     addr: 0,
    ///     len: 5000, // rounded up to two pages
    ///     prot: PROT_READ | PROT_WRITE,
    ///     flags: MAP_PRIVATE | MAP_ANONYMOUS,
    ///     offset: 0,
    ///     file: None,
    /// };
    /// let at = space.mmap(memory.clone(), &mut NoKernel)?;
    /// assert_eq!(space.lookup(at).map(|vma| vma.range().len()), Some(Some(0x2000)));
    ///
    /// let nothing = Mmap { len: 0, ..memory };
    /// assert_eq!(space.mmap(nothing, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mmap<K: Kernel<F> + ?Sized>(
        &mut self,
        args: Mmap<F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let answer = self.try_mmap(&args, call);
        if let Some(file) = args.file {
            // The VMA has a handle of its own. This one is dropped after unlock.
            call.owed.reject(LinuxVma::new(file.into_file(), Role::Object));
        }
        answer
    }

    /// Finds out what is to be mapped, and maps it (`ksys_mmap_pgoff`).
    fn try_mmap<K: Kernel<F> + ?Sized>(
        &mut self,
        args: &Mmap<F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let &Mmap { addr, len, prot, flags, offset, ref file } = args;
        if !self.layout.is_aligned(offset) {
            return Err(Errno::EINVAL);
        }
        let file = match file {
            _ if flags & MAP_ANONYMOUS != 0 => None,
            file => Some(file.as_ref().ok_or(Errno::EBADF)?),
        };
        let huge = huge_page_size(flags, file, call.hooks())?;
        let len = huge.map_or(len, |page| round_up(len, page));
        self.do_mmap(MmapArgs { addr, len, prot, flags, offset, huge }, file, call)
    }

    /// Checks the arguments, and maps (`do_mmap`).
    ///
    /// # Errors
    ///
    /// Those of mmap(2), and those of the kernel and the file.
    pub(super) fn do_mmap<K: Kernel<F> + ?Sized>(
        &mut self,
        args: MmapArgs,
        file: Option<&OpenFile<F>>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let caps = call.hooks().capabilities();
        let MmapArgs { addr, len, prot, mut flags, offset, huge } = args;
        // Rounding up to huge pages may have wrapped.
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        if flags & MAP_FIXED_NOREPLACE != 0 {
            flags |= MAP_FIXED;
        }
        let addr = if flags & MAP_FIXED != 0 { addr } else { self.round_hint(addr) };
        let len = self.layout.page_up(len);
        if len == 0 || self.is_over_full() {
            return Err(Errno::ENOMEM);
        }
        // Linux also checks that offset plus length does not wrap, in pages, where 52 bits cannot.
        let vm = access_flags(prot) | map_flags(flags) | self.future | VmFlags::MAY_ACCESS;
        let alignment = match huge {
            Some(page) => Alignment::HugeTlb(page),
            None => self.alignment(addr, len, flags, file),
        };
        let restrictions = file.map_or(Restrictions::empty(), |file| file.file().restrictions());
        let file_offset = if file.is_some() { offset } else { 0 };
        let request = PlacementRequest {
            addr,
            len,
            offset: file_offset,
            map_flags: flags,
            alignment,
            restrictions,
        };
        let range = self.get_unmapped_area(&request, caps)?;
        if flags & MAP_FIXED_NOREPLACE != 0 && self.first_in(range).is_some() {
            return Err(Errno::EEXIST);
        }
        if flags & MAP_LOCKED != 0 && !self.may_lock(caps) {
            return Err(Errno::EPERM);
        }
        if !self.may_lock_more(vm, len, caps) {
            return Err(Errno::EAGAIN);
        }
        let (mut vm, source) = match (file, huge) {
            (Some(file), _) => {
                (file_flags(vm, prot, flags, offset, len, file)?, MmapSource::File(file))
            }
            (None, Some(_)) => (huge_flags(vm, flags, offset, len)?, MmapSource::Huge),
            (None, None) => anonymous_flags(vm, flags)?,
        };
        // Huge pages may be overcommitted in every mode, by those who ask for it.
        let may_overcommit = huge.is_some() || call.hooks().overcommit() != Overcommit::Never;
        if flags & MAP_NORESERVE != 0 && may_overcommit {
            vm |= VmFlags::NO_RESERVE;
        }
        self.map_region(NewMapping { range, flags: vm, offset, huge, source }, call)?;
        let populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
        if populate || vm.contains(VmFlags::LOCKED) {
            self.populate_all(range, call);
        }
        Ok(self.layout.bytes(range.start))
    }

    /// Rounds the hint down to a page. Too low a hint becomes the lowest address
    /// (`round_hint_to_min`).
    fn round_hint(&self, addr: u64) -> u64 {
        match self.layout.page_down(addr) {
            0 => 0,
            hint => hint.max(self.layout.min_addr()),
        }
    }

    /// Picks the search as `__get_unmapped_area` does.
    fn alignment(&self, addr: u64, len: u64, flags: u64, file: Option<&OpenFile<F>>) -> Alignment {
        let huge = self.layout.huge();
        // Shared memory goes by its file system's own rule, which is plain where huge pages are off
        // for it.
        match file {
            Some(file) => file.file().alignment(),
            None if flags & MAP_SHARED == 0
                && addr == 0
                && huge != 0
                && len.is_multiple_of(huge) =>
            {
                Alignment::Huge
            }
            None => Alignment::Page,
        }
    }

    /// Replaces what is in the range by the new mapping (`mmap_region`). From here on things
    /// change.
    fn map_region<K: Kernel<F> + ?Sized>(
        &mut self,
        mut new: NewMapping<'_, F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        self.policy.check(new.flags, new.flags)?;
        self.split_for_removal(new.range, call)?;
        let left = self.usage_without(new.range);
        let len = self.layout.bytes(new.range.len());
        let replaced = self.usage.total().saturating_sub(left.total());
        if !self.may_expand(new.flags, len.saturating_sub(replaced)) {
            return Err(Errno::ENOMEM);
        }
        let mut charge = 0;
        let private_writable =
            new.flags & (VmFlags::NO_RESERVE | VmFlags::SHARED | VmFlags::WRITE) == VmFlags::WRITE;
        // Huge pages have accounts of their own (`accountable_mapping`).
        if private_writable && new.huge.is_none() {
            // What is replaced hands its charge on.
            let charged = self.usage.committed().saturating_sub(left.committed());
            charge = len.saturating_sub(charged);
            new.flags |= VmFlags::ACCOUNT;
        }
        let kept = if new.flags.contains(VmFlags::ACCOUNT) { len - charge } else { 0 };
        self.charged(charge, call, |mm, call| {
            mm.remove(new.range, left, kept, call)?;
            let filled = mm.fill(new, call);
            if filled.is_err() && kept > 0 {
                call.hooks().uncharge(kept);
            }
            filled
        })
    }

    /// Maps where nothing is mapped any more (`__mmap_new_vma`).
    fn fill<K: Kernel<F> + ?Sized>(
        &mut self,
        new: NewMapping<'_, F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let NewMapping { range, mut flags, offset, huge, source } = new;
        let len = self.layout.bytes(range.len());
        if let Some(page) = huge {
            // It is neither merged nor extended, nor locked: it stays in memory anyway
            // (`hugetlbfs_file_mmap`).
            flags = (flags | VmFlags::HUGE_TLB | VmFlags::DONT_EXPAND) - VmFlags::LOCK;
            if offset & (page - 1) != 0 {
                return Err(Errno::EINVAL);
            }
        }
        let (object, offset) = match source {
            MmapSource::Private => (None, 0),
            MmapSource::Shared => (Some(call.hooks().shared_memory(len, flags)?), 0),
            MmapSource::Huge => {
                let page = huge.ok_or(Errno::EINVAL)?;
                (Some(call.hooks().huge_memory(page, len, flags)?), offset)
            }
            MmapSource::File(file) => (Some(file.file().clone()), offset),
        };
        let (backing, data) = match object {
            None => (Backing::Anonymous, LinuxVma::anonymous()),
            Some(object) => {
                let backing = Backing::Object { id: object.id(), offset };
                (backing, LinuxVma::new(object, Role::Object))
            }
        };
        let mut attrs = attrs(flags, backing, data.role());
        if let MmapSource::File(file) = source {
            match self.ask_file(file, range, attrs, flags, &data, call) {
                Ok((of_file, its_flags)) => (attrs, flags) = (of_file, its_flags),
                Err(errno) => {
                    // The handle is dropped after unlock.
                    call.owed.reject(data);
                    return Err(errno);
                }
            }
        }
        let mut merge = Merge::Both;
        if flags.contains(VmFlags::DROPPABLE | VmFlags::LOCKED) {
            // Droppable memory cannot be locked. Linux finds that out only after it has looked for
            // neighbours to merge with.
            flags -= VmFlags::LOCK;
            merge = Merge::Never;
        }
        if let Some(page) = huge {
            attrs = with_huge_pages(attrs, page)?;
        }
        self.insert(range, with_vm_flags(attrs, flags), data, merge, call)
    }

    /// Asks a file whether and how it is mapped (`mmap_file`, `call_mmap_prepare`). Returns the
    /// attributes and the flags of its VMA.
    fn ask_file<K: Kernel<F> + ?Sized>(
        &self,
        file: &OpenFile<F>,
        range: PageRange,
        attrs: Attrs,
        flags: VmFlags,
        data: &LinuxVma<F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(Attrs, VmFlags), Errno> {
        let traits = file.traits();
        if flags.contains(VmFlags::SYNC)
            && traits.contains(Traits::KNOWS_SYNC)
            && !traits.contains(Traits::PERSISTENT)
        {
            return Err(Errno::EOPNOTSUPP);
        }
        let attrs = with_file(attrs, file.file())?;
        let piece = Piece::new(VmRange::from_pages(range, self.layout.page_size()), attrs, data);
        let wanted = call.hooks().map_file(file, &piece, flags)?;
        let mut new = (flags - VmFlags::OF_FILE - VmFlags::MAY_ACCESS)
            | (wanted & VmFlags::OF_FILE)
            | (wanted & flags & VmFlags::MAY_ACCESS);
        if new.intersects(VmFlags::SPECIAL) {
            // Its pages are not the kernel's to lock (`__mmap_complete`).
            new -= VmFlags::LOCK;
        }
        let caps = call.hooks().capabilities();
        let len = self.layout.bytes(range.len());
        if !flags.contains(VmFlags::LOCKED) && !self.may_lock_more(new, len, caps) {
            return Err(Errno::EAGAIN);
        }
        Ok((attrs, new))
    }
}

/// Returns the size of the huge pages that the mapping is to consist of, if it is
/// (`ksys_mmap_pgoff`).
///
/// # Errors
///
/// `EINVAL`: there are none of that size, or the file has none.
fn huge_page_size<F: File, K: Kernel<F> + ?Sized>(
    flags: u64,
    file: Option<&OpenFile<F>>,
    kernel: &K,
) -> Result<Option<u64>, Errno> {
    let asked = flags & MAP_HUGETLB != 0;
    let page = match file.map(|file| file.file().alignment()) {
        // The file has the page size of its file system.
        Some(Alignment::HugeTlb(page)) => Some(page),
        Some(Alignment::Page | Alignment::Huge | Alignment::HugeShmem) | None if !asked => {
            return Ok(None);
        }
        Some(_) => None,
        None => kernel.huge_page((flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK) as u32),
    };
    // VMAs can be split at multiples of certain sizes only.
    page.filter(|&page| SplitGranularity::from_bytes(page).is_some()).map(Some).ok_or(Errno::EINVAL)
}

/// Returns the VMA flags that `MAP_*` bits stand for, whatever is mapped (`calc_vm_flag_bits`).
fn map_flags(flags: u64) -> VmFlags {
    let pairs = [
        (MAP_GROWSDOWN, VmFlags::GROWS_DOWN),
        (MAP_LOCKED, VmFlags::LOCKED),
        (MAP_SYNC, VmFlags::SYNC),
        (MAP_STACK, VmFlags::NO_HUGE_PAGE),
    ];
    pairs.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, flag)| flag).collect()
}

/// Returns the VMA flags for a file, as far as it allows the mapping (`do_mmap`). `offset` and
/// `len` are in bytes.
fn file_flags<F>(
    mut vm: VmFlags,
    prot: u64,
    flags: u64,
    offset: u64,
    len: u64,
    file: &OpenFile<F>,
) -> Result<VmFlags, Errno> {
    let (rights, traits) = (file.rights(), file.traits());
    if !file.reaches(offset, len) {
        return Err(Errno::EOVERFLOW);
    }
    let map_type = flags & MAP_TYPE;
    if !matches!(map_type, MAP_SHARED | MAP_PRIVATE | MAP_SHARED_VALIDATE) {
        return Err(Errno::EINVAL);
    }
    if map_type != MAP_PRIVATE {
        let sync = if traits.contains(Traits::KNOWS_SYNC) { MAP_SYNC } else { 0 };
        // MAP_SHARED ignores the flags that it does not know, as it always has.
        if map_type == MAP_SHARED_VALIDATE && flags & !(sync | LEGACY_MAP_MASK) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if prot & PROT_WRITE != 0 {
            if !rights.contains(Rights::WRITE) {
                return Err(Errno::EACCES);
            }
            if traits.contains(Traits::SWAP) {
                return Err(ETXTBSY);
            }
        }
        if traits.contains(Traits::APPEND_ONLY) && rights.contains(Rights::WRITE) {
            return Err(Errno::EACCES);
        }
        vm |= VmFlags::SHARED | VmFlags::MAY_SHARE;
        if !rights.contains(Rights::WRITE) {
            vm -= VmFlags::MAY_WRITE | VmFlags::SHARED;
        }
    }
    if !rights.contains(Rights::READ) {
        return Err(Errno::EACCES);
    }
    if traits.contains(Traits::NO_EXEC) {
        if vm.contains(VmFlags::EXEC) {
            return Err(Errno::EPERM);
        }
        vm -= VmFlags::MAY_EXEC;
    }
    if traits.contains(Traits::UNMAPPABLE) {
        return Err(Errno::ENODEV);
    }
    if vm.contains(VmFlags::GROWS_DOWN) {
        return Err(Errno::EINVAL);
    }
    if traits.contains(Traits::WRITE_SEALED) && vm.contains(VmFlags::SHARED) {
        // `memfd_check_seals_mmap`
        if vm.contains(VmFlags::WRITE) {
            return Err(Errno::EPERM);
        }
        vm -= VmFlags::MAY_WRITE;
    }
    Ok(vm)
}

/// Returns the VMA flags for anonymous huge pages, which to Linux are a file by then. `offset` and
/// `len` are in bytes.
fn huge_flags(vm: VmFlags, flags: u64, offset: u64, len: u64) -> Result<VmFlags, Errno> {
    if offset > MAX_FILE_BYTES - len {
        return Err(Errno::EOVERFLOW);
    }
    match flags & MAP_TYPE {
        MAP_SHARED_VALIDATE if flags & !LEGACY_MAP_MASK != 0 => Err(Errno::EOPNOTSUPP),
        MAP_SHARED | MAP_SHARED_VALIDATE | MAP_PRIVATE if vm.contains(VmFlags::GROWS_DOWN) => {
            Err(Errno::EINVAL)
        }
        MAP_SHARED | MAP_SHARED_VALIDATE => Ok(vm | VmFlags::SHARED | VmFlags::MAY_SHARE),
        MAP_PRIVATE => Ok(vm),
        _ => Err(Errno::EINVAL),
    }
}

/// Returns the VMA flags for anonymous memory, and what will be mapped.
fn anonymous_flags<'f, F>(
    mut vm: VmFlags,
    flags: u64,
) -> Result<(VmFlags, MmapSource<'f, F>), Errno> {
    let grows = vm.contains(VmFlags::GROWS_DOWN);
    match flags & MAP_TYPE {
        MAP_SHARED if !grows => Ok((vm | VmFlags::SHARED | VmFlags::MAY_SHARE, MmapSource::Shared)),
        MAP_DROPPABLE if !grows && flags & (MAP_LOCKED | MAP_HUGETLB) == 0 => {
            vm |= VmFlags::DROPPABLE
                | VmFlags::NO_RESERVE
                | VmFlags::WIPE_ON_FORK
                | VmFlags::DONT_DUMP;
            Ok((vm, MmapSource::Private))
        }
        MAP_PRIVATE => Ok((vm, MmapSource::Private)),
        _ => Err(Errno::EINVAL),
    }
}
