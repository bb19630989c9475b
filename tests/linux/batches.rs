//! Long Linux calls that release the lock every few VMAs.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;

use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
use kvma::linux::abi::*;
use kvma::linux::{
    Capabilities, File, Install, Kernel, Layout, Limits, LinuxVma, Mm, Mmap, PageOp, Resource,
    Role, Usage, VmFlags,
};
use kvma::{AddrSpace, Attrs, BoxAlloc, Errno, Error, Event, Hooks, NoHooks, Piece, VmaNode};

/// The name of special memory.
#[derive(Clone, Debug, PartialEq)]
struct Name;

impl File for Name {
    fn id(&self) -> u64 {
        1
    }
    fn device(&self) -> (u32, u32) {
        (0, 0)
    }
    fn inode(&self) -> u64 {
        0
    }
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("[vdso]")
    }
}

type TheVma = LinuxVma<Name>;
type Alloc = Arc<BoxAlloc<VmaNode<TheVma>>>;
type Space = AddrSpace<Mm<Name, Alloc>>;

const PAGE: u64 = 4096;
const AT: u64 = 0x5000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

fn layout() -> Layout {
    Layout::x86_64(8 << 20)
}

fn space() -> Space {
    AddrSpace::new(Mm::new(layout(), Alloc::default()).unwrap())
}

fn at(page: u64) -> u64 {
    AT + page * PAGE
}

fn map(space: &Space, page: u64, pages: u64) {
    let args =
        Mmap { addr: at(page), len: pages * PAGE, prot: RW, flags: ANON, offset: 0, file: None };
    space.update(3, &mut NoHooks, |mm, call| mm.mmap(args, call)).unwrap();
}

/// `count` VMAs of a page, with as much room between them.
fn map_row(space: &Space, first: u64, count: u64) {
    (0..count).for_each(|n| map(space, first + 2 * n, 1));
}

fn special(space: &Space, page: u64, pages: u64) {
    let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND;
    let handle = Some((Name, Role::Special));
    let vma = Install { start: at(page), end: at(page + pages), flags, offset: 0, handle };
    space.update(3, &mut NoHooks, |mm, call| mm.install(vma, call)).unwrap();
}

fn seal(space: &Space, page: u64, pages: u64) {
    space.update(3, &mut NoHooks, |mm, call| mm.mseal(at(page), pages * PAGE, 0, call)).unwrap();
}

fn set_lock_limit(space: &Space, pages: u64) {
    let limits = Limits::default().with(Resource::MemLock, pages * PAGE);
    space.update(0, &mut NoHooks, |mm, _| mm.set_limits(limits));
}

/// First page and pages of each VMA.
fn vmas(space: &Space) -> Vec<(u64, u64)> {
    space.inspect(|mm| {
        mm.check().unwrap();
        mm.iter().map(|vma| ((vma.start() - AT) / PAGE, vma.pages())).collect()
    })
}

fn usage(space: &Space) -> Usage {
    space.inspect(|mm| *mm.usage())
}

/// An owner that writes down what it hears, and lets others in while the lock is free.
struct Watch<'a> {
    space: &'a Space,
    between: &'a dyn Fn(usize),
    heard: Vec<String>,
    /// VMAs that it heard of since the lock was taken, and most at a time.
    now: usize,
    longest: usize,
    holds: usize,
    /// Pages that are promised. Starts as what the program has.
    committed: u64,
    /// `prepare` refuses when it is called for the so-many-th time.
    refuse: Option<usize>,
    caps: Capabilities,
}

impl<'a> Watch<'a> {
    fn new(space: &'a Space, between: &'a dyn Fn(usize)) -> Self {
        Watch {
            space,
            between,
            heard: Vec::new(),
            now: 0,
            longest: 0,
            holds: 0,
            committed: usage(space).committed(),
            refuse: None,
            caps: Capabilities::empty(),
        }
    }

    fn count(&mut self, what: &str, piece: &Piece<'_, TheVma>) {
        self.heard.push(format!("{what} {piece:?}"));
        self.now += 1;
    }

    fn pieces(&self, what: &str) -> usize {
        self.heard.iter().filter(|heard| heard.starts_with(what)).count()
    }
}

impl Hooks<TheVma> for Watch<'_> {
    fn prepare(&mut self, event: &Event<'_, TheVma>) -> Result<(), Error> {
        self.heard.push(format!("prepare {event:?}"));
        match self.refuse.as_mut() {
            Some(0) => return Err(Error::Refused(Errno::EAGAIN)),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }
    fn cancel(&mut self, event: &Event<'_, TheVma>) {
        self.heard.push(format!("cancel {event:?}"));
    }
    fn map(&mut self, piece: &Piece<'_, TheVma>) {
        self.count("map", piece);
    }
    fn unmap(&mut self, piece: &Piece<'_, TheVma>) {
        self.count("unmap", piece);
    }
    fn protect(&mut self, piece: &Piece<'_, TheVma>, old: &Attrs) {
        self.count(&format!("protect, was {:x},", old.user_bits()), piece);
    }
    fn flush_begin(&mut self) {
        self.heard.push("flush_begin".into());
    }
    /// Between two pieces everything is right, and said to be.
    fn flush_wait(&mut self) {
        self.heard.push("flush_wait".into());
        self.space.inspect(|mm| mm.check()).unwrap();
        assert_eq!(self.committed, usage(self.space).committed());
        self.longest = self.longest.max(std::mem::take(&mut self.now));
        self.holds += 1;
        (self.between)(self.holds);
        self.committed = usage(self.space).committed();
    }
}

impl Kernel<Name> for Watch<'_> {
    fn capabilities(&self) -> Capabilities {
        self.caps
    }
    fn commit(&mut self, pages: u64) -> Result<(), Errno> {
        self.committed += pages;
        Ok(())
    }
    fn uncharge(&mut self, pages: u64) {
        self.committed =
            self.committed.checked_sub(pages).expect("more given back than was promised");
    }
    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, TheVma>) -> Result<(), Errno> {
        self.heard.push(format!("{action:?} {piece:?}"));
        Ok(())
    }
}

const NOBODY: &dyn Fn(usize) = &|_| ();

#[test]
fn munmap_releases_the_lock_every_few_vmas() {
    let space = space();
    map(&space, 0, 11); // to be cut at 10
    map_row(&space, 12, 998);
    map(&space, 2008, 5); // to be cut at 2010
    let mut owner = Watch::new(&space, NOBODY);
    assert_eq!(space.munmap(at(10), 2000 * PAGE, &mut owner), Ok(0));
    assert_eq!(
        (owner.longest, owner.holds),
        (MAX_VMAS_PER_LOCK_HOLD, 1000usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD))
    );
    assert_eq!(vmas(&space), [(0, 10), (2010, 3)]);
    assert_eq!(owner.pieces("prepare"), 2, "{:?}", &owner.heard[..4]);
    assert!(owner.heard[0].starts_with(&format!("prepare unmap {:#x}", at(10))));
    assert!(owner.heard[1].starts_with(&format!("prepare unmap {:#x}", at(2008))));
}

#[test]
fn munmap_leaves_what_others_map_behind_it_and_takes_what_they_map_ahead() {
    let space = space();
    map_row(&space, 10, 200);
    let between = |hold| {
        if hold == 1 {
            map(&space, 20, 1);
            map(&space, 301, 1); // joins 300 and 302
        }
    };
    let mut owner = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut owner), Ok(0));
    assert_eq!(vmas(&space), [(20, 1)]);
}

/// As Linux: what is sealed anywhere in the range, even at its end, is found before anything goes.
#[test]
fn munmap_finds_a_seal_before_the_first_piece() {
    let space = space();
    map(&space, 8, 4);
    map_row(&space, 13, 200);
    seal(&space, 411, 1);
    let mut owner = Watch::new(&space, NOBODY);
    assert_eq!(space.munmap(at(10), 1000 * PAGE, &mut owner), Err(Errno::EPERM));
    assert_eq!(owner.heard, [""; 0]);
    // The cut at the beginning stays, as in Linux.
    assert_eq!(vmas(&space)[..2], [(8, 2), (10, 2)]);
    assert_eq!(vmas(&space).len(), 202);
    // A seal elsewhere does not matter.
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut owner), Ok(0));
    assert_eq!(vmas(&space), [(8, 2), (411, 1)]);
}

#[test]
fn munmap_does_not_remove_what_others_seal_ahead_of_it() {
    let space = space();
    map_row(&space, 10, 200);
    let between = |hold| {
        if hold == 1 {
            seal(&space, 10 + 2 * 100, 1);
        }
    };
    let mut owner = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut owner), Err(Errno::EPERM));
    // The first piece has gone, the second stays with the seal in it.
    let left: Vec<_> = (64..200).map(|n| (10 + 2 * n, 1)).collect();
    assert_eq!(vmas(&space), left);
    assert_eq!(usage(&space).total(), 136);
}

#[test]
fn munmap_does_not_cut_special_memory_that_others_put_across_its_end() {
    let space = space();
    map_row(&space, 10, 100);
    let between = |hold| {
        if hold == 1 {
            space.munmap(at(140), 200 * PAGE, &mut NoHooks).unwrap();
            special(&space, 208, 4);
        }
    };
    let mut owner = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 200 * PAGE, &mut owner), Err(Errno::EINVAL));
    assert_eq!(vmas(&space).last(), Some(&(208, 4)));
}

/// Another thread's VMA lies across both ends of what is left, and there are as many VMAs as there
/// may be.
#[test]
fn munmap_makes_no_hole_beyond_the_limit_on_vmas() {
    let space = space();
    map_row(&space, 10, 100);
    let between = |hold| {
        if hold == 1 {
            map(&space, 5, 300);
            space.update(0, &mut NoHooks, |mm, _| mm.set_max_map_count(1));
        }
    };
    let mut owner = Watch::new(&space, &between);
    assert_eq!(space.munmap(at(10), 200 * PAGE, &mut owner), Err(Errno::ENOMEM));
    assert_eq!(vmas(&space), [(5, 300)]);
}

#[test]
fn munmap_that_is_refused_removes_nothing() {
    let space = space();
    map_row(&space, 10, 200);
    let mut owner = Watch::new(&space, NOBODY);
    owner.refuse = Some(1);
    assert_eq!(space.munmap(at(10), 400 * PAGE, &mut owner), Err(Errno::EAGAIN));
    assert_eq!((owner.pieces("prepare"), owner.pieces("cancel"), owner.pieces("unmap")), (2, 1, 0));
    assert_eq!(vmas(&space).len(), 200);
    assert_eq!(space.munmap(at(10) + 1, PAGE, &mut owner), Err(Errno::EINVAL));
    assert_eq!(space.munmap(at(10), 0, &mut owner), Err(Errno::EINVAL));
}

fn locked(space: &Space) -> u64 {
    usage(space).locked()
}

#[test]
fn mlockall_releases_the_lock_every_few_vmas() {
    let space = space();
    map_row(&space, 10, 1000);
    special(&space, 5000, 1);
    let future = Cell::new(false);
    let between = |hold| {
        if hold == 1 {
            // Behind the piece: locked because of what has been said of the future.
            assert_eq!(locked(&space), MAX_VMAS_PER_LOCK_HOLD as u64);
            map(&space, 0, 1);
            future.set(locked(&space) == 1 + MAX_VMAS_PER_LOCK_HOLD as u64);
        }
    };
    let mut owner = Watch::new(&space, &between);
    let all = u64::from((MCL_CURRENT | MCL_FUTURE) as u32);
    assert_eq!(space.mlockall(all, &mut owner), Ok(0));
    assert!(future.get());
    assert_eq!(
        (owner.longest, owner.holds),
        (MAX_VMAS_PER_LOCK_HOLD, 1000usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD))
    );
    assert_eq!(locked(&space), 1001);
    // Each is brought in, in the hold in which it was locked. What others map, they bring in.
    assert_eq!(owner.pieces("Populate"), 1001);
    let first_wait = owner.heard.iter().position(|heard| heard == "flush_wait").unwrap();
    let first = owner.heard[..first_wait].iter();
    assert_eq!(first.filter(|heard| heard.starts_with("Populate")).count(), MAX_VMAS_PER_LOCK_HOLD);

    let mut owner = Watch::new(&space, NOBODY);
    assert_eq!(space.munlockall(&mut owner), 0);
    assert_eq!((owner.longest, owner.pieces("Populate")), (MAX_VMAS_PER_LOCK_HOLD, 0));
    assert_eq!(locked(&space), 0);
    map(&space, 6000, 1);
    assert_eq!(locked(&space), 0, "the future is not locked either");
    // On fault only: nothing is brought in but what cannot be locked.
    let mut owner = Watch::new(&space, NOBODY);
    assert_eq!(space.mlockall(MCL_CURRENT | MCL_ONFAULT, &mut owner), Ok(0));
    assert_eq!((owner.longest, owner.pieces("Populate")), (MAX_VMAS_PER_LOCK_HOLD, 1));
    assert_eq!(locked(&space), 1002);
}

#[test]
fn mlockall_keeps_within_its_limit_whatever_others_map() {
    for (more, answer, locks) in
        [(101, Err(Errno::ENOMEM), 64..300), (100, Ok(0), 300..301), (0, Ok(0), 200..201)]
    {
        let space = space();
        map_row(&space, 10, 200);
        set_lock_limit(&space, 300);
        let between = |hold| {
            if hold == 1 && more > 0 {
                map(&space, 200, more); // over some, and beside some
                let total = usage(&space).total();
                map(&space, 1000, 200 + more - total);
            }
        };
        let mut owner = Watch::new(&space, &between);
        let result = space.mlockall(MCL_CURRENT, &mut owner);
        assert_eq!(result, answer, "{more} more pages");
        assert!(locks.contains(&locked(&space)), "{more} more pages, {} locked", locked(&space));
    }
}

/// The program is over the limit by what others have mapped, but not with what can be locked of it.
#[test]
fn mlockall_counts_only_what_it_locks() {
    let space = space();
    map_row(&space, 10, 100);
    set_lock_limit(&space, 100);
    let between = |hold| {
        if hold == 1 {
            special(&space, 5000, 50);
        }
    };
    let mut owner = Watch::new(&space, &between);
    assert_eq!(space.mlockall(MCL_CURRENT, &mut owner), Ok(0));
    assert_eq!(locked(&space), 100);
}

#[test]
fn mlockall_checks_before_the_first_piece() {
    let space = space();
    map_row(&space, 10, 200);
    set_lock_limit(&space, 199);
    let mut owner = Watch::new(&space, NOBODY);
    for (flags, errno) in [
        (0, Errno::EINVAL),
        (MCL_ONFAULT, Errno::EINVAL),
        (8, Errno::EINVAL),
        (MCL_CURRENT, Errno::ENOMEM),
    ] {
        assert_eq!(space.mlockall(flags, &mut owner), Err(errno));
    }
    set_lock_limit(&space, 0);
    assert_eq!(space.mlockall(MCL_CURRENT, &mut owner), Err(Errno::EPERM));
    assert_eq!((locked(&space), owner.heard.len()), (0, 0));
    owner.caps = Capabilities::IPC_LOCK;
    assert_eq!(space.mlockall(MCL_FUTURE, &mut owner), Ok(0));
    assert_eq!((locked(&space), owner.heard.len()), (0, 0));
    assert_eq!(space.mlockall(MCL_CURRENT, &mut owner), Ok(0));
    assert_eq!(locked(&space), 200);
}

#[test]
fn clear_releases_the_lock_every_few_vmas() {
    let space = space();
    map_row(&space, 10, 1000);
    seal(&space, 10, 1);
    space.update(0, &mut NoHooks, |mm, _| mm.set_start_brk(at(9000), 0));
    let between = |hold| {
        if hold == 3 {
            map(&space, 0, 1); // behind: it goes, too
        }
    };
    let mut owner = Watch::new(&space, &between);
    let next = layout().with_base(0x7000_0000_0000);
    assert_eq!(space.clear(next.with_guard_gap(5), &mut owner), Err(Error::Unaligned));
    assert_eq!(vmas(&space).len(), 1000);
    assert_eq!(space.clear(next, &mut owner), Ok(()));
    assert_eq!((owner.longest, owner.pieces("prepare")), (MAX_VMAS_PER_LOCK_HOLD, 0));
    assert_eq!((vmas(&space), owner.committed), (vec![], 0));
    assert_eq!(space.inspect(|mm| (*mm.layout(), mm.start_brk())), (next, 0));
    assert_eq!(usage(&space), Usage::default());
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A call with everything that it depends on.
#[derive(Clone, Copy, Debug)]
enum Call {
    Munmap(u64, u64),
    Mlockall(u64),
    Munlockall,
    Clear,
    /// mmap, mprotect, mlock, munlock, mseal, madvise(DONTDUMP), brk: these are one hold either
    /// way.
    Other(u64, u64, u64),
}

fn pick(random: &mut Random, pages: u64) -> Call {
    let first = random.below(pages);
    let most = if random.below(4) == 0 { pages } else { 4 };
    let len = 1 + random.below(most.min(pages - first));
    match random.below(100) {
        0..15 => Call::Munmap(first, len),
        15..20 => Call::Mlockall([1, 2, 3, 5, 7, 4][random.below(6) as usize]),
        20..23 => Call::Munlockall,
        23 if random.below(20) == 0 => Call::Clear,
        _ => Call::Other(random.below(80), first, len),
    }
}

fn other(
    mm: &mut Mm<Name, Alloc>,
    kind: u64,
    first: u64,
    len: u64,
    call: &mut kvma::linux::Call<'_, Name, Alloc, Watch<'_>>,
) -> Result<u64, Errno> {
    let (addr, bytes) = (at(first), len * PAGE);
    let map = |prot| Mmap { addr, len: bytes, prot, flags: ANON, offset: 0, file: None };
    match kind {
        0..20 => mm.mmap(map(RW), call),
        20..40 => mm.mmap(map(PROT_READ), call),
        40..50 => mm.mprotect(addr, bytes, PROT_READ, call),
        50..60 => mm.mprotect(addr, bytes, RW, call),
        60..66 => mm.mlock(addr, bytes, call),
        66..70 => mm.munlock(addr, bytes, call),
        70..75 => mm.madvise(addr, bytes, 16, call),
        75 if first.is_multiple_of(8) => mm.mseal(addr, PAGE, 0, call),
        // Many small VMAs.
        75..79 => (first..first + len).step_by(2).try_fold(0, |_, page| {
            mm.mmap(
                Mmap {
                    addr: at(page),
                    len: PAGE,
                    prot: PROT_EXEC,
                    flags: ANON,
                    offset: 0,
                    file: None,
                },
                call,
            )
        }),
        _ => mm.brk(addr, call).checked_sub(1).ok_or(Errno::EINVAL),
    }
}

fn result(done: Result<(), Error>) -> Result<u64, Errno> {
    done.map(|()| 0).map_err(Error::errno)
}

fn in_pieces(space: &Space, asked: Call, owner: &mut Watch<'_>) -> Result<u64, Errno> {
    match asked {
        Call::Munmap(first, len) => space.munmap(at(first), len * PAGE, owner),
        Call::Mlockall(flags) => space.mlockall(flags, owner),
        Call::Munlockall => Ok(space.munlockall(owner)),
        Call::Clear => result(space.clear(layout(), owner)),
        Call::Other(kind, first, len) => {
            space.update(3, owner, |mm, call| other(mm, kind, first, len, call))
        }
    }
}

fn at_once(space: &Space, asked: Call, owner: &mut Watch<'_>) -> Result<u64, Errno> {
    space.update(3, owner, |mm, call| match asked {
        Call::Munmap(first, len) => mm.munmap(at(first), len * PAGE, call),
        Call::Mlockall(flags) => mm.mlockall(flags, call),
        Call::Munlockall => Ok(mm.munlockall(call)),
        Call::Clear => result(mm.clear(layout(), call)),
        Call::Other(kind, first, len) => other(mm, kind, first, len, call),
    })
}

/// All that a program can see, and the counts.
fn everything(space: &Space) -> (Vec<(u64, u64, u64)>, Usage) {
    space.inspect(|mm| {
        mm.check().unwrap();
        let vmas = mm.iter().map(|vma| (vma.start(), vma.pages(), VmFlags::of(&vma).bits()));
        (vmas.collect(), *mm.usage())
    })
}

/// Makes the same random calls in pieces and at once, on `pages` pages. Returns how often what
/// happened.
fn compare(seed: u64, pages: u64, calls: usize) -> (usize, usize) {
    let spaces = [space(), space()];
    for space in &spaces {
        space.update(0, &mut NoHooks, |mm, _| mm.set_max_map_count(pages as usize * 5 / 6));
        set_lock_limit(space, pages / 2);
    }
    let mut random = Random(seed);
    let (mut cut, mut failed) = (0, 0);
    for n in 0..calls {
        let asked = pick(&mut random, pages);
        let refuse = (random.below(30) == 0).then(|| random.below(3) as usize);
        let few = everything(&spaces[0]).0.len() <= MAX_VMAS_PER_LOCK_HOLD;
        let heard = RefCell::new(Vec::new());
        let answers = [in_pieces, at_once].map(|ask| {
            let space = &spaces[heard.borrow().len()];
            let mut owner = Watch::new(space, NOBODY);
            // In several pieces, fewer are prepared.
            owner.refuse = refuse.filter(|_| few);
            let answer = ask(space, asked, &mut owner);
            assert_eq!(owner.committed, usage(space).committed(), "{seed} {n}: {asked:?}");
            cut += usize::from(owner.holds > 1);
            heard.borrow_mut().push(owner.heard);
            answer
        });
        failed += usize::from(answers[0].is_err() && !matches!(asked, Call::Other(..)));
        assert_eq!(answers[0], answers[1], "{seed} {n}: {asked:?}");
        assert_eq!(everything(&spaces[0]), everything(&spaces[1]), "{seed} {n}: {asked:?}");
        let [one, other] = &heard.borrow()[..] else { unreachable!() };
        assert!(!few || one == other, "{seed} {n}: {asked:?}\n{one:#?}\n{other:#?}");
    }
    (cut, failed)
}

/// `KVMA_SEED` for other calls.
fn seed() -> u64 {
    std::env::var("KVMA_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// With few VMAs nobody can tell a call in pieces from the other: answers, VMAs, counts and hooks
/// are the same.
#[test]
fn few_vmas_are_one_piece_which_is_the_call_itself() {
    let results: Vec<_> = (0..10).map(|n| compare(seed() + n, 60, 400)).collect();
    assert!(results.iter().all(|&(cut, _)| cut == 0));
    assert!(results.iter().map(|&(_, failed)| failed).sum::<usize>() > 100);
}

/// With many, and nobody else, the result is the same, and so is the answer.
#[test]
fn many_pieces_come_to_the_same_as_the_call_at_once() {
    let results: Vec<_> = (0..6).map(|n| compare(seed() + n, 400, 700)).collect();
    assert!(results.iter().map(|&(cut, _)| cut).sum::<usize>() > 5, "{results:?}");
    assert!(results.iter().map(|&(_, failed)| failed).sum::<usize>() > 20, "{results:?}");
}
