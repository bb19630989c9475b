//! How a file is cut off while it is mapped: its pages leave every page table first, and are freed
//! then. An access beyond the end is a SIGBUS from then on.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kvma::Backing;
use linux_raw_sys::general::MADV_DONTNEED_LOCKED;

use super::object::Object;
use super::process;
use crate::broken::Broken;
use crate::frames::{self, Frame};
use crate::paging::PAGE_SIZE;

/// Sets the length of an object.
pub fn set_len(object: &Arc<Object>, len: u64) {
    let old = object.len();
    let frames = object.set_len(len);
    if len < old && !Broken::TruncationKeepsPages.is_chosen() {
        // As Linux does, private copies beyond the end go as well.
        unmap(object, len.next_multiple_of(PAGE_SIZE), u64::MAX);
    }
    free(frames);
}

/// Makes a range of an object zeros.
pub fn punch(object: &Arc<Object>, offset: u64, len: u64) {
    let end = offset.saturating_add(len).min(object.len());
    let first = offset.next_multiple_of(PAGE_SIZE).min(end);
    let last = (end / PAGE_SIZE * PAGE_SIZE).max(first);
    for (from, to) in [(offset.min(end), first), (last, end)] {
        // A part of a page; `from` may be the end of the other part already.
        let zeros = [0; PAGE_SIZE as usize];
        let part = to.saturating_sub(from) as usize;
        if part > 0 && part < zeros.len() {
            // The page is there or made: no memory leaves the old bytes, as a full disk would.
            let _ = object.write(from, &zeros[..part]);
        }
    }
    let frames = object.punch(first, last - first);
    if !frames.is_empty() {
        unmap(object, first, last);
    }
    free(frames);
}

fn free(frames: Vec<Frame>) {
    frames.into_iter().for_each(frames::free);
}

/// Removes the entries of the bytes `first..end` of an object from all page tables.
fn unmap(object: &Arc<Object>, first: u64, end: u64) {
    for memory in process::all().into_iter().filter_map(|process| process.memory()) {
        let mut ranges = Vec::new();
        memory.space().vmas.inspect(|mm| {
            for vma in mm {
                let Backing::Object { id, offset } = vma.attrs().backing() else { continue };
                let (start, len) = (vma.start(), vma.last() - vma.start() + 1);
                let (from, to) = (offset.max(first), (offset + len).min(end));
                if id == object.id() && from < to {
                    ranges.push((start + (from - offset), to - from));
                }
            }
        });
        let advice = u64::from(MADV_DONTNEED_LOCKED);
        for (start, len) in ranges {
            // The VMA may have gone meanwhile, with its entries.
            let _ = memory.call(|mm, call| mm.madvise(start, len, advice, call));
        }
    }
}
