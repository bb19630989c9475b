//! Every example checks what it shows, and exits with 0 only if that holds.

use kvma_test_support::run_example;

#[test]
fn a_leaf_is_split_and_no_frame_is_lost() {
    run_example("kvma-axaddrspace", "", "guest", &[]);
}
