//! Every example checks what it shows, and exits with 0 only if that holds.

#![cfg(any(feature = "x86_64_015", feature = "page_table_multiarch_06"))]

use kvma_test_support::run_example;

#[test]
#[cfg(feature = "x86_64_015")]
fn faults_fill_an_offset_page_table() {
    run_example("kvma-page-table", "x86_64_015", "mapper", &[]);
}

#[test]
#[cfg(feature = "page_table_multiarch_06")]
fn faults_fill_a_table_of_any_architecture() {
    run_example("kvma-page-table", "page_table_multiarch_06", "multiarch", &[]);
}
