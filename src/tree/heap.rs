//! Tables of lookup hints on the heap.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use super::HintTable;
use super::hint_table::HEADER_WORDS;

impl HintTable {
    /// Makes a table of `slots` slots on the heap, where it goes back to. O(slots). Returns `None`
    /// if there is no memory.
    ///
    /// ```
    /// use kvma::addr_space::HintTable;
    ///
    /// assert_eq!(HintTable::boxed(4096).expect("there is memory").slots(), 4096);
    /// assert!(HintTable::boxed(usize::MAX).is_none());
    /// ```
    pub fn boxed(slots: usize) -> Option<Self> {
        let words = slots.checked_add(HEADER_WORDS)?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(words).ok()?;
        memory.resize(words, MaybeUninit::uninit());
        Self::new(Box::leak(memory.into_boxed_slice()), |memory| {
            // SAFETY: a box of this length, above, which nobody uses any more.
            drop(unsafe { Box::from_raw(memory) });
        })
    }
}
