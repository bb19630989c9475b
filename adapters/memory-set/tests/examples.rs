//! Every example checks what it shows, and exits with 0 only if that holds.

use kvma_test_support::run_example;

#[test]
fn a_refusal_costs_nothing() {
    run_example("kvma-memory-set", "", "demand_paging", &[]);
}
