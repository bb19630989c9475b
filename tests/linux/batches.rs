//! Long calls that release the lock every few VMAs.

use std::cell::Cell;
use std::sync::Arc;

use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
use kvma::linux::abi::*;
use kvma::linux::{
    Capabilities, Install, Kernel, Layout, Limits, LinuxVma, Mm, Mmap, NoKernel, PageOp, Resource,
    Role, Target, Usage, VmFlags,
};
use kvma::{AddrSpace, Attrs, BoxAlloc, Errno, Event, Hooks, Piece, RawLock, VmaNode};
use kvma_test_support::{Inode, LockHolds, Log, TestKernel};

use super::{ANON, AT, PAGE, RW};

type Data = LinuxVma<Inode>;
pub type Alloc = Arc<BoxAlloc<VmaNode<Data>>>;
pub type Space = AddrSpace<Mm<Inode, Alloc>>;

/// Private memory at a fixed address.
pub const FIXED: u64 = ANON | MAP_FIXED;
/// The name of special memory.
const VDSO: Inode = Inode::new(1).named("[vdso]");

pub fn layout() -> Layout {
    Layout::x86_64(8 << 20)
}

pub fn new_space() -> Space {
    AddrSpace::new(Mm::new(layout(), Alloc::default()).unwrap())
}

pub fn at(page: u64) -> u64 {
    AT + page * PAGE
}

fn map(space: &Space, page: u64, pages: u64) {
    let args =
        Mmap { addr: at(page), len: pages * PAGE, prot: RW, flags: FIXED, offset: 0, file: None };
    space.mmap(args, &mut NoKernel).unwrap();
}

/// Maps `count` VMAs of one page, with gaps of one page between them.
fn map_row(space: &Space, first: u64, count: u64) {
    (0..count).for_each(|n| map(space, first + 2 * n, 1));
}

/// Maps `count` VMAs of one page without gaps between them. No two of them merge.
fn map_neighbours<L: RawLock>(space: &AddrSpace<Mm<Inode, Alloc>, L>, first: u64, count: u64) {
    for n in 0..count {
        let (addr, prot) = (at(first + n), [RW, PROT_READ][n as usize % 2]);
        let args = Mmap { addr, len: PAGE, prot, flags: FIXED, offset: 0, file: None };
        space.mmap(args, &mut NoKernel).unwrap();
    }
}

fn special(space: &Space, page: u64, pages: u64) {
    let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND;
    let handle = Some((VDSO, Role::Special));
    let vma = Install { start: at(page), end: at(page + pages), flags, offset: 0, handle };
    space.install(vma, &mut NoKernel).unwrap();
}

fn seal(space: &Space, page: u64, pages: u64) {
    space.mseal(at(page), pages * PAGE, 0, &mut NoKernel).unwrap();
}

pub fn set_lock_limit(space: &Space, pages: u64) {
    let limits = Limits::default().with(Resource::MemLock, pages * PAGE);
    space.update(0, &mut NoKernel, |mm, _| mm.set_limits(limits));
}

/// Returns the first page and the pages of each VMA.
fn vmas(space: &Space) -> Vec<(u64, u64)> {
    space.inspect(|mm| {
        mm.check().unwrap();
        mm.iter().map(|vma| ((vma.start() - AT) / PAGE, vma.page_count())).collect()
    })
}

pub fn usage(space: &Space) -> Usage {
    space.inspect(|mm| *mm.usage())
}

/// A kernel that writes down what it hears, and lets others in while the lock is free.
pub struct Watch<'a> {
    space: &'a Space,
    /// Charges as much as the program has been charged, refuses and may what it is told.
    pub kernel: TestKernel,
    pub log: Log,
    pub lock: LockHolds<'a>,
    /// Refuses the `prepare` that follows so many others.
    pub refuse_after: Option<usize>,
}

impl<'a> Watch<'a> {
    pub fn new(space: &'a Space, between: &'a dyn Fn(usize)) -> Self {
        let kernel = TestKernel::default().with_charged(usage(space).committed());
        let (log, lock) = (Log::default(), LockHolds::new(between));
        Watch { space, kernel, log, lock, refuse_after: None }
    }
}

impl Hooks<Data> for Watch<'_> {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, Data>) -> Result<(), Errno> {
        self.log.prepare(event)?;
        match self.refuse_after.as_mut() {
            Some(0) => return Err(Errno::EAGAIN),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, Data>) {
        self.log.cancel(event);
    }

    fn on_map(&mut self, piece: &Piece<'_, Data>) {
        self.log.on_map(piece);
        self.lock.count();
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Data>) {
        self.log.on_unmap(piece);
        self.lock.count();
    }

    fn on_protect(&mut self, piece: &Piece<'_, Data>, old: &Attrs) {
        let was = old.user_bits();
        self.log.note(format!("protect {:?}, was {was:x}", piece.range()));
        self.lock.count();
    }

    fn flush_begin(&mut self) {
        Hooks::<Data>::flush_begin(&mut self.log);
    }

    /// Checks between two batches that everything is right, and charged.
    fn flush_wait(&mut self) {
        Hooks::<Data>::flush_wait(&mut self.log);
        self.space.inspect(|mm| mm.check()).unwrap();
        assert_eq!(self.kernel.charged, usage(self.space).committed());
        self.lock.end();
        // Others have a kernel of their own.
        self.kernel.charged = usage(self.space).committed();
    }
}

impl Kernel<Inode> for Watch<'_> {
    fn capabilities(&self) -> Capabilities {
        self.kernel.capabilities
    }

    fn charge(&mut self, bytes: u64, usage: &Usage) -> Result<(), Errno> {
        self.kernel.charge(bytes, usage)
    }

    fn uncharge(&mut self, bytes: u64) {
        self.kernel.uncharge(bytes);
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, Data>) -> Result<(), Errno> {
        self.log.note(format!("{op:?} {:?}", piece.range()));
        Ok(())
    }
}

/// Nobody does anything between two batches.
pub const NOBODY: &dyn Fn(usize) = &|_| ();

#[test]
fn munmap_releases_the_lock_every_few_vmas() {
    let space = new_space();
    map(&space, 0, 11); // To be split at page 10.
    map_row(&space, 12, 998);
    map(&space, 2008, 5); // To be split at page 2010.
    let mut kernel = Watch::new(&space, NOBODY);
    assert_eq!(space.munmap(at(10), 2000 * PAGE, &mut kernel), Ok(0));
    assert_eq!(
        (kernel.lock.longest, kernel.lock.holds),
        (MAX_VMAS_PER_LOCK_HOLD, 1000usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD))
    );
    assert_eq!(vmas(&space), [(0, 10), (2010, 3)]);
    assert_eq!(kernel.log.count("prepare"), 2, "{:?}", &kernel.log.lines[..4]);
    assert!(kernel.log.lines[0].starts_with(&format!("prepare unmap {:#x}", at(10))));
    assert!(kernel.log.lines[1].starts_with(&format!("prepare unmap {:#x}", at(2008))));
}

#[test]
fn munmap_leaves_what_others_map_behind_it_and_takes_what_they_map_ahead() {
    let space = new_space();
    map_row(&space, 10, 200);
    let between = |hold| {
        if hold == 1 {
            map(&space, 20, 1);
            map(&space, 301, 1); // Merges with 300 and 302.
        }
    };
    let mut kernel = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut kernel), Ok(0));
    assert_eq!(vmas(&space), [(20, 1)]);
}

/// A seal anywhere in the range, even at its end, is found before anything
/// goes.
#[test]
fn munmap_finds_a_seal_before_the_first_batch() {
    let space = new_space();
    map(&space, 8, 4);
    map_row(&space, 13, 200);
    seal(&space, 411, 1);
    let mut kernel = Watch::new(&space, NOBODY);
    assert_eq!(space.munmap(at(10), 1000 * PAGE, &mut kernel), Err(Errno::EPERM));
    assert_eq!(kernel.log.lines, [""; 0]);
    // The split at the beginning stays, as in Linux.
    assert_eq!(vmas(&space)[..2], [(8, 2), (10, 2)]);
    assert_eq!(vmas(&space).len(), 202);
    // A seal elsewhere does not matter.
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut kernel), Ok(0));
    assert_eq!(vmas(&space), [(8, 2), (411, 1)]);
}

#[test]
fn munmap_does_not_remove_what_others_seal_ahead_of_it() {
    let space = new_space();
    map_row(&space, 10, 200);
    let between = |hold| {
        if hold == 1 {
            seal(&space, 10 + 2 * 100, 1);
        }
    };
    let mut kernel = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut kernel), Err(Errno::EPERM));
    // The first batch has gone; the second stays, with the seal in it.
    let left: Vec<_> = (64..200).map(|n| (10 + 2 * n, 1)).collect();
    assert_eq!(vmas(&space), left);
    assert_eq!(usage(&space).total(), 136 * PAGE);
}

#[test]
fn munmap_does_not_split_special_memory_that_others_put_across_its_end() {
    let space = new_space();
    map_row(&space, 10, 100);
    let between = |hold| {
        if hold == 1 {
            space.munmap(at(140), 200 * PAGE, &mut NoKernel).unwrap();
            special(&space, 208, 4);
        }
    };
    let mut kernel = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 200 * PAGE, &mut kernel), Err(Errno::EINVAL));
    assert_eq!(vmas(&space).last(), Some(&(208, 4)));
}

/// Another thread puts a VMA across both ends of what is left, and there are as many VMAs as
/// allowed.
#[test]
fn munmap_makes_no_gap_beyond_the_limit_on_vmas() {
    let space = new_space();
    map_row(&space, 10, 100);
    let between = |hold| {
        if hold == 1 {
            map(&space, 5, 300);
            space.update(0, &mut NoKernel, |mm, _| mm.set_max_map_count(1));
        }
    };
    let mut kernel = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 200 * PAGE, &mut kernel), Err(Errno::ENOMEM));
    assert_eq!(vmas(&space), [(5, 300)]);
}

/// Memory that may not be split ends where a batch ends, and where the range does.
#[test]
fn munmap_takes_special_memory_at_the_end_of_a_batch() {
    let space = new_space();
    map_row(&space, 10, 200);
    for last in [2 * MAX_VMAS_PER_LOCK_HOLD as u64, 200] {
        space.munmap(at(8 + 2 * last), PAGE, &mut NoKernel).unwrap();
        special(&space, 8 + 2 * last, 1);
    }
    let mut kernel = Watch::new(&space, NOBODY);
    assert_eq!(space.munmap(at(10), 399 * PAGE, &mut kernel), Ok(0));
    assert_eq!(vmas(&space), []);
}

/// Another thread puts a VMA across the start of what is left. It ends with the range, so there
/// are no more VMAs than before.
#[test]
fn munmap_shortens_a_vma_at_the_limit_on_vmas() {
    let space = new_space();
    map_row(&space, 10, 100);
    let between = |hold| {
        if hold == 1 {
            map(&space, 5, 205);
            space.update(0, &mut NoKernel, |mm, _| mm.set_max_map_count(1));
        }
    };
    let mut kernel = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 200 * PAGE, &mut kernel), Ok(0));
    assert_eq!(vmas(&space).len(), 1);
}

#[test]
fn munmap_that_is_refused_removes_nothing() {
    let space = new_space();
    map_row(&space, 10, 200);
    let mut kernel = Watch::new(&space, NOBODY);
    kernel.refuse_after = Some(1);
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut kernel), Err(Errno::EAGAIN));
    assert_eq!(
        (kernel.log.count("prepare"), kernel.log.count("cancel"), kernel.log.count("unmap")),
        (2, 1, 0)
    );
    assert_eq!(vmas(&space).len(), 200);
    assert_eq!(space.munmap(at(10) + 1, PAGE, &mut kernel), Err(Errno::EINVAL));
    assert_eq!(space.munmap(at(10), 0, &mut kernel), Err(Errno::EINVAL));
}

/// The locked pages.
fn locked(space: &Space) -> u64 {
    usage(space).locked() / PAGE
}

#[test]
fn mlockall_releases_the_lock_every_few_vmas() {
    let space = new_space();
    map_row(&space, 10, 1000);
    special(&space, 5000, 1);
    let future = Cell::new(false);
    let between = |hold| {
        if hold == 1 {
            // Behind the batch. It is locked because of MCL_FUTURE.
            assert_eq!(locked(&space), MAX_VMAS_PER_LOCK_HOLD as u64);
            map(&space, 0, 1);
            future.set(locked(&space) == 1 + MAX_VMAS_PER_LOCK_HOLD as u64);
        }
    };
    let mut kernel = Watch::new(&space, &between);
    let all = u64::from((MCL_CURRENT | MCL_FUTURE) as u32);
    assert_eq!(space.mlockall(all, &mut kernel), Ok(0));
    assert!(future.get());
    assert_eq!(
        (kernel.lock.longest, kernel.lock.holds),
        (MAX_VMAS_PER_LOCK_HOLD, 1000usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD))
    );
    assert_eq!(locked(&space), 1001);
    // Each VMA is populated in the hold in which it was locked. Others populate what they map.
    assert_eq!(kernel.log.count("Populate"), 1001);
    let first_wait = kernel.log.lines.iter().position(|line| line == "flush_wait").unwrap();
    let first = kernel.log.lines[..first_wait].iter();
    assert_eq!(first.filter(|line| line.starts_with("Populate")).count(), MAX_VMAS_PER_LOCK_HOLD);

    let mut kernel = Watch::new(&space, NOBODY);
    assert_eq!(space.munlockall(&mut kernel), 0);
    assert_eq!((kernel.lock.longest, kernel.log.count("Populate")), (MAX_VMAS_PER_LOCK_HOLD, 0));
    assert_eq!(locked(&space), 0);
    map(&space, 6000, 1);
    assert_eq!(locked(&space), 0, "what is mapped later is not locked either");
    // With ONFAULT nothing is populated but what cannot be locked.
    let mut kernel = Watch::new(&space, NOBODY);
    assert_eq!(space.mlockall(MCL_CURRENT | MCL_ONFAULT, &mut kernel), Ok(0));
    assert_eq!((kernel.lock.longest, kernel.log.count("Populate")), (MAX_VMAS_PER_LOCK_HOLD, 1));
    assert_eq!(locked(&space), 1002);
}

#[test]
fn mlockall_keeps_within_its_limit_whatever_others_map() {
    for (more, answer, locks) in
        [(101, Err(Errno::ENOMEM), 64..300), (100, Ok(0), 300..301), (0, Ok(0), 200..201)]
    {
        let space = new_space();
        map_row(&space, 10, 200);
        set_lock_limit(&space, 300);
        let between = |hold| {
            if hold == 1 && more > 0 {
                map(&space, 200, more); // Over some VMAs, and beside others.
                let total = usage(&space).total() / PAGE;
                map(&space, 1000, 200 + more - total);
            }
        };
        let mut kernel = Watch::new(&space, &between);
        let result = space.mlockall(MCL_CURRENT, &mut kernel);
        assert_eq!(result, answer, "{more} more pages");
        assert!(locks.contains(&locked(&space)), "{more} more pages, {} locked", locked(&space));
    }
}

/// The program exceeds the limit with all that others have mapped, but not with what can be locked.
#[test]
fn mlockall_counts_only_what_it_locks() {
    let space = new_space();
    map_row(&space, 10, 100);
    set_lock_limit(&space, 100);
    let between = |hold| {
        if hold == 1 {
            special(&space, 5000, 50);
        }
    };
    let mut kernel = Watch::new(&space, &between);
    assert_eq!(space.mlockall(MCL_CURRENT, &mut kernel), Ok(0));
    assert_eq!(locked(&space), 100);
}

#[test]
fn mlockall_checks_everything_before_the_first_batch() {
    let space = new_space();
    map_row(&space, 10, 200);
    set_lock_limit(&space, 199);
    let mut kernel = Watch::new(&space, NOBODY);
    for (flags, errno) in [
        (0, Errno::EINVAL),
        (MCL_ONFAULT, Errno::EINVAL),
        (8, Errno::EINVAL),
        (MCL_CURRENT, Errno::ENOMEM),
    ] {
        assert_eq!(space.mlockall(flags, &mut kernel), Err(errno));
    }
    set_lock_limit(&space, 0);
    assert_eq!(space.mlockall(MCL_CURRENT, &mut kernel), Err(Errno::EPERM));
    assert_eq!((locked(&space), kernel.log.lines.len()), (0, 0));
    kernel.kernel.capabilities = Capabilities::IPC_LOCK;
    assert_eq!(space.mlockall(MCL_FUTURE, &mut kernel), Ok(0));
    assert_eq!((locked(&space), kernel.log.lines.len()), (0, 0));
    assert_eq!(space.mlockall(MCL_CURRENT, &mut kernel), Ok(0));
    assert_eq!(locked(&space), 200);
}

#[test]
fn clear_releases_the_lock_every_few_vmas() {
    let space = new_space();
    map_row(&space, 10, 1000);
    seal(&space, 10, 1);
    space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(at(9000), 0));
    let between = |hold| {
        if hold == 3 {
            map(&space, 0, 1); // Behind the batch. It goes, too.
        }
    };
    let mut kernel = Watch::new(&space, &between);
    let next = layout().with_base(0x7000_0000_0000);
    assert_eq!(space.clear(next.with_guard_gap(5), &mut kernel), Err(Errno::EINVAL));
    assert_eq!(vmas(&space).len(), 1000);
    assert_eq!(space.clear(next, &mut kernel), Ok(()));
    assert_eq!((kernel.lock.longest, kernel.log.count("prepare")), (MAX_VMAS_PER_LOCK_HOLD, 0));
    assert_eq!((vmas(&space), kernel.kernel.charged), (vec![], 0));
    assert_eq!(space.inspect(|mm| (*mm.layout(), mm.start_brk())), (next, 0));
    assert_eq!(usage(&space), Usage::default());
}

/// Calls that go from VMA to VMA release the lock as well. Counted at the lock: not all of them
/// flush anything.
#[test]
fn advice_locks_and_reports_release_the_lock_every_few_vmas() {
    let counting = Counting::default();
    let space = AddrSpace::with_lock(
        Mm::<Inode, Alloc>::new(layout(), Alloc::default()).unwrap(),
        &counting,
    );
    let few = MAX_VMAS_PER_LOCK_HOLD as u64;
    let count = 10 * few + 1;
    map_neighbours(&space, 0, count);
    let bytes = count * PAGE;
    let kernel = &mut TestKernel::default();
    type Call<'a> = &'a dyn Fn(&mut TestKernel) -> Result<u64, Errno>;
    let calls: [(&str, usize, Call<'_>); 7] = [
        ("MADV_DONTDUMP", 11, &|kernel| space.madvise(at(0), bytes, 16, kernel)),
        ("MADV_DONTNEED", 11, &|kernel| space.madvise(at(0), bytes, 4, kernel)),
        ("mlock", 22, &|kernel| space.mlock(at(0), bytes, kernel)),
        ("mincore", 11, &|kernel| space.mincore(at(0), bytes, kernel)),
        ("msync", 11, &|kernel| space.msync(at(0), bytes, MS_ASYNC, kernel)),
        ("munlock", 11, &|kernel| space.munlock(at(0), bytes, kernel)),
        ("MADV_DODUMP of few", 1, &|kernel| space.madvise(at(0), few * PAGE, 17, kernel)),
    ];
    for (name, holds, call) in calls {
        let before = counting.count.get();
        assert_eq!(call(kernel), Ok(0), "{name}");
        assert_eq!(counting.count.get() - before, holds, "{name}");
    }
}

/// A lock for one thread that counts how often it is taken.
#[derive(Default)]
struct Counting {
    count: Cell<usize>,
    held: Cell<bool>,
    /// Called when the lock is next released, as if others had waited for it.
    after_release: Cell<Option<Box<dyn Fn()>>>,
}

// SAFETY: only one thread can use it, as it is not `Sync`, and that one is excluded while it holds
// the lock.
unsafe impl RawLock for &Counting {
    type Token = ();

    fn acquire(&self) {
        self.try_acquire().expect("the only thread has the lock already");
    }

    fn try_acquire(&self) -> Option<()> {
        let free = !self.held.replace(true);
        self.count.set(self.count.get() + usize::from(free));
        free.then_some(())
    }

    unsafe fn release(&self, (): ()) {
        self.held.set(false);
        if let Some(others) = self.after_release.take() {
            others();
        }
    }
}

/// A vector of many ranges, some of them empty or over several VMAs, is advised on a few VMAs at a
/// time, and as in one hold.
#[test]
fn process_madvise_is_done_in_batches() {
    let counting = Counting::default();
    let space = AddrSpace::with_lock(
        Mm::<Inode, Alloc>::new(layout(), Alloc::default()).unwrap(),
        &counting,
    );
    map_neighbours(&space, 0, 700);
    let kernel = &mut TestKernel::default();
    let mut advise = |ranges: Vec<(u64, u64)>, holds: usize| {
        let whole = space.update(3, kernel, |mm, call| {
            mm.process_madvise(Target::Own, ranges.iter().copied(), 4, 0, call)
        });
        let before = counting.count.get();
        let answer = space.process_madvise(Target::Own, ranges, 4, 0, kernel);
        assert_eq!(answer, whole);
        assert_eq!(counting.count.get() - before, holds);
        answer
    };
    // A turn for each range and for each VMA.
    assert_eq!(advise((0..640).map(|n| (at(n), PAGE)).collect(), 20), Ok(640 * PAGE));
    assert_eq!(advise(vec![(at(0), 300 * PAGE), (at(400), 300 * PAGE)], 10), Ok(600 * PAGE));
    assert_eq!(advise(vec![(at(0), PAGE), (at(9), 0), (at(5), PAGE)], 1), Ok(2 * PAGE));
    // Ends at the gap.
    let beyond = vec![(at(0), 320 * PAGE), (at(650), 60 * PAGE), (at(0), PAGE)];
    assert_eq!(advise(beyond, 6), Ok(320 * PAGE));
    assert_eq!(advise(vec![(at(699), 2 * PAGE), (at(0), PAGE)], 1), Err(Errno::ENOMEM));
}

#[test]
fn madvise_reports_a_gap_of_an_earlier_batch_at_the_end() {
    let space = new_space();
    map(&space, 0, 1);
    map_neighbours(&space, 2, 200);
    let dump = |page| {
        space.inspect(|mm| VmFlags::of(&mm.iter().find(|vma| vma.start() == at(page)).unwrap()))
    };
    assert_eq!(space.madvise(at(0), 202 * PAGE, 16, &mut NoKernel), Err(Errno::ENOMEM));
    assert!([0, 2, 201].iter().all(|&page| dump(page).contains(VmFlags::DONT_DUMP)));
    // What stops at a gap stops there.
    assert_eq!(space.mincore(at(0), 202 * PAGE, &mut NoKernel), Err(Errno::ENOMEM));
    assert_eq!(space.mlock(at(2), 201 * PAGE, &mut NoKernel), Err(Errno::ENOMEM));
    assert_eq!(locked(&space), 200, "all before the gap");
}

/// Another thread locks memory between two batches.
#[test]
fn mlock_keeps_within_its_limit_whatever_others_lock() {
    let space = new_space();
    map_row(&space, 1000, 100);
    map_neighbours(&space, 0, 200);
    set_lock_limit(&space, 210);
    let between = |hold| {
        if hold == 1 {
            for n in 0..50 {
                let _ = space.mlock(at(1000 + 2 * n), PAGE, &mut TestKernel::default());
            }
        }
    };
    let mut kernel = Watch::new(&space, &between);
    kernel.kernel.capabilities = Capabilities::empty();
    assert_eq!(space.mlock(at(0), 200 * PAGE, &mut kernel), Err(Errno::ENOMEM));
    assert_eq!(locked(&space), 210);
}
