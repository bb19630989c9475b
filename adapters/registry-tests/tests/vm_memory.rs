//! vm-memory's own tests of its collection of regions against
//! `kvma_vm_memory::GuestRegionCollection`.

/// Stands in for the macro of the crate `matches`, which they use.
macro_rules! assert_matches {
    ($value:expr, $pattern:pat) => {
        assert!(matches!($value, $pattern))
    };
}

include!(concat!(env!("OUT_DIR"), "/vm_memory.rs"));
