//! The boot loader's information: Xen's `hvm_start_info`, version 1
//! (xen/include/public/arch-x86/hvm/start_info.h).

use core::ffi::CStr;
use core::ops::Range;
use core::slice;

use crate::memory_map::DIRECT_MAP;

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

#[repr(C)]
struct Header {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory: u64,
    memory_count: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    start: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
struct Memory {
    start: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// The start info, after it was checked. It lies in low memory, which this kernel never allocates.
#[derive(Clone, Copy)]
pub struct StartInfo(&'static Header);

fn direct(physical: u64) -> *const u8 {
    core::ptr::with_exposed_provenance((DIRECT_MAP + physical) as usize)
}

impl StartInfo {
    /// Checks the start info at a physical address. `None` if it is not one.
    ///
    /// # Safety
    ///
    /// `physical` must be the address that the loader has left in `ebx`.
    pub unsafe fn new(physical: u64) -> Option<Self> {
        // SAFETY: the loader has put a header there, and the direct map covers the first 4 GiB.
        let header = unsafe { &*direct(physical).cast::<Header>() };
        (header.magic == MAGIC && header.version >= 1).then_some(Self(header))
    }

    /// Returns the kernel's command line.
    pub fn command_line(self) -> &'static str {
        if self.0.command_line == 0 {
            return "";
        }
        // SAFETY: the header is valid, so this is a string that ends with a zero.
        let text = unsafe { CStr::from_ptr(direct(self.0.command_line).cast()) };
        text.to_str().unwrap_or("")
    }

    /// Returns the first module, which is QEMU's `-initrd`.
    pub fn module(self) -> Option<&'static [u8]> {
        let range = self.module_range()?;
        // SAFETY: the loader has put the module there, and `usable_ram` leaves it out.
        Some(unsafe {
            slice::from_raw_parts(direct(range.start), (range.end - range.start) as usize)
        })
    }

    fn module_range(self) -> Option<Range<u64>> {
        if self.0.module_count == 0 {
            return None;
        }
        // SAFETY: the header is valid, and there is at least one module.
        let module = unsafe { &*direct(self.0.modules).cast::<Module>() };
        Some(module.start..module.start + module.size)
    }

    /// Returns the largest range of RAM at or above `from`, within the direct map, that holds no
    /// module.
    pub fn usable_ram(self, from: u64) -> Range<u64> {
        // SAFETY: the header is valid, and version 1 has a memory map of this length.
        let map = unsafe {
            slice::from_raw_parts(
                direct(self.0.memory).cast::<Memory>(),
                self.0.memory_count as usize,
            )
        };
        let module = self.module_range().unwrap_or(0..0);
        map.iter()
            .filter(|m| m.kind == RAM)
            .map(|m| m.start.max(from)..(m.start + m.size).min(1 << 32))
            .flat_map(|r| {
                if module.start < r.end && r.start < module.end {
                    [r.start..module.start, module.end..r.end]
                } else {
                    [r, 0..0]
                }
            })
            .filter(|r| r.start < r.end)
            .max_by_key(|r| r.end - r.start)
            .unwrap_or(0..0)
    }
}
