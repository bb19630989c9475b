//! The summary at the end.

use crate::{
    arch::timer,
    fault::{self, Again},
    faulting, fork,
    frames::{self, Use},
    populate, println,
    replay::{self, Figures},
    shootdown,
    touch::Toucher,
};
use core::sync::atomic::Ordering::Relaxed;

/// Frames by use, to be compared before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse {
    private: usize,
    shared: usize,
    tables: usize,
    nodes: usize,
}

impl InUse {
    pub fn now() -> Self {
        Self {
            private: frames::in_use(Use::Private),
            shared: frames::in_use(Use::Shared),
            tables: frames::in_use(Use::Table),
            nodes: replay::nodes_in_use(),
        }
    }
}

/// `before` is what was in use before the replay, `full` what at its end.
pub fn print(figures: &Figures, toucher: &Toucher<'_>, vmas: usize, before: InUse, full: InUse) {
    let calls = figures.calls.max(1);
    println!();
    println!("summary");
    println!(
        "  calls            {} ({} of them failed), {} snapshots",
        figures.calls, figures.failed, figures.snapshots
    );
    println!(
        "  time per call    {} ns in kvma, {} ns in hooks (page tables, TLB, frames), all emulated",
        timer::nanoseconds(figures.ticks.saturating_sub(figures.hook_ticks)) / calls,
        timer::nanoseconds(figures.hook_ticks) / calls,
    );
    println!(
        "  accesses tried   {} made, {} refused, all as expected",
        toucher.made, toucher.refused
    );
    println!(
        "  page faults      {} served, {} refused as unmapped, {} as not allowed",
        fault::SERVED.load(Relaxed),
        fault::UNMAPPED.load(Relaxed),
        fault::FORBIDDEN.load(Relaxed),
    );
    println!(
        "  lookups          {} by faults, without the lock; made again: {} busy, {} during a flush, \
         {} invalid tokens, {} pages mapped or moved by others",
        fault::LOOKUPS.load(Relaxed),
        Again::Busy.count(),
        Again::Flushing.count(),
        Again::Invalid.count(),
        Again::Overtaken.count(),
    );
    println!(
        "  processors       2; {} shootdowns of the other one's TLB; {} calls overtook its faults",
        shootdown::count(),
        figures.overtook,
    );
    println!(
        "  forks            {}; of the pages shared, {} copied on write, {} kept by their last owner",
        fork::FORKS.load(Relaxed),
        fault::COPIED.load(Relaxed),
        fault::KEPT.load(Relaxed),
    );
    println!(
        "  stack            grown by {} faults; {} pages brought in before they were used",
        faulting::GROWN.load(Relaxed),
        populate::POPULATED.load(Relaxed),
    );
    println!(
        "  contents         {} pages written to, all read back as written",
        toucher.pages_written()
    );
    println!(
        "  frames at end    {} private, {} shared, {} page tables ({} before); at most {} of {} in use",
        full.private,
        full.shared,
        full.tables,
        before.tables,
        frames::peak(),
        frames::total(),
    );
    println!(
        "  VMAs            {vmas}; kvma's nodes: {} at end, {} at most",
        full.nodes, figures.nodes
    );
}
