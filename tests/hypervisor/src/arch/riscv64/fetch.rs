//! Finds the instruction that has faulted: the processor says it, or else the guest's own page
//! tables are walked for it.

use core::arch::asm;

use super::vcpu::{PC, Vcpu};

/// Bits of an entry of the guest's tables.
const VALID: u64 = 1;
const LEAF: u64 = 0b1110;

const PAGE_BITS: u32 = 12;
const LEVEL_BITS: u32 = 9;

/// The lowest bits of the first half of an instruction that has two.
const UNCOMPRESSED: u32 = 3;

impl Vcpu {
    /// Returns the instruction that made the last fault, in `htinst`'s form. `read` reads a word of
    /// the guest's memory.
    ///
    /// # Panics
    ///
    /// If the instruction is nowhere, which the processor has fetched, or is compressed.
    pub fn faulted(&self, read: impl Fn(u64) -> u32) -> u32 {
        if self.instruction != 0 {
            return self.instruction as u32;
        }
        let half = |at: u64| {
            let gpa = walk(at, &read);
            read(gpa & !3) >> (8 * (gpa & 2)) & 0xffff
        };
        let at = self.registers[PC];
        let first = half(at);
        assert!(first & UNCOMPRESSED == UNCOMPRESSED, "an access to a device by {first:#x}");
        first | half(at + 2) << 16
    }
}

/// Returns the guest-physical address of a virtual one.
fn walk(address: u64, read: &impl Fn(u64) -> u32) -> u64 {
    let root: u64;
    // SAFETY: reads a register.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "csrr {}, vsatp",
            ".option pop",
            out(reg) root,
            options(nomem, nostack)
        );
    }
    let levels = match root >> 60 {
        0 => return address,
        // Sv39, Sv48, Sv57.
        mode => mode as u32 - 5,
    };
    let mut table = (root & ((1 << 44) - 1)) << PAGE_BITS;
    for level in (0..levels).rev() {
        let shift = PAGE_BITS + LEVEL_BITS * level;
        let at = table + 8 * (address >> shift & ((1 << LEVEL_BITS) - 1));
        let entry = u64::from(read(at)) | u64::from(read(at + 4)) << 32;
        let shown = (entry >> 10 & ((1 << 44) - 1)) << PAGE_BITS;
        match (entry & VALID, entry & LEAF) {
            (0, _) => break,
            (_, 0) => table = shown,
            _ => return shown | address & ((1 << shift) - 1),
        }
    }
    panic!("the guest has fetched an instruction from {address:#x}, where it has none")
}
