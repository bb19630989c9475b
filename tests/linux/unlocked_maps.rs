//! `/proc/PID/maps` is written without the lock.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{
    File, Gate, Install, Kernel, LinuxVma, Mm, Mmap, OpenFile, Rights, Role, VmFlags,
};
use kvma::{AddrSpace, BoxAlloc, RawLock, VmaNode};
use kvma_test_support::Inode;

use super::batches::{at, layout};
use super::{ANON, PAGE, RW};

/// An index into a table of files. Those below 2^60 can be had by their numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Index(u64);

const FAR: u64 = 1 << 60;

impl File for Index {
    fn id(&self) -> u64 {
        self.0
    }
    fn from_id(id: u64) -> Option<Self> {
        (id < FAR || id >= FAR.wrapping_neg()).then_some(Self(id))
    }
    fn device(&self) -> (u32, u32) {
        (8, 1)
    }
    fn inode(&self) -> u64 {
        self.0
    }
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "file {:x}", self.0)
    }
}

impl Kernel<Index> for NoKernel2 {}
struct NoKernel2;
impl kvma::Hooks<LinuxVma<Index>> for NoKernel2 {
    type Error = kvma::Errno;
}

type Alloc<F> = Arc<BoxAlloc<VmaNode<LinuxVma<F>>>>;

/// A lock for one thread, which counts how often it is taken.
#[derive(Default)]
struct Counting {
    count: Cell<usize>,
    held: Cell<bool>,
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
    }
}

type Space<'a, F> = AddrSpace<Mm<F, Alloc<F>>, &'a Counting>;

fn new_space<F: File>(counting: &Counting) -> Space<'_, F> {
    AddrSpace::with_lock(Mm::new(layout(), Alloc::default()).unwrap(), counting)
}

fn map<F: File>(
    space: &Space<'_, F>,
    page: u64,
    pages: u64,
    file: Option<F>,
    kernel: &mut (impl Kernel<F> + ?Sized),
) {
    let flags = if file.is_some() { MAP_PRIVATE | MAP_FIXED } else { ANON | MAP_FIXED };
    let file = file.map(|file| OpenFile::new(file, Rights::READ | Rights::WRITE));
    let args = Mmap { addr: at(page), len: pages * PAGE, prot: RW, flags, offset: PAGE, file };
    space.mmap(args, kernel).unwrap();
}

fn text<F: File>(space: &Space<'_, F>) -> String {
    let mut text = String::new();
    space.write_maps(&mut text).unwrap();
    text
}

/// Every kind of line: files, names, special memory, heap, stack and gate. While somebody holds the
/// lock, and changes the space at that.
#[test]
fn maps_take_no_lock_and_wait_for_none() {
    let counting = Counting::default();
    let space = new_space::<Index>(&counting);
    let kernel = &mut NoKernel2;
    for n in 0..200 {
        map(&space, 2 * n, 1, (n % 3 == 0).then_some(Index(n)), kernel);
    }
    let (heap, stack, vdso) = (at(1000), at(0x4000), at(0x5000));
    space.update(8, kernel, |mm, call| {
        mm.set_gate(Gate::Execute);
        mm.set_start_brk(heap, 0);
        mm.brk(heap + 0x1234, call);
        let grows = VmFlags::READ | VmFlags::WRITE | VmFlags::MAY_ACCESS | VmFlags::GROWS_DOWN;
        let install = |start, flags, handle| Install {
            start,
            end: start + 2 * PAGE,
            flags,
            offset: 0,
            handle,
        };
        mm.install(install(stack, grows, None), call).unwrap();
        mm.set_start_stack(stack + PAGE);
        let special = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND;
        // The number of a kernel's address, which is negative.
        let name = Index(u64::MAX - 0xfff);
        mm.install(install(vdso, special, Some((name, Role::Special))), call).unwrap();
        mm.set_anon_name(at(2), PAGE, Some(&Index(77)), call).unwrap();
    });
    let before = counting.count.get();
    let lines = text(&space);
    assert_eq!(counting.count.get(), before, "the lock was taken");
    for name in ["[heap]", "[stack]", "[vsyscall]", "[anon:file 4d]", "file fffffffffffff000"] {
        assert!(lines.contains(name), "{name} in {lines}");
    }
    assert_eq!(lines, space.inspect(|mm| mm.maps().to_string()));
    // With the lock in the hands of somebody who only looks.
    space.inspect(|mm| assert_eq!(text(&space), mm.maps().to_string()));
    // And of somebody who changes: what has been done so far is shown, but for new places. Where
    // atomics have 32 bits, this would wait for the change.
    if cfg!(any(kvma_halves, not(target_has_atomic = "64"))) {
        return;
    }
    space.update(8, kernel, |mm, call| {
        assert_eq!(text(&space), mm.maps().to_string());
        mm.munmap(at(10), PAGE, call).unwrap();
        mm.mprotect(at(20), PAGE, PROT_READ, call).unwrap();
        let fixed = ANON | MAP_FIXED;
        let args = Mmap { addr: at(31), len: PAGE, prot: RW, flags: fixed, offset: 0, file: None };
        mm.mmap(args, call).unwrap();
        mm.munmap(at(0x4000), PAGE, call).unwrap();
        assert_eq!(text(&space), mm.maps().to_string());
    });
}

/// Handles that cannot be had by their numbers are copied under the lock, sixteen at a time, and
/// written without it.
#[test]
fn maps_of_other_handles_take_the_lock_to_copy_them() {
    let counting = Counting::default();
    let space = new_space::<Inode>(&counting);
    for count in [0, 1, 15, 16, 17, 200] {
        for n in 0..count {
            let kernel = &mut kvma_test_support::TestKernel::default();
            map(&space, 2 * n, 1, Some(Inode::new(7)), kernel);
        }
        let before = counting.count.get();
        let lines = text(&space);
        assert_eq!(counting.count.get() - before, (count as usize).div_ceil(16), "{count}");
        assert_eq!(lines, space.inspect(|mm| mm.maps().to_string()));
    }
    // A number that has no room.
    let space = new_space::<Index>(&counting);
    let kernel = &mut NoKernel2;
    map(&space, 0, 1, None, kernel);
    space.set_anon_name(at(0), PAGE, Some(&Index(FAR << 3)), kernel).unwrap();
    let before = counting.count.get();
    assert!(text(&space).contains("[anon:file 8000000000000000]"));
    assert_eq!(counting.count.get() - before, 1);
}

/// Others map above, which is shown, and below, which is not. A VMA that they extend down to what
/// was shown is shown from there on.
#[test]
fn maps_show_what_others_map_ahead() {
    let counting = Counting::default();
    let space = new_space::<Index>(&counting);
    let map = |page, pages| map(&space, page, pages, None, &mut NoKernel2);
    (10..110).for_each(|n| map(2 * n, 1));
    let (mut shown, mut count) = (Vec::new(), 0);
    let visited: Result<(), ()> = space.for_each_line(|line| {
        shown.push((line.start(), line.end()));
        count += 1;
        if count == 64 {
            map(0, 1);
            // The last page that was shown is 146; this one merges with it and with the next.
            map(147, 1);
            map(500, 1);
        }
        Ok(())
    });
    assert_eq!(visited, Ok(()));
    let range = |page, pages| (at(page), at(page + pages));
    assert_eq!(shown[0], range(20, 1));
    assert_eq!(shown[63..66], [range(146, 1), range(147, 2), range(150, 1)]);
    assert_eq!(shown.last(), Some(&range(500, 1)));
    // An error ends it.
    assert_eq!(space.for_each_line(|_| Err(5)), Err(5));
}

#[test]
fn a_file_that_is_mapped_over_what_was_shown_is_shown_from_there_on() {
    let counting = Counting::default();
    let space = new_space::<Index>(&counting);
    map(&space, 10, 1, None, &mut NoKernel2);
    let mut shown = Vec::new();
    let visited: Result<(), ()> = space.for_each_line(|line| {
        if shown.is_empty() {
            map(&space, 10, 3, Some(Index(7)), &mut NoKernel2);
        }
        shown.push((line.start(), line.end(), line.offset()));
        Ok(())
    });
    assert_eq!(visited, Ok(()));
    // The file's second page was mapped first.
    assert_eq!(shown, [(at(10), at(11), 0), (at(11), at(13), 2 * PAGE)]);
}

#[test]
fn the_gate_is_shown_as_it_may_be_accessed() {
    let counting = Counting::default();
    let space = new_space::<Index>(&counting);
    for (gate, perms) in [
        (Gate::None, None),
        (Gate::Execute, Some(VmFlags::EXEC)),
        (Gate::ReadExecute, Some(VmFlags::READ | VmFlags::EXEC)),
    ] {
        space.update(0, &mut NoKernel2, |mm, _| mm.set_gate(gate));
        let mut shown = Vec::new();
        let visited: Result<(), ()> = space.for_each_line(|line| {
            shown.push(line.flags());
            Ok(())
        });
        assert_eq!(visited, Ok(()));
        assert!(shown.into_iter().eq(perms), "{gate:?}");
    }
}
