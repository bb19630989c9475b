//! axaddrspace's own tests of its address space against `kvma_axaddrspace`, which has other types:
//! [`interface`] has theirs.

mod interface;
mod mock_npt;

/// Their frames, and their counts of them.
mod test_utils {
    include!(concat!(env!("OUT_DIR"), "/axaddrspace_utils.rs"));
}

/// The tests.
mod theirs {
    include!(concat!(env!("OUT_DIR"), "/axaddrspace.rs"));
}
