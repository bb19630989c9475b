//! Page tables against VMAs, page by page and both ways, and the owners of each frame counted.

use alloc::collections::BTreeMap;

use kvma::VmaFlags;

use super::program::Program;
use crate::frames::{self, BLOCK_SIZE};
use crate::hooks;
use crate::paging::LOWER_HALF_END;

/// Checks the page tables of these processes, which are all that there are. Their memory is private
/// memory without a file, and nobody changes it meanwhile.
///
/// # Panics
///
/// If something is wrong.
pub fn check(processes: &[&Program]) {
    let mut owners = BTreeMap::new();
    for process in processes {
        check_one(process, &mut owners);
    }
    for (frame, count) in owners {
        let references = frames::references(frame);
        assert!(
            references == count,
            "frame {frame:#x} has {references} owners, of which {count} are entries"
        );
    }
}

fn check_one(process: &Program, owners: &mut BTreeMap<u64, u32>) {
    process.0.vmas.inspect(|mm| {
        let sound = mm.check();
        assert!(sound.is_ok(), "the VMAs are damaged: {sound:?}");
        let pages = process.0.pages.lock();
        let (mut entries, mut in_vmas, mut large) = (0, 0, 0);
        pages.tables.for_each(0, LOWER_HALF_END - 1, |_, _| entries += 1);
        for vma in mm {
            let allowed = hooks::rights(vma.prot());
            let private = !vma.attrs().flags().contains(VmaFlags::SHARED);
            pages.tables.for_each(vma.start(), vma.last(), |page, entry| {
                in_vmas += 1;
                if entry.is_guard() {
                    return;
                }
                let (rights, frame) = (entry.rights(), entry.address());
                assert!(!rights.exceeds(allowed), "page {page:#x} allows more than its VMA");
                assert!(
                    !(private && rights.store && frames::is_shared(frame)),
                    "page {page:#x} can be written to, and others see it"
                );
                *owners.entry(frame).or_insert(0) += 1;
            });
            pages.tables.for_each_large(vma.start(), vma.last(), |block, leaf| {
                large += 1;
                let aligned = [block, leaf.address()].map(|at| at.is_multiple_of(BLOCK_SIZE));
                assert!(aligned == [true; 2], "the large leaf at {block:#x} is not aligned");
            });
        }
        assert!(entries == in_vmas, "{entries} entries, {in_vmas} of them in VMAs");
        let spare = pages.tables.spare_tables();
        assert!(
            large == spare,
            "{large} large leaves lie in one VMA each, and {spare} can be split"
        );
    });
}
