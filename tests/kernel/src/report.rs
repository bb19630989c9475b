//! The summary at the end of a replay, of which some lines are the demonstration's as well.

use core::sync::atomic::Ordering::Relaxed;

use crate::arch::timer;
use crate::fault::{self, Again};
use crate::frames::{self, Use};
use crate::replay::{self, Figures};
use crate::touch::Toucher;
use crate::{faulting, fork, huge, populate, println, shootdown, stale};

/// Frames by use and nodes, to be compared before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse {
    private: usize,
    shared: usize,
    tables: usize,
    nodes: usize,
}

impl InUse {
    /// Returns the numbers of now.
    pub fn now() -> Self {
        Self {
            private: frames::in_use(Use::Private),
            shared: frames::in_use(Use::Shared),
            tables: frames::in_use(Use::Table),
            nodes: replay::nodes_in_use(),
        }
    }
}

/// Prints the summary. `before` was in use before the replay, `full` at its end.
pub fn print(figures: &Figures, toucher: &Toucher<'_>, vmas: usize, before: InUse, full: InUse) {
    let calls = figures.calls.max(1);
    println!();
    println!("summary");
    println!(
        "  calls            {} ({} of them failed), {} snapshots",
        figures.calls, figures.failed, figures.snapshots
    );
    println!(
        "  time per call    {} ns in kvma, {} ns in hooks, all emulated",
        timer::nanoseconds(figures.ticks.saturating_sub(figures.hook_ticks)) / calls,
        timer::nanoseconds(figures.hook_ticks) / calls,
    );
    println!(
        "  accesses tried   {} made, {} refused, all as expected",
        toucher.made, toucher.refused
    );
    print_page_faults();
    println!(
        "  lookups          {} by faults, without the lock\n  \
           retried          {} busy, {} during a flush, {} for invalid tokens,\n                   \
           {} for pages that were mapped or moved meanwhile",
        fault::LOOKUPS.load(Relaxed),
        Again::Busy.count(),
        Again::Flushing.count(),
        Again::Invalid.count(),
        Again::Overtaken.count(),
    );
    println!(
        "  processors       2; {} TLB shootdowns; {} calls overtook faults",
        shootdown::count(),
        figures.overtook,
    );
    print_stale();
    print_forks();
    print_huge_pages();
    println!(
        "  stack            grown by {} faults; {} pages populated by request",
        faulting::GROWN.load(Relaxed),
        populate::POPULATED.load(Relaxed),
    );
    println!(
        "  contents         {} pages written to, all read back as written",
        toucher.pages_written()
    );
    println!(
        "  frames at end    {} private, {} shared, {} page tables ({} before);\n                   \
           at most {} of {} in use",
        full.private,
        full.shared,
        full.tables,
        before.tables,
        frames::peak(),
        frames::total(),
    );
    println!(
        "  VMAs             {vmas}; kvma's nodes: {} at end, {} at most",
        full.nodes, figures.nodes
    );
}

/// Prints the summary's line about stale TLB entries.
pub fn print_stale() {
    println!("  stale entries    {} tried after flushes, none found", stale::TRIED.load(Relaxed));
}

/// Prints the summary's line about huge pages.
pub fn print_huge_pages() {
    println!(
        "  huge pages       {} mapped, {} split",
        huge::MAPPED.load(Relaxed),
        huge::SPLIT.load(Relaxed),
    );
}

/// Prints the summary's line about page faults.
pub fn print_page_faults() {
    println!(
        "  page faults      {} served, {} refused as unmapped, {} as forbidden",
        fault::SERVED.load(Relaxed),
        fault::UNMAPPED.load(Relaxed),
        fault::FORBIDDEN.load(Relaxed),
    );
}

/// Prints the summary's line about forks.
pub fn print_forks() {
    println!(
        "  forks            {}; of the shared pages {} were copied on write, {} kept",
        fork::FORKS.load(Relaxed),
        fault::COPIED.load(Relaxed),
        fault::KEPT.load(Relaxed),
    );
}
