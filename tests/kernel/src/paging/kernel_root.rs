//! The upper half: the kernel's image, each section with the rights that it needs, and the direct
//! map. One page of the image is for user mode: that of its [probes](user::probe).

use super::{Entry, PAGE_SIZE, Rights, Tables};
use crate::arch::memory_map;
use crate::frames::FrameList;
use crate::user;

const DIRECT_MAP_SLOT: usize = 256;
const IMAGE_SLOT: usize = 511;

/// The image's bounds: virtual addresses of symbols in the linker script.
struct Image {
    text: u64,
    rodata: u64,
    data: u64,
    end: u64,
}

fn image() -> Image {
    unsafe extern "C" {
        static __text_start: u8;
        static __rodata_start: u8;
        static __data_start: u8;
        static __kernel_end: u8;
    }
    Image {
        text: (&raw const __text_start).addr() as u64,
        rodata: (&raw const __rodata_start).addr() as u64,
        data: (&raw const __data_start).addr() as u64,
        end: (&raw const __kernel_end).addr() as u64,
    }
}

/// Makes page tables with an empty lower half. `None` without memory.
pub fn kernel_root() -> Option<Tables> {
    let mut tables = Tables::new()?;
    let image = image();
    let read_only = Rights { load: true, store: false, fetch: false };
    for (from, to, rights) in [
        (image.text, image.rodata, Rights { fetch: true, ..read_only }),
        (image.rodata, image.data, read_only),
        (image.data, image.end, Rights { store: true, ..read_only }),
    ] {
        for page in (from..to).step_by(PAGE_SIZE as usize) {
            let address = page - memory_map::KERNEL_VIRT;
            let entry = match page == user::probe::page() {
                true => Entry::user_page(address, rights),
                false => Entry::kernel_page(address, rights),
            };
            tables.map(page, entry, &mut FrameList::new()).ok()?;
        }
    }
    debug_assert!(tables.root_entry(IMAGE_SLOT).is_present());
    tables.set_root_entry(DIRECT_MAP_SLOT, Entry::direct_map());
    Some(tables)
}
