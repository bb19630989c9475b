//! Ways to break this kernel on purpose, chosen on its command line, to show that the boot then
//! fails.
//!
//! Each changes one behaviour. Nothing else in the kernel knows of it, so the failure must be
//! noticed as if the mistake had been made by accident.

kvma_machine::broken! {
    /// Page-table edits are not followed by a TLB flush.
    NoFlush = "no-flush",
    /// Frames are freed as they are unmapped, before the flush.
    EarlyFree = "early-free",
    /// The hook for unmapped pieces does nothing.
    NoUnmapHook = "no-unmap-hook",
    /// The hook for changed rights does nothing.
    NoProtectHook = "no-protect-hook",
    /// The hook for relocated pieces does nothing.
    NoRelocateHook = "no-relocate-hook",
    /// Only the processor that changes page tables flushes its TLB.
    NoShootdown = "no-shootdown",
    /// A processor that is asked to flush its TLB does nothing, and never says that it has.
    NoAcknowledge = "no-acknowledge",
    /// The fault handler writes its entry without checking its token.
    NoStillValid = "no-still-valid",
    /// A fork leaves the parent's entries as they are.
    ForkKeepsWrite = "fork-keeps-write",
    /// A store to a page that a fork has shared goes to the shared frame.
    NoCopy = "no-copy",
    /// A change to a part of a huge page does not split it, and so does nothing there.
    NoSplit = "no-split",
    /// Pages of a file that was cut off stay mapped.
    TruncationKeepsPages = "truncation-keeps-pages",
    /// Signals for faults come with another address.
    WrongAddress = "wrong-address",
}
