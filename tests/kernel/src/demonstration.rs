//! The kernel as a thing to look at: the scenarios, a line for each group, then a program, then
//! what both have made of the machine.

use core::sync::atomic::Ordering::Relaxed;

use kvma_machine::start_info::StartInfo;
use kvma_machine::{Verdict, exit};

use crate::fault::{self, Again};
use crate::pages::Pages;
use crate::{console, frames, println, report, scenarios, shootdown, user};

/// Shows what there is to see, and ends the machine.
pub fn run(info: StartInfo, pages: Pages) -> ! {
    if !info.has_word("verbose") {
        scenarios::count_statements();
    }
    let pages = scenarios::run(pages);
    let program = info.has_word("program").then(|| {
        println!("a shell script in user mode");
        console::leave_to_programs();
        let figures = user::run(info, pages);
        console::take_back();
        figures
    });
    println!();
    println!("summary");
    println!("  scenarios        {} statements hold", scenarios::statements());
    report::print_page_faults();
    println!(
        "  lookups          {} by faults, without the lock; {} were retried",
        fault::LOOKUPS.load(Relaxed),
        [Again::Busy, Again::Flushing, Again::Invalid, Again::Overtaken]
            .map(Again::count)
            .iter()
            .sum::<u64>(),
    );
    report::print_forks();
    report::print_huge_pages();
    println!("  processors       2; {} TLB shootdowns", shootdown::count());
    report::print_stale();
    if let Some(figures) = program {
        println!(
            "  programs         {} processes, {} system calls; at their ends,\n                   \
               {} page-table entries agreed with their VMAs",
            figures.processes, figures.calls, figures.entries,
        );
    }
    println!("  frames           at most {} of {} in use", frames::peak(), frames::total());
    println!("  torn down        no frame, page table or node leaked");
    exit(Verdict::Pass)
}
