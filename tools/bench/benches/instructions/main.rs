//! Instructions per operation: `cargo bench -p kvma-bench --bench instructions`, about a minute.
//!
//! Time depends on the machine and on other programs; numbers of instructions hardly do. So they
//! compare two states of the crate:
//!
//! ```text
//! cargo bench -p kvma-bench --bench instructions -- --save /tmp/before
//! cargo bench -p kvma-bench --bench instructions -- --compare /tmp/before
//! ```
//!
//! The second command prints each ratio, and fails if an operation takes over 2 % more instructions
//! than before, or is gone. Words on the command line select operations by parts of their names.
//! Give absolute paths: cargo runs benches in the directory of their package. `.ci/instructions`
//! compares with `tools/bench/instructions.txt`.
//!
//! Each operation runs in a process of its own under valgrind's callgrind, so that it does not find
//! the heap as another one has left it. Only the calls of `measured_operations` are counted, and
//! not the setup or a first round that warms up allocators. Inputs are fixed. On one machine the
//! counts of a program repeat to the digit; built elsewhere, from the same source by the same
//! compiler, they agree to one part in 50,000.
//!
//! All instructions count the same, also those that wait for memory or lock a cache line. For time
//! there are `table` and `smp`.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod compat;
mod core;
mod count;
mod guest;
mod linux;
mod operation;
mod range_map;

use std::process::ExitCode;

use kvma_bench::figures::Limits;
use kvma_bench::options::Options;

use crate::operation::Table;

fn main() -> ExitCode {
    let options = Options::parse(&["measure", "save", "compare"]);
    let mut table = Table::default();
    core::add(&mut table);
    range_map::add(&mut table);
    linux::add(&mut table);
    compat::add(&mut table);
    guest::add(&mut table);
    if let Some(name) = options.value("measure") {
        let mut all = table.operations.iter();
        count::measure(all.find(|operation| operation.name == name).expect("an operation"));
        return ExitCode::SUCCESS;
    }
    let mut limits = Limits::new(&options);
    for operation in table.operations.iter().filter(|operation| options.wants(&operation.name)) {
        limits.add(&operation.name, count::count(operation));
    }
    limits.finish()
}
