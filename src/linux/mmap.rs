//! mmap(2)

use super::abi::*;
use super::file::{Alignment, File, MAX_FILE_BYTES, OpenFile, Rights, Traits};
use super::kernel::{Kernel, Overcommit};
use super::mprotect::access;
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, attrs, with_huge_pages};
use super::{Call, Mm};
use crate::{Backing, Errno, Merge, NodeAlloc, SplitGranularity, VmaNode};

/// The arguments of mmap(2), as user space passed them.
#[derive(Debug, Clone)]
pub struct Mmap<F> {
    /// Hint, or with `MAP_FIXED` the address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`
    pub prot: u64,
    /// `MAP_*`
    pub flags: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What the file descriptor stands for; `None` if it is bad. Ignored with `MAP_ANONYMOUS`.
    pub file: Option<OpenFile<F>>,
}

/// What will be mapped, as far as it is known before anything is changed.
enum Source<F> {
    Private,
    /// An object that the owner makes when the place is free.
    Shared,
    File(OpenFile<F>),
    /// `MAP_HUGETLB`: an object like `Shared`, even if the mapping is private.
    Huge,
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mmap(2). Returns the address.
    ///
    /// Linux checks much before it changes anything, but not all: if the limits or the commit
    /// charge refuse, cuts at the ends of a fixed range stay, and if the file or the shared object
    /// refuses, the old mappings there are gone.
    ///
    /// # Errors
    /// As mmap(2) says, and `EPERM` for a fixed range that is sealed or too low, `EAGAIN` over the
    /// lock limit.
    pub fn mmap<O: Kernel<F>>(
        &mut self,
        args: Mmap<F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let caps = call.hooks().capabilities();
        let Mmap { addr, len, prot, mut flags, offset, file } = args;
        if !self.layout.is_aligned(offset) {
            return Err(Errno::EINVAL);
        }
        let file = if flags & MAP_ANONYMOUS != 0 { None } else { Some(file.ok_or(Errno::EBADF)?) };
        let huge = huge_page(flags, file.as_ref(), call.hooks())?;
        // Rounding up to huge pages may wrap.
        let len = huge.map_or(len, |page| len.wrapping_add(page - 1) & !(page - 1));
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
        // Linux also asks whether offset plus length wraps, in pages, where 52 bits never do.
        let vm = access(prot) | flag_bits(flags) | self.future | VmFlags::MAY_ACCESS;
        let alignment = huge
            .map_or_else(|| self.alignment(addr, len, flags, file.as_ref()), Alignment::HugeTlb);
        let offset_there = if file.is_some() { offset } else { 0 };
        let wanted =
            PlacementRequest { addr, len, offset: offset_there, map_flags: flags, alignment };
        let start = self.get_unmapped_area(&wanted, caps)?;
        let end = start + len;
        if flags & MAP_FIXED_NOREPLACE != 0 && self.first_in(start, end).is_some() {
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
                (self.file_flags(vm, prot, flags, offset, len, &file)?, Source::File(file))
            }
            (None, Some(_)) => (huge_flags(vm, flags, offset, len)?, Source::Huge),
            (None, None) => anonymous_flags(vm, flags)?,
        };
        // Huge pages are never overcommitted but by those who say so.
        let may_overcommit = huge.is_some() || call.hooks().overcommit() != Overcommit::Never;
        if flags & MAP_NORESERVE != 0 && may_overcommit {
            vm |= VmFlags::NO_RESERVE;
        }
        self.map_region(start, end, vm, self.layout.pages(offset), huge, source, call)?;
        let populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
        if populate || vm.contains(VmFlags::LOCKED) {
            self.populate_all(start, end, call);
        }
        Ok(start)
    }

    /// The hint in whole pages; too low a hint becomes the lowest address (`round_hint_to_min`).
    fn round_hint(&self, addr: u64) -> u64 {
        match self.layout.page_down(addr) {
            0 => 0,
            hint => hint.max(self.layout.min_addr()),
        }
    }

    /// How `__get_unmapped_area` picks a search.
    fn alignment(&self, addr: u64, len: u64, flags: u64, file: Option<&OpenFile<F>>) -> Alignment {
        let huge = self.layout.huge();
        // Shared memory goes by its file system's own rule, which is plain where it does not use
        // huge pages.
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

    /// What a file allows.
    fn file_flags(
        &self,
        mut vm: VmFlags,
        prot: u64,
        flags: u64,
        offset: u64,
        len: u64,
        file: &OpenFile<F>,
    ) -> Result<VmFlags, Errno> {
        let (rights, traits) = (file.rights(), file.traits());
        if !file.reaches(self.layout.pages(offset), len, self.layout.page_size().shift()) {
            return Err(Errno::EOVERFLOW);
        }
        let map_type = flags & MAP_TYPE;
        if !matches!(map_type, MAP_SHARED | MAP_PRIVATE | MAP_SHARED_VALIDATE) {
            return Err(Errno::EINVAL);
        }
        if map_type != MAP_PRIVATE {
            let known =
                if traits.contains(Traits::KNOWS_SYNC) { MAP_SYNC } else { 0 } | LEGACY_MAP_MASK;
            // MAP_SHARED overlooks flags that it does not know, as it always has.
            if map_type == MAP_SHARED_VALIDATE && flags & !known != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if prot & PROT_WRITE != 0 {
                if !rights.contains(Rights::WRITE) {
                    return Err(Errno::EACCES);
                }
                if traits.contains(Traits::SWAP) {
                    return Err(Errno(26)); // ETXTBSY
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
        Ok(vm)
    }

    /// `mmap_region`: from here on things change. `offset` in pages; `huge` is the size of the huge
    /// pages, if they are such.
    #[allow(clippy::too_many_arguments)] // What a mapping is made of.
    fn map_region<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        mut vm: VmFlags,
        offset: u64,
        huge: Option<u64>,
        source: Source<F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        self.policy.check(vm, vm)?;
        let old = self.gather(start, end, call)?;
        let pages = self.layout.pages(end - start);
        if !self.may_expand(vm, pages.saturating_sub(old.pages)) {
            return Err(Errno::ENOMEM);
        }
        let mut charged = 0;
        let writable =
            vm & (VmFlags::NO_RESERVE | VmFlags::SHARED | VmFlags::WRITE) == VmFlags::WRITE;
        // Huge pages have accounts of their own (`accountable_mapping`).
        if writable && huge.is_none() {
            // What is replaced hands its charge on.
            charged = pages.saturating_sub(old.accounted);
            if charged > 0 {
                call.hooks().charge(charged, &self.usage)?;
            }
            vm |= VmFlags::ACCOUNT;
        }
        let kept = if vm.contains(VmFlags::ACCOUNT) { pages - charged } else { 0 };
        if let Err(errno) = self.remove_keeping(start, end, kept, call) {
            if charged > 0 {
                call.hooks().uncharge(charged);
            }
            return Err(errno);
        }
        let result = self.fill(start, end, vm, offset, huge, source, call);
        if result.is_err() && charged + kept > 0 {
            call.hooks().uncharge(charged + kept);
        }
        result
    }

    /// Maps where there is nothing any more.
    #[allow(clippy::too_many_arguments)] // What a mapping is made of.
    fn fill<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        mut vm: VmFlags,
        offset: u64,
        huge: Option<u64>,
        source: Source<F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if let Some(page) = huge {
            // Neither joined, nor extended, nor locked: it stays in memory anyway
            // (`hugetlbfs_file_mmap`).
            vm = (vm | VmFlags::HUGE_TLB | VmFlags::DONT_EXPAND) - VmFlags::LOCK;
            if self.layout.bytes(offset) & (page - 1) != 0 {
                return Err(Errno::EINVAL);
            }
        }
        let (backing, data) = match source {
            Source::Huge => {
                let page = huge.ok_or(Errno::EINVAL)?;
                let object = call.hooks().huge_memory(page, end - start, vm)?;
                (Backing::Object { id: object.id(), offset }, LinuxVma::new(object, Role::Object))
            }
            Source::Private => (Backing::Anonymous, LinuxVma::anonymous()),
            Source::Shared => {
                let object = call.hooks().shared_memory(end - start, vm)?;
                (
                    Backing::Object { id: object.id(), offset: 0 },
                    LinuxVma::new(object, Role::Object),
                )
            }
            Source::File(file) => {
                let sync = vm.contains(VmFlags::SYNC) && file.traits().contains(Traits::KNOWS_SYNC);
                if sync && !file.traits().contains(Traits::PERSISTENT) {
                    return Err(Errno::EOPNOTSUPP);
                }
                call.hooks().map_file(&file, vm)?;
                let file = file.into_file();
                (Backing::Object { id: file.id(), offset }, LinuxVma::new(file, Role::Object))
            }
        };
        let mut merge = Merge::Both;
        if vm.contains(VmFlags::DROPPABLE | VmFlags::LOCKED) {
            // What may be dropped cannot be locked. Linux finds out after it has looked for
            // neighbours to merge with.
            vm -= VmFlags::LOCK;
            merge = Merge::Never;
        }
        let mut attrs = attrs(vm, backing, data.role());
        if let Some(page) = huge {
            attrs = with_huge_pages(attrs, page)?;
        }
        self.insert(start, end, attrs, data, merge, call)
    }
}

/// Bytes of the huge pages that are asked for, if any are (`ksys_mmap_pgoff`).
///
/// # Errors
/// `EINVAL`: none of that size, or from a file that has none.
fn huge_page<F: File, O: Kernel<F>>(
    flags: u64,
    file: Option<&OpenFile<F>>,
    owner: &O,
) -> Result<Option<u64>, Errno> {
    let asked = flags & MAP_HUGETLB != 0;
    let page = match file.map(|file| file.file().alignment()) {
        // A file has the page size of its file system.
        Some(Alignment::HugeTlb(page)) => Some(page),
        Some(Alignment::Page | Alignment::Huge) if !asked => return Ok(None),
        Some(_) => None,
        None if !asked => return Ok(None),
        None => owner.huge_page((flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK) as u32),
    };
    // Of a size at which VMAs can be cut.
    page.filter(|&page| SplitGranularity::from_bytes(page).is_some()).map(Some).ok_or(Errno::EINVAL)
}

/// What anonymous huge pages can be. To Linux they are a file by then.
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

/// VMA flags that come from `MAP_*` bits, whatever is mapped (`calc_vm_flag_bits`).
fn flag_bits(flags: u64) -> VmFlags {
    let pairs = [
        (MAP_GROWSDOWN, VmFlags::GROWS_DOWN),
        (MAP_LOCKED, VmFlags::LOCKED),
        (MAP_SYNC, VmFlags::SYNC),
        (MAP_STACK, VmFlags::NO_HUGE_PAGE),
    ];
    pairs.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, flag)| flag).collect()
}

/// What anonymous memory can be.
fn anonymous_flags<F>(mut vm: VmFlags, flags: u64) -> Result<(VmFlags, Source<F>), Errno> {
    let grows = vm.contains(VmFlags::GROWS_DOWN);
    match flags & MAP_TYPE {
        MAP_SHARED if !grows => Ok((vm | VmFlags::SHARED | VmFlags::MAY_SHARE, Source::Shared)),
        MAP_DROPPABLE if !grows && flags & (MAP_LOCKED | MAP_HUGETLB) == 0 => {
            vm |= VmFlags::DROPPABLE
                | VmFlags::NO_RESERVE
                | VmFlags::WIPE_ON_FORK
                | VmFlags::DONT_DUMP;
            Ok((vm, Source::Private))
        }
        MAP_PRIVATE => Ok((vm, Source::Private)),
        _ => Err(Errno::EINVAL),
    }
}
