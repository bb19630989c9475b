//! The parts from which the models are made.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::loom::sync::{Arc, Mutex};
use ::loom::thread;
use kvma::hooks::Advice;
use kvma::linux::{
    Access, Fault, FaultAction, Inheritance, Install, Kernel, Layout, LinuxVma, Mm, NoKernel,
    VmFlags,
};
use kvma::*;
use kvma_test_support::Inode;

pub type Alloc = std::sync::Arc<BoxAlloc<VmaNode>>;
pub type Space = AddrSpace<VmMap<(), Alloc>>;
pub type LinuxSpace = AddrSpace<Mm<Inode, std::sync::Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>>>;

pub const PAGE: u64 = 0x1000;
pub const RO: Prot = Prot::READ;
pub const RW: Prot = Prot::RW;

/// Runs `body` through all interleavings, or through those with at most `preemptions` preemptions.
/// Returns what `body` has noted in all executions together.
#[track_caller]
pub fn explore(
    preemptions: Option<usize>,
    body: impl Fn(&Seen) + Sync + Send + 'static,
) -> &'static Seen {
    let seen: &'static Seen = Box::leak(Box::new(Seen::default()));
    let executions: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    let mut model = ::loom::model::Builder::new();
    model.max_branches = 100_000;
    model.preemption_bound = preemptions.or(model.preemption_bound);
    if cfg!(kvma_halves) {
        // Words of two halves take twice as many accesses.
        model.preemption_bound = Some(preemptions.unwrap_or(2).min(2));
    }
    let began = std::time::Instant::now();
    model.check(move || {
        executions.fetch_add(1, Ordering::Relaxed);
        body(seen);
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{executions} executions in {:.1?}: {seen:?}", began.elapsed());
    assert!(executions > 1, "nothing was explored");
    seen
}

/// Counts what has happened, so that a model can assert that all of it did.
#[derive(Default)]
pub struct Seen([AtomicUsize; 6]);

impl Seen {
    pub fn note(&self, what: usize) {
        self.0[what].fetch_add(1, Ordering::Relaxed);
    }

    /// Asserts that each of the first `kinds` kinds was noted.
    #[track_caller]
    pub fn assert_all(&self, kinds: usize) {
        assert!(self.0[..kinds].iter().all(|count| count.load(Ordering::Relaxed) > 0), "{self:?}");
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>().fmt(f)
    }
}

/// Returns an empty space of 256 pages, which begins at page 1.
pub fn space(alloc: &Alloc) -> Arc<Space> {
    Arc::new(bare_space(alloc))
}

pub fn bare_space(alloc: &Alloc) -> Space {
    AddrSpace::new(VmMap::new(PAGE..=0x10_0fff, PageSize::SIZE_4K, alloc.clone()).unwrap())
}

pub fn alloc() -> Alloc {
    std::sync::Arc::new(BoxAlloc::new())
}

pub fn request(page: u64, pages: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, Attrs::new(prot))
}

pub fn map<A>(space: &AddrSpace<VmMap<(), A>>, page: u64, pages: u64, prot: Prot)
where
    A: NodeAlloc<VmaNode> + Clone,
{
    space.map(request(page, pages, prot), &mut NoHooks).unwrap();
}

/// Maps with the node of what was unmapped last: it lies at the front of the allocator's list.
pub fn map_reusing(space: &Space, page: u64, pages: u64, prot: Prot) {
    space
        .update(1, &mut NoHooks, |map, update| map.map(request(page, pages, prot), update))
        .unwrap();
}

pub fn unmap(space: &Space, page: u64, pages: u64) {
    space.unmap(page * PAGE, pages * PAGE, &mut NoHooks).unwrap();
}

/// The answer of a lookup: first page, pages, protection.
pub type TheVma = (u64, u64, Prot);

pub fn vma(found: VmaSnapshot) -> TheVma {
    (found.range().start() / PAGE, found.range().page_count(), found.prot())
}

/// Looks `page` up without the lock. Returns `None` if a writer was in the way.
pub fn look<A>(space: &AddrSpace<VmMap<(), A>>, page: u64) -> Option<Option<TheVma>>
where
    A: ReadSide<VmaNode> + Clone,
{
    space.try_lookup(page * PAGE).ok().map(|found| found.map(vma))
}

pub const THREE: &[TheVma] = &[(0x10, 1, RW), (0x20, 1, RO), (0x30, 1, RW)];
pub const FIVE: &[TheVma] =
    &[(0x10, 1, RW), (0x20, 1, RO), (0x30, 1, RW), (0x40, 1, RO), (0x50, 1, RW)];

/// Returns what makes a space of `vmas`.
pub fn mapped(vmas: &'static [TheVma]) -> impl Fn() -> Arc<Space> {
    move || {
        let space = space(&alloc());
        for &(start, pages, prot) in vmas {
            map(&space, start, pages, prot);
        }
        space
    }
}

/// Returns the question what is at `page`.
pub fn found_at(page: u64) -> impl Fn(&Space) -> Option<Option<TheVma>> {
    move |space| look(space, page)
}

/// In a space that `make` has made, one thread makes `change`, the other asks `question` and must
/// be answered by one of `right`, or by `None` where a writer is in the way. Each of `right` must
/// be the answer in some execution, and the last one whenever the change has been made.
#[track_caller]
pub fn against(
    preemptions: Option<usize>,
    make: impl Fn() -> Arc<Space> + Send + Sync + 'static,
    change: impl Fn(&Space) + Copy + Send + Sync + 'static,
    question: impl Fn(&Space) -> Option<Option<TheVma>> + Send + Sync + 'static,
    right: &[Option<TheVma>],
) {
    let (right, kinds) = (right.to_vec(), right.len());
    let seen = explore(preemptions, move |seen| {
        let space = make();
        let space2 = space.clone();
        let writer = thread::spawn(move || change(&space2));
        match question(&space) {
            None => seen.note(5),
            Some(found) => match right.iter().position(|right| *right == found) {
                Some(which) => seen.note(which),
                None => panic!("{found:x?} was never right: {right:x?}"),
            },
        }
        writer.join().unwrap();
        space.inspect(|map| map.check()).unwrap();
        // Twice: where there are hints, the first one mends them.
        for _ in 0..2 {
            assert_eq!(question(&space).as_ref(), right.last());
        }
    });
    seen.assert_all(kinds);
}

/// Returns the space of a program with one private page, which has been written.
pub fn linux_space(page: u64) -> Arc<LinuxSpace> {
    let layout = Layout::x86_64(8 << 20).with_user_min_addr(0).with_min_addr(0);
    let mut mm = Mm::new(layout, std::sync::Arc::new(BoxAlloc::new())).unwrap();
    let flags = VmFlags::READ | VmFlags::WRITE | VmFlags::MAY_ACCESS;
    let (start, end) = (page * PAGE, (page + 1) * PAGE);
    let install = Install { start, end, flags, offset: 0, handle: None };
    mm.install(install, &mut mm.update(&mut NoKernel)).unwrap();
    let write = Fault::new(start, Access::Write);
    assert_eq!(mm.fault(&write, &mut mm.update(&mut NoKernel)), FaultAction::Copy);
    Arc::new(AddrSpace::new(mm))
}

/// A page-table entry: its frame, and whether it is writable.
pub type Pte = Option<(u64, bool)>;

/// A page table of one page, protected by its lock.
pub struct Table(Mutex<Pte>);

impl Table {
    pub fn new(entry: Pte) -> Arc<Table> {
        Arc::new(Table(Mutex::new(entry)))
    }

    pub fn with<R>(&self, edit: impl FnOnce(&mut Pte) -> R) -> R {
        edit(&mut self.0.lock().unwrap())
    }
}

/// Hooks that keep a [`Table`], and call `wait` when the flush has to end.
pub struct Tables<W> {
    pub table: Arc<Table>,
    pub wait: W,
}

/// Of any map and of the Linux layer: their errors are errnos.
impl<V, W: FnMut()> Hooks<V> for Tables<W> {
    type Error = Errno;

    fn on_unmap(&mut self, _: &Piece<'_, V>) {
        self.table.with(|entry| *entry = None);
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, _: &Attrs) {
        let writable = piece.attrs().prot().contains(Prot::WRITE);
        self.table.with(|entry| *entry = entry.map(|(frame, was)| (frame, was && writable)));
    }

    fn on_relocate(&mut self, _: &Piece<'_, V>, _: u64) {
        self.table.with(|entry| *entry = None);
    }

    fn on_advise(&mut self, _: &Piece<'_, V>, _: Advice) {
        self.table.with(|entry| *entry = None);
    }

    fn flush_wait(&mut self) {
        (self.wait)()
    }
}

impl<W: FnMut()> Kernel<Inode> for Tables<W> {
    fn inherit(&mut self, _: Inheritance, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        self.table.with(|entry| *entry = entry.map(|(frame, _)| (frame, false)));
        Ok(())
    }
}

/// Serves a page fault as the docs of `addr_space` say. Returns whether it wrote an entry.
pub fn fault(space: &Space, table: &Table, page: u64, frame: u64) -> bool {
    let Ok(Some(vma)) = space.try_lookup(page * PAGE) else { return false };
    if vma.token().is_dead() {
        return false;
    }
    let writable = vma.prot().contains(Prot::WRITE);
    table.with(|entry| {
        let valid = space.still_valid(vma.token());
        if valid {
            *entry = Some((frame, writable));
        }
        valid
    })
}
