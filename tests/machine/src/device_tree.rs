//! The loader's information where it is a device tree (devicetree.org's specification, version
//! 0.4): the command line, and the memory.
//!
//! The module is no part of it, as QEMU passes none to an ELF file on every machine: the command
//! line says where it lies, `module=ADDRESS,LENGTH`.

use core::ops::Range;
use core::slice;

use fdt::Fdt;

use super::memory_map::DIRECT_MAP;

const PAGE_SIZE: u64 = 4096;
/// The end of the direct map.
const MAPPED: u64 = 1 << 32;

/// The device tree, after it was checked.
#[derive(Clone, Copy)]
pub struct StartInfo {
    tree: Fdt<'static>,
    /// Its address.
    at: u64,
}

fn direct(physical: u64) -> *const u8 {
    core::ptr::with_exposed_provenance((DIRECT_MAP + physical) as usize)
}

/// Reads a number in hexadecimal.
fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

impl StartInfo {
    /// Checks the device tree at a physical address. `None` if there is none.
    ///
    /// # Safety
    ///
    /// `physical` must be the address that the loader has passed.
    pub unsafe fn new(physical: u64) -> Option<Self> {
        // SAFETY: the loader has put a device tree there, in memory that `usable_ram` leaves out,
        // and the direct map covers it.
        let tree = unsafe { Fdt::from_ptr(direct(physical)) };
        Some(Self { tree: tree.ok()?, at: physical })
    }

    /// Returns the kernel's command line.
    pub fn command_line(self) -> &'static str {
        // QEMU's machine of LoongArch does not put it there.
        #[cfg(target_arch = "loongarch64")]
        return super::entry::command_line();
        #[cfg(not(target_arch = "loongarch64"))]
        self.tree.chosen().bootargs().unwrap_or_default()
    }

    /// Returns the module: the trace, or the archive with the programs.
    pub fn module(self) -> Option<&'static [u8]> {
        let range = self.module_range()?;
        // SAFETY: QEMU has put the module there, and `usable_ram` leaves it out.
        Some(unsafe {
            slice::from_raw_parts(direct(range.start), (range.end - range.start) as usize)
        })
    }

    fn module_range(self) -> Option<Range<u64>> {
        let (start, len) =
            self.words().rev().find_map(|word| word.strip_prefix("module="))?.split_once(',')?;
        let start = hexadecimal(start)?;
        Some(start..start.checked_add(len.parse().ok()?)?)
    }

    /// Returns the largest range of RAM at or above `from`, within the direct map, that holds
    /// neither the module nor the device tree.
    pub fn usable_ram(self, from: u64) -> Range<u64> {
        let module = self.module_range().unwrap_or(0..0);
        let tree = self.at..self.at + self.tree.total_size() as u64;
        // A machine may have a node for each part.
        self.tree
            .find_all_nodes("/memory")
            .filter_map(|node| node.reg())
            .flatten()
            .map(|region| {
                let start = region.starting_address.addr() as u64;
                start.max(from)..(start + region.size.unwrap_or(0) as u64).min(MAPPED)
            })
            .flat_map(|ram| without(ram, &module))
            .flat_map(|ram| without(ram, &tree))
            .max_by_key(|ram| ram.end.saturating_sub(ram.start))
            .unwrap_or(0..0)
    }
}

/// Returns what is left of a range on both sides of another one. The upper part begins with a page.
fn without(range: Range<u64>, other: &Range<u64>) -> [Range<u64>; 2] {
    if other.start < range.end && range.start < other.end {
        [range.start..other.start, other.end.next_multiple_of(PAGE_SIZE)..range.end]
    } else {
        [range, 0..0]
    }
}
