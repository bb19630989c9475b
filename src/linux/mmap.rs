//! mmap(2)

use super::abi::*;
use super::file::{File, MAX_FILE_BYTES, OpenFile, Placement, Rights, Traits};
use super::mprotect::access;
use super::owner::{Capabilities, Overcommit, Owner};
use super::place::Wanted;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role};
use super::{Call, Mm};
use crate::{Backing, Errno, Merge, NodeAlloc, VmaNode};

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
    /// Huge pages of so many bytes, of which there are none.
    Huge(u64),
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mmap(2). Returns the address.
    ///
    /// Linux checks much before it changes anything, but not all: if the limits or the commit charge refuse, cuts at the
    /// ends of a fixed range stay, and if the file or the shared object refuses, the old mappings there are gone.
    ///
    /// # Errors
    /// As mmap(2) says, and `EPERM` for a fixed range that is sealed or too low, `EAGAIN` over the lock limit.
    pub fn mmap<O: Owner<F>>(&mut self, args: Mmap<F>, call: &mut Call<'_, F, A, O>) -> Result<u64, Errno> {
        let caps = call.hooks().capabilities();
        let Mmap { addr, len, prot, mut flags, offset, file } = args;
        if !self.layout.is_aligned(offset) {
            return Err(Errno::EINVAL);
        }
        let file = if flags & MAP_ANONYMOUS != 0 { None } else { Some(file.ok_or(Errno::EBADF)?) };
        let huge = huge_page(flags, file.is_some())?;
        // Rounding up to huge pages may wrap.
        let len = huge.map_or(len, |size| len.wrapping_add(size - 1) & !(size - 1));
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
        let wanted = self.wanted(addr, len, offset, flags, file.as_ref());
        let start = match huge {
            Some(size) => self.place_for_huge(&wanted, size, caps)?,
            None => self.place(&wanted, caps)?,
        };
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
            (Some(file), _) => (self.file_flags(vm, prot, flags, offset, len, &file)?, Source::File(file)),
            (None, Some(size)) => (self.huge_flags(vm, flags, offset, len)?, Source::Huge(size)),
            (None, None) => anonymous_flags(vm, flags)?,
        };
        if flags & MAP_NORESERVE != 0 && call.hooks().overcommit() != Overcommit::Never {
            vm |= VmFlags::NO_RESERVE;
        }
        self.map_region(start, end, vm, self.layout.pages(offset), source, call)?;
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
    fn wanted(&self, addr: u64, len: u64, offset: u64, flags: u64, file: Option<&OpenFile<F>>) -> Wanted {
        let huge = self.layout.huge();
        // Shared memory goes by its file system's own rule, which is plain where it does not use huge pages.
        let alignment = match file {
            Some(file) => file.file().placement(),
            None if flags & MAP_SHARED == 0 && addr == 0 && huge != 0 && len.is_multiple_of(huge) => {
                Placement::Huge
            }
            None => Placement::Page,
        };
        let offset = if file.is_some() { offset } else { 0 };
        Wanted { addr, len, offset, map_flags: flags, alignment }
    }

    /// A place that starts where a huge page does (`hugetlb_get_unmapped_area`).
    fn place_for_huge(&self, wanted: &Wanted, size: u64, caps: Capabilities) -> Result<u64, Errno> {
        let plain = Wanted { alignment: Placement::Page, ..*wanted };
        if wanted.map_flags & MAP_FIXED != 0 {
            let aligned = wanted.len > self.layout.task_size() || wanted.addr & (size - 1) == 0;
            return if aligned { self.place(&plain, caps) } else { Err(Errno::EINVAL) };
        }
        let hint = wanted.addr.wrapping_add(size - 1) & !(size - 1);
        match self.place(&Wanted { addr: hint, ..plain }, caps)? {
            start if start == hint => Ok(start),
            // Room for so much that a huge page begins in it early enough.
            _ => {
                let spare = size - self.layout.page_size().bytes();
                let room =
                    self.place(&Wanted { addr: 0, len: wanted.len.saturating_add(spare), ..plain }, caps)?;
                Ok((room + spare) & !(size - 1))
            }
        }
    }

    /// What is refused before Linux looks for huge pages.
    fn huge_flags(&self, vm: VmFlags, flags: u64, offset: u64, len: u64) -> Result<VmFlags, Errno> {
        if offset > MAX_FILE_BYTES - len {
            return Err(Errno::EOVERFLOW);
        }
        let known = LEGACY_MAP_MASK | MAP_HUGE_MASK << MAP_HUGE_SHIFT;
        match flags & MAP_TYPE {
            MAP_SHARED_VALIDATE if flags & !known != 0 => Err(Errno::EOPNOTSUPP),
            MAP_SHARED | MAP_SHARED_VALIDATE | MAP_PRIVATE if vm.contains(VmFlags::GROWS_DOWN) => {
                Err(Errno::EINVAL)
            }
            MAP_SHARED | MAP_SHARED_VALIDATE => Ok(vm | VmFlags::SHARED | VmFlags::MAY_SHARE),
            // Huge pages have accounts of their own.
            MAP_PRIVATE => Ok(vm | VmFlags::NO_RESERVE),
            _ => Err(Errno::EINVAL),
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
            let known = if traits.contains(Traits::KNOWS_SYNC) { MAP_SYNC } else { 0 } | LEGACY_MAP_MASK;
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

    /// `mmap_region`: from here on things change.
    fn map_region<O: Owner<F>>(
        &mut self,
        start: u64,
        end: u64,
        mut vm: VmFlags,
        offset: u64,
        source: Source<F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        self.policy.check(vm, vm)?;
        let old = self.gather(start, end)?;
        let pages = self.layout.pages(end - start);
        if !self.may_expand(vm, pages.saturating_sub(old.pages)) {
            return Err(Errno::ENOMEM);
        }
        let mut charged = 0;
        if vm & (VmFlags::NO_RESERVE | VmFlags::SHARED | VmFlags::WRITE) == VmFlags::WRITE {
            // What is replaced hands its promise on.
            charged = pages.saturating_sub(old.accounted);
            if charged > 0 {
                call.hooks().commit(charged)?;
            }
            vm |= VmFlags::ACCOUNT;
        }
        let inherited = if vm.contains(VmFlags::ACCOUNT) { pages - charged } else { 0 };
        let result = self.replace(start, end, vm, offset, source, inherited, call);
        if result.is_err() && charged + inherited > 0 {
            call.hooks().uncommit(charged + inherited);
        }
        result
    }

    /// Removes what was gathered and maps anew. `inherited` pages of what is removed stay promised.
    #[allow(clippy::too_many_arguments)] // What a mapping is made of.
    fn replace<O: Owner<F>>(
        &mut self,
        start: u64,
        end: u64,
        vm: VmFlags,
        offset: u64,
        source: Source<F>,
        inherited: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if inherited > 0 {
            // `remove` gives up the promises of what goes.
            call.hooks().commit(inherited)?;
        }
        self.remove(start, end, call)?;
        let (backing, data) = match source {
            Source::Huge(size) if self.layout.bytes(offset) & (size - 1) != 0 => return Err(Errno::EINVAL),
            // Huge pages are not served: this is what Linux says where none are set aside.
            Source::Huge(_) => return Err(Errno::ENOMEM),
            Source::Private => (Backing::Anonymous, LinuxVma::anonymous()),
            Source::Shared => {
                let object = call.hooks().shared_memory(end - start, vm)?;
                (Backing::Object { id: object.id(), offset: 0 }, LinuxVma::new(object, Role::Object))
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
        if vm.contains(VmFlags::DROPPABLE | VmFlags::LOCKED) {
            // What may be dropped cannot be locked. Linux finds out after it has looked for neighbours to merge with.
            return self.insert(start, end, vm - VmFlags::LOCK, backing, data, Merge::Never, call);
        }
        self.insert(start, end, vm, backing, data, Merge::Both, call)
    }
}

/// Size of the huge pages that are asked for.
fn huge_page(flags: u64, file: bool) -> Result<Option<u64>, Errno> {
    if flags & MAP_HUGETLB == 0 {
        return Ok(None);
    }
    match flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK {
        // A file has the page size of its file system.
        _ if file => Err(Errno::EINVAL),
        0 | 21 => Ok(Some(2 << 20)),
        30 => Ok(Some(1 << 30)),
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
            vm |= VmFlags::DROPPABLE | VmFlags::NO_RESERVE | VmFlags::WIPE_ON_FORK | VmFlags::DONT_DUMP;
            Ok((vm, Source::Private))
        }
        MAP_PRIVATE => Ok((vm, Source::Private)),
        _ => Err(Errno::EINVAL),
    }
}
