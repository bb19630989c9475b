//! Calls that would break the program, or whose answers would depend on more than the calls.

use super::calls::*;
use super::image::{CODE, PAGE, SCRATCH, SCRATCH_LENGTH};
use super::session::SeenVma;

/// Most bytes that a call may populate, which takes the kernel real memory and time.
const POPULATED: u64 = 4 << 20;
/// Linux takes long to move or to lock more bytes than these: it goes through them one huge page at
/// a time, mapped or not.
pub const VAST: u64 = 1 << 36;
/// Most bytes to lock with ONFAULT: what cannot be locked (MAP_DROPPABLE) is populated at once all
/// the same.
const LOCKED: u64 = 128 << 20;
/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;
/// Most by which a length is rounded up to huge pages.
const ROUNDED: u64 = 1 << 30;

/// The memory that the program must not lose.
#[derive(Debug, Clone, Copy)]
pub struct Caution<'a> {
    pub vmas: &'a [SeenVma],
    /// Pages are populated on purpose: nothing private is writable, and shared memory keeps its
    /// size.
    pub populate: bool,
    /// The program has no private pages, and gets none, so that it can fork.
    pub bare: bool,
}

impl Caution<'_> {
    /// Returns whether the call leaves the program's code alone, gives it no private pages (how
    /// many are populated depends on more than the calls), and does not populate too much.
    pub fn allows(&self, call: &Call) -> bool {
        let [a, b, c, d, e, _] = call.args;
        match call.sys {
            Sys::Mmap => self.allows_mmap(call),
            Sys::Munmap => !hits_code(a, b),
            Sys::Mprotect if hits_code(a, b) => false,
            // What is locked and becomes writable gets its pages at once.
            Sys::Mprotect if c & PROT_WRITE != 0 => {
                !self.within(a, b).any(|vma| !vma.shared && (vma.locked || self.populate))
            }
            Sys::Mprotect => true,
            Sys::Brk => !self.populate,
            Sys::Mremap => {
                let rounded = if self.within(a, 1).any(|vma| vma.huge) { ROUNDED } else { 0 };
                let code = hits_code(a, b.max(c))
                    || (d & MREMAP_FIXED != 0 && hits_code(e, c.saturating_add(rounded)));
                let populates =
                    self.within(a, 1).any(|vma| vma.locked) && c > b.saturating_add(POPULATED);
                let grows_object = self.populate && c > b && self.within(a, b).any(|vma| vma.ends);
                !code && !populates && !grows_object && self.mapped(a, b) <= VAST
            }
            Sys::Madvise => match c as u32 {
                MADV_POPULATE_READ => self.may_bring_in(a, b),
                MADV_POPULATE_WRITE => self.may_bring_in(a, b) && !self.keeps_pages(a, b),
                // Never enough for a huge page: whether there is a free one depends on the machine.
                MADV_COLLAPSE => b < HUGE,
                MADV_GUARD_INSTALL => {
                    !self.bare && !hits_code(a, b) && self.mapped(a, b) <= POPULATED
                }
                // A child needs it.
                MADV_DONTFORK => !hits_code(a, b),
                _ => true,
            },
            Sys::Mlock => !self.keeps_pages(a, b) && self.may_bring_in(a, b),
            Sys::Mlock2 if c as u32 != 0 => self.mapped(a, b) <= LOCKED,
            Sys::Mlock2 => !self.keeps_pages(a, b) && self.may_bring_in(a, b),
            // Without ONFAULT.
            Sys::Mlockall if matches!(a as u32 & 7, 1..=3) => {
                self.populate && self.may_bring_in(0, u64::MAX) && !self.keeps_pages(0, u64::MAX)
            }
            Sys::Mlockall if a & MCL_CURRENT != 0 => self.mapped(0, u64::MAX) <= LOCKED,
            // The vector must fit into the scratch memory, unless the call fails before that.
            Sys::Mincore => b <= SCRATCH_LENGTH * PAGE || a.saturating_add(b) > TASK,
            Sys::PkeyMprotect => self.allows(&Call::new(Sys::Mprotect, &[a, b, c])),
            // Shared memory with a name.
            Sys::Name => !self.within(c, d).any(|vma| vma.ends),
            Sys::Mlockall
            | Sys::Munlock
            | Sys::Munlockall
            | Sys::Msync
            | Sys::Mseal
            | Sys::PkeyAlloc
            | Sys::PkeyFree => true,
        }
    }

    /// Returns whether a step does none of this.
    pub fn allows_step(&self, step: &Step) -> bool {
        match step {
            Step::Call(call) => self.allows(call),
            // Advice that is allowed for others does them no harm.
            Step::Advise(advise) => {
                advise.target == Target::Other || advise.each().all(|call| self.allows(&call))
            }
            Step::Touch(addr, access) => self.allows_touch(*addr, *access),
            // The new image has private, writable memory.
            Step::Exec => !self.populate,
            Step::Fork => self.bare,
            Step::Switch | Step::Limit(_) | Step::Drop => true,
        }
    }

    /// Returns whether an instruction that accesses memory is refused, or makes a private page only
    /// where one is allowed.
    fn allows_touch(&self, addr: u64, access: Touch) -> bool {
        if addr >= TASK || hits_code(addr, 1) {
            return false;
        }
        let Some(vma) = self.vmas.iter().find(|vma| vma.meets(addr, addr + 1)) else {
            // ptrace(2) reads what is to be executed, and grows stacks within our own limits, not
            // those of the program.
            return !self.populate && !self.bare && access != Touch::Execute;
        };
        let refused = match access {
            // What is no code is populated like data before it is not run.
            Touch::Read | Touch::Execute => !(vma.readable || vma.writable || vma.executable),
            Touch::Write => !vma.writable,
        };
        let harmless = match access {
            // A private page, where one is allowed.
            Touch::Write => {
                vma.shared || (!self.bare && !self.populate && vma.end - vma.start < HUGE)
            }
            // Code that is not zeros may do anything.
            Touch::Execute if vma.executable => vma.file && vma.shared,
            // Reading anonymous memory large enough for a huge page prepares it for writing.
            Touch::Read | Touch::Execute => vma.file || vma.shared || vma.end - vma.start < HUGE,
        };
        // A guard refuses what its VMA allows.
        refused || (harmless && !vma.special && !vma.guards)
    }

    fn allows_mmap(&self, call: &Call) -> bool {
        let [addr, len, prot, flags, ..] = call.args;
        let shared = matches!(flags & MAP_TYPE, MAP_SHARED | MAP_SHARED_VALIDATE);
        let keeps_pages = prot & PROT_WRITE != 0 && !shared;
        let rounded = if flags & MAP_HUGETLB != 0 { ROUNDED } else { 0 };
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) == MAP_FIXED
            && hits_code(addr, len.saturating_add(rounded))
        {
            return false;
        }
        // Populated under MCL_FUTURE even with ONFAULT, and charged to nobody.
        if flags & MAP_TYPE == MAP_DROPPABLE && len > POPULATED {
            return false;
        }
        match flags & (MAP_LOCKED | MAP_POPULATE) {
            // There are no pages to populate.
            _ if flags & MAP_HUGETLB != 0 => true,
            0 => !(self.populate && keeps_pages),
            _ => !keeps_pages && len <= POPULATED,
        }
    }

    /// Returns the VMAs that a range meets, rounded to whole pages and one more.
    fn within(&self, start: u64, len: u64) -> impl Iterator<Item = &SeenVma> {
        let (start, end) = generous(start, len);
        self.vmas.iter().filter(move |vma| vma.meets(start, end))
    }

    fn keeps_pages(&self, start: u64, len: u64) -> bool {
        self.within(start, len).any(SeenVma::keeps_pages)
    }

    /// Returns how many bytes of a range are mapped. Huge pages do not count: there are none to
    /// populate or to move.
    fn mapped(&self, start: u64, len: u64) -> u64 {
        let end = start.saturating_add(len);
        let overlap = |vma: &SeenVma| vma.end.min(end).saturating_sub(vma.start.max(start));
        self.within(start, len).filter(|vma| !vma.huge).map(overlap).sum()
    }

    fn may_bring_in(&self, start: u64, len: u64) -> bool {
        // Memory beyond the end of its object cannot be populated, and shared memory that was grown
        // has such an end.
        self.mapped(start, len) <= POPULATED
            && !self.within(start, len).any(|vma| vma.beyond || (vma.ends && !self.populate))
    }
}

/// Rounds a range to whole pages, and adds one behind.
fn generous(start: u64, len: u64) -> (u64, u64) {
    (start & !(PAGE - 1), start.saturating_add(len).saturating_add(PAGE))
}

/// Returns whether a range meets what the program needs: its one page of code, and the memory that
/// it shares with us.
fn hits_code(start: u64, len: u64) -> bool {
    let (start, end) = generous(start, len);
    let needed = [(CODE, CODE + PAGE), (SCRATCH, SCRATCH + SCRATCH_LENGTH)];
    needed.iter().any(|&(first, behind)| start < behind && first < end)
}
