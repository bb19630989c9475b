//! Every example checks what it shows, and exits with 0 only if that holds.

use kvma_test_support::run_example;

#[test]
fn each_call_has_one_flush() {
    run_example("kvma-ax-memory-set", "", "demand_paging", &[]);
}
