//! The invariants of a process's memory, page by page: checked whenever one ends.

use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::VmaFlags;

use super::memory::Memory;
use super::object::Object;
use crate::page_cache::Store;
use crate::paging::LOWER_HALF_END;
use crate::{frames, hooks};

/// The number of times that memory was checked.
pub static PROCESSES: AtomicU64 = AtomicU64::new(0);
/// The entries that were looked at.
pub static ENTRIES: AtomicU64 = AtomicU64::new(0);

/// Checks VMAs and page tables against each other. Nobody may use the memory meanwhile.
///
/// # Panics
///
/// If something is wrong.
pub fn check(memory: &Memory) {
    let space = memory.space();
    let sound = space.vmas.inspect(|mm| mm.check());
    assert!(sound.is_ok(), "the VMAs are damaged: {sound:?}");
    // Every entry lies in a VMA, and allows no more than the VMA.
    let (mut entries, mut in_vmas) = (0u64, 0u64);
    space.vmas.inspect(|mm| {
        let pages = space.pages.lock();
        pages.tables.for_each(0, LOWER_HALF_END - 1, |page, entry| {
            entries += 1;
            let Some(vma) = mm.iter().find(|vma| vma.start() <= page && page <= vma.last()) else {
                panic!("page {page:#x} has an entry, but no VMA");
            };
            if entry.is_guard() {
                return;
            }
            let (rights, attrs) = (entry.rights(), vma.attrs_at(page));
            assert!(
                !rights.exceeds(hooks::rights(attrs.prot())),
                "page {page:#x} allows {rights:?}, its VMA {}",
                attrs.prot()
            );
            let shared = attrs.flags().contains(VmaFlags::SHARED);
            assert!(
                entry.is_of_shared_mapping() == shared,
                "page {page:#x} is shared in its entry or in its VMA alone"
            );
            assert!(
                shared || !rights.store || !frames::is_shared(entry.address()),
                "page {page:#x} can be written to, and others see it"
            );
            if let Some(object) = vma.data().object().filter(|_| shared) {
                check_shared(&object.0, &attrs, page, entry.address());
            }
        });
        // A large leaf has the same attributes everywhere, and can be split.
        let mut large = 0;
        pages.tables.for_each_large(0, LOWER_HALF_END - 1, |block, _| {
            large += 1;
            let last = block + (frames::BLOCK_SIZE - 1);
            let mut vmas = mm.iter().filter(|vma| vma.start() <= last && vma.last() >= block);
            let attrs = vmas.next().map(|vma| vma.attrs());
            let same = vmas.all(|vma| Some(vma.attrs()) == attrs);
            assert!(same, "a large leaf at {block:#x}, and different attributes");
        });
        let spare = pages.tables.spare_tables();
        assert!(large == spare, "{large} large leaves, and {spare} tables to split them into");
        // And every VMA has the entries of its own range: none is counted twice or left out.
        for vma in mm {
            let last = vma.last().min(LOWER_HALF_END - 1);
            pages.tables.for_each(vma.start(), last, |_, _| in_vmas += 1);
        }
    });
    assert!(entries == in_vmas, "{entries} entries, {in_vmas} of them in VMAs");
    PROCESSES.fetch_add(1, Relaxed);
    ENTRIES.fetch_add(entries, Relaxed);
}

/// Checks that a page of a shared mapping shows the object's own frame.
fn check_shared(object: &Arc<Object>, attrs: &kvma::Attrs, page: u64, address: u64) {
    let kvma::Backing::Object { offset, .. } = attrs.backing() else {
        panic!("page {page:#x} is shared, and no object's");
    };
    match object.frame(offset / frames::FRAME_SIZE) {
        Ok(frame) => {
            let same = frame.is_at(address);
            frames::free(frame);
            assert!(same, "page {page:#x} shows another frame than its object's");
        }
        Err(why) => panic!("page {page:#x} shows what its object does not have: {why:?}"),
    }
}
