//! Every example checks what it shows, and exits with 0 only if that holds.

use kvma_test_support::run_example;

#[test]
fn a_module_is_plugged_in_and_out() {
    run_example("kvma-vm-memory", "", "hotplug", &[]);
}
