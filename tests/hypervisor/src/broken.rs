//! Ways to break this hypervisor on purpose, chosen on its command line, to show that the boot then
//! fails.
//!
//! Each changes one deed. Nothing else knows of it, so the failure must be noticed as if the
//! mistake had been made by accident.

kvma_machine::broken! {
    /// Changes of the second stage are not followed by a flush.
    NoFlush = "no-flush",
    /// Only the processor that changes the second stage flushes its TLB.
    NoShootdown = "no-shootdown",
    /// Frames are freed as their pages are taken away, before the flush.
    EarlyFree = "early-free",
    /// The fault handler writes its entry without checking its token.
    NoStillValid = "no-still-valid",
    /// Entries of what is moved or removed stay.
    NoUnmapHook = "no-unmap-hook",
    /// Entries of what is unplugged stay.
    NoProtectHook = "no-protect-hook",
    /// Entries of ballooned pages stay.
    NoAdviseHook = "no-advise-hook",
    /// Pages that were copied stay writable, so that later writes are not noticed.
    NoWatch = "no-watch",
    /// Dirty pages are not marked when a write is allowed.
    NoMark = "no-mark",
    /// Every entry may be written through.
    WritableRom = "writable-rom",
    /// Leaves are as large as the table allows, whatever the answer says.
    LargeLeaves = "large-leaves",
}
