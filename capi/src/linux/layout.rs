//! The shape of an address space.

use engine::Direction;
use engine::linux::Layout;

/// The shape of an address space, in bytes: made by `kvma_linux_layout_x86_64`, and changed where
/// wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_layout {
    /// The address from which top-down searches go (`mmap_base`).
    pub base: u64,
    /// The address from which bottom-up searches go (`mmap_legacy_base`).
    pub bottom: u64,
    /// The lowest address that a search or a hint gets, and to which a stack grows (the larger of
    /// `vm.mmap_min_addr` and `CONFIG_LSM_MMAP_MIN_ADDR`).
    pub min_addr: u64,
    /// The lowest address that may be asked for without privileges (`vm.mmap_min_addr`).
    pub user_min_addr: u64,
    /// The number of bytes that stacks keep free below them (`stack_guard_gap`).
    pub guard_gap: u64,
    /// The size of the huge pages to which large mappings are aligned; 0: they are not.
    pub huge: u64,
    /// The number of the processor's protection keys, at most 16; 0: there are none.
    pub protection_keys: u32,
    /// `true` if searches go from the bottom up.
    pub bottom_up: bool,
    /// The first address that is not user space's (`TASK_SIZE`). Only to be read.
    pub task_size: u64,
    /// The page size. Only to be read.
    pub page_size: u64,
}

/// Returns the layout of x86-64 with 47-bit user space and no randomisation, for a stack of at most
/// `stack_limit` bytes (`UINT64_MAX`: unlimited).
#[unsafe(no_mangle)]
pub extern "C" fn kvma_linux_layout_x86_64(stack_limit: u64) -> kvma_linux_layout {
    (&Layout::x86_64(stack_limit)).into()
}

/// Returns `layout` with both searches moved by a random number of pages, the low `bits` bits of
/// `random`: the base down, the bottom up. Linux takes 28 bits on x86-64, and at most 32 count
/// here.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_linux_layout_randomised(
    layout: kvma_linux_layout,
    random: u64,
    bits: u32,
) -> kvma_linux_layout {
    (&layout.to_layout().randomised(random, bits)).into()
}

impl From<&Layout> for kvma_linux_layout {
    fn from(layout: &Layout) -> Self {
        Self {
            base: layout.base(),
            bottom: layout.bottom(),
            min_addr: layout.min_addr(),
            user_min_addr: layout.user_min_addr(),
            guard_gap: layout.guard_gap(),
            huge: layout.huge(),
            protection_keys: layout.protection_keys(),
            bottom_up: layout.direction() == Direction::BottomUp,
            task_size: layout.task_size(),
            page_size: layout.page_size().bytes(),
        }
    }
}

impl kvma_linux_layout {
    pub(super) fn to_layout(self) -> Layout {
        // The fields say everything that the limit of the stack decides.
        Layout::x86_64(0)
            .with_base(self.base)
            .with_bottom(self.bottom)
            .with_min_addr(self.min_addr)
            .with_user_min_addr(self.user_min_addr)
            .with_guard_gap(self.guard_gap)
            .with_huge_pages(self.huge)
            .with_protection_keys(self.protection_keys)
            .with_direction(if self.bottom_up { Direction::BottomUp } else { Direction::TopDown })
    }
}
