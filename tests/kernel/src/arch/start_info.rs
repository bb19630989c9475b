//! What the boot loader hands over: Xen's `hvm_start_info`, version 1
//! (xen/include/public/arch-x86/hvm/start_info.h).

use super::memory_map::DIRECT_MAP;
use core::{ffi::CStr, ops::Range, slice};

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

/// The start info, found valid. It lies in low memory, which this kernel never gives away.
#[derive(Clone, Copy)]
pub struct StartInfo(&'static Header);

fn direct(physical: u64) -> *const u8 {
    core::ptr::with_exposed_provenance((DIRECT_MAP + physical) as usize)
}

impl StartInfo {
    /// # Safety
    ///
    /// `physical` must be what the loader left in `ebx`.
    pub unsafe fn new(physical: u64) -> Option<Self> {
        // SAFETY: the loader put a header there, and the direct map covers the first 4 GiB.
        let header = unsafe { &*direct(physical).cast::<Header>() };
        (header.magic == MAGIC && header.version >= 1).then_some(Self(header))
    }

    pub fn command_line(self) -> &'static str {
        if self.0.command_line == 0 {
            return "";
        }
        // SAFETY: the header is valid, so this is a string that the loader ended with a zero.
        let text = unsafe { CStr::from_ptr(direct(self.0.command_line).cast()) };
        text.to_str().unwrap_or("")
    }

    /// The first module: what QEMU was given as `-initrd`.
    pub fn module(self) -> Option<&'static [u8]> {
        let range = self.module_range()?;
        // SAFETY: the loader put the module there, and `usable_ram` keeps it out of the frame
        // allocator.
        Some(unsafe {
            slice::from_raw_parts(direct(range.start), (range.end - range.start) as usize)
        })
    }

    fn module_range(self) -> Option<Range<u64>> {
        if self.0.module_count == 0 {
            return None;
        }
        // SAFETY: the header is valid and says that there is at least one module.
        let module = unsafe { &*direct(self.0.modules).cast::<Module>() };
        Some(module.start..module.start + module.size)
    }

    /// The largest run of RAM at or above `from` that holds no module, within the direct map.
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
