//! VMAs that got private pages of their own apart stay apart, as Linux keeps them for its reverse
//! map. `tests/live/faults` holds the same against the running kernel.

use kvma::linux::abi::*;
use kvma::linux::{Access, Fault, Layout, Mm, Mmap, VmFlags};
use kvma::{Errno, Heap};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

const FAR: u64 = AT + 4096 * PAGE;
const DONTUNMAP: u64 = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
const MOVE: u64 = MREMAP_MAYMOVE | MREMAP_FIXED;

struct Program {
    mm: Mm<Inode, Heap>,
    kernel: TestKernel,
}

impl Program {
    fn new() -> Self {
        let mm = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        Self { mm, kernel: TestKernel::default() }
    }

    fn fork(&mut self) -> Self {
        let mm = self.mm.fork(&mut self.mm.update(&mut self.kernel)).unwrap();
        mm.check().unwrap();
        Self { mm, kernel: TestKernel::default() }
    }

    fn map_with(&mut self, page: u64, pages: u64, prot: u64, flags: u64) {
        self.map_file(1, page, pages, prot, flags);
    }

    /// Maps a file, or anonymous memory, as if the file began at `AT`.
    fn map_file(&mut self, number: u64, page: u64, pages: u64, prot: u64, flags: u64) {
        let (addr, len, flags) = (AT + page * PAGE, pages * PAGE, flags | MAP_FIXED);
        let file = Some(Inode::new(number).open());
        let args = Mmap { addr, len, prot, flags, offset: page * PAGE, file };
        self.mm.mmap(args, &mut self.mm.update(&mut self.kernel)).unwrap();
    }

    fn map(&mut self, page: u64, pages: u64) {
        self.map_with(page, pages, RW, ANON);
    }

    fn write(&mut self, page: u64) {
        let write = Fault::new(AT + page * PAGE, Access::Write);
        self.mm.fault(&write, &mut self.mm.update(&mut self.kernel));
    }

    fn mprotect(&mut self, page: u64, pages: u64, prot: u64) {
        let (addr, len) = (AT + page * PAGE, pages * PAGE);
        self.mm.mprotect(addr, len, prot, &mut self.mm.update(&mut self.kernel)).unwrap();
    }

    fn mremap(&mut self, page: u64, old: u64, new: u64, flags: u64, to: u64) -> Result<u64, Errno> {
        let (addr, old, new) = (AT + page * PAGE, old * PAGE, new * PAGE);
        self.mm.mremap(addr, old, new, flags, to, &mut self.mm.update(&mut self.kernel))
    }

    /// First page above `AT` and pages of each VMA below `FAR`.
    fn ranges(&self) -> Vec<(u64, u64)> {
        self.mm.check().unwrap();
        let vmas = self.mm.iter().filter(|vma| (AT..FAR).contains(&vma.start()));
        vmas.map(|vma| ((vma.start() - AT) / PAGE, vma.page_count())).collect()
    }
}

#[test]
fn calls_end_where_memory_was_touched_apart() {
    let mut program = Program::new();
    for page in [0, 2] {
        program.map(page, 1);
        program.write(page);
    }
    program.map(1, 1);
    assert_eq!(program.ranges(), [(0, 2), (2, 1)]);
    assert_eq!(program.mremap(0, 3, 3, DONTUNMAP, FAR), Err(Errno::EFAULT));
    assert_eq!(program.mremap(0, 3, 4, MREMAP_MAYMOVE, 0), Err(Errno::EFAULT));
    program.mprotect(0, 3, PROT_READ);
    program.mprotect(0, 3, RW);
    assert_eq!(program.ranges(), [(0, 2), (2, 1)]);
    // A move of several goes on from one to the next.
    assert_eq!(program.mremap(0, 3, 3, MOVE, FAR), Ok(FAR));
}

#[test]
fn untouched_memory_merges_with_either_side() {
    let mut program = Program::new();
    program.map(0, 1);
    program.write(0);
    program.map(2, 1);
    program.map(1, 1);
    assert_eq!(program.ranges(), [(0, 3)]);
    // All of it counts as touched now.
    program.map(4, 1);
    program.write(4);
    program.map(3, 1);
    assert_eq!(program.ranges(), [(0, 4), (4, 1)]);
    program.mprotect(2, 1, PROT_READ);
    program.mprotect(2, 1, RW);
    assert_eq!(program.ranges(), [(0, 4), (4, 1)]);
}

#[test]
fn what_differs_in_access_alone_is_touched_as_one() {
    let mut program = Program::new();
    for (page, prot) in [(1, RW), (2, 7), (0, PROT_READ | PROT_WRITE | PROT_EXEC)] {
        program.map_with(page, 1, prot, ANON);
        program.write(page);
    }
    program.mprotect(0, 3, RW);
    assert_eq!(program.ranges(), [(0, 3)]);
    // Advice is another matter.
    program.map(10, 2);
    let mut call = program.mm.update(&mut program.kernel);
    program.mm.madvise(AT + 11 * PAGE, PAGE, 1, &mut call).unwrap();
    drop(call);
    program.write(10);
    program.write(11);
    let mut call = program.mm.update(&mut program.kernel);
    program.mm.madvise(AT + 11 * PAGE, PAGE, 0, &mut call).unwrap();
    drop(call);
    assert_eq!(program.ranges()[1..], [(10, 1), (11, 1)]);
}

#[test]
fn private_files_are_kept_apart_as_well() {
    let mut program = Program::new();
    for (first, flags, kept) in [(0, MAP_PRIVATE, 2), (100, MAP_SHARED, 1)] {
        for page in [first, first + 2] {
            program.map_with(page, 1, RW, flags);
            program.write(page);
        }
        program.map_with(first + 1, 1, RW, flags);
        let vmas = program.ranges().iter().filter(|vma| vma.0 >= first).count();
        assert_eq!(vmas, kept, "{flags:x}");
    }
}

#[test]
fn what_dontunmap_leaves_behind_goes_with_either_side() {
    let mut program = Program::new();
    program.map(0, 1);
    program.write(0);
    program.map(2, 1);
    program.write(2);
    assert_eq!(program.mremap(0, 1, 1, DONTUNMAP, FAR), Ok(FAR));
    program.map(1, 1);
    assert_eq!(program.ranges(), [(0, 3)]);
}

#[test]
fn a_child_keeps_apart_what_was_one_in_its_parent() {
    let mut program = Program::new();
    program.map(0, 6);
    program.write(0);
    program.mprotect(2, 2, PROT_READ);
    let mut child = program.fork();
    for program in [&mut program, &mut child] {
        program.mprotect(0, 6, RW);
    }
    assert_eq!(program.ranges(), [(0, 6)]);
    assert_eq!(child.ranges(), [(0, 2), (2, 2), (4, 2)]);
    assert_eq!(child.mremap(0, 6, 6, DONTUNMAP, FAR), Err(Errno::EFAULT));
    // Nothing merges with what may have pages of the parent, touched or not.
    child.map(6, 1);
    assert_eq!(child.ranges().len(), 4);
    // The two halves of one of them do.
    child.mprotect(0, 1, PROT_READ);
    child.mprotect(0, 1, RW);
    assert_eq!(child.ranges().len(), 4);
    // Untouched and wiped memory is as new in a child.
    let mut program = Program::new();
    program.map(0, 2);
    program.map_with(2, 2, PROT_READ, ANON);
    let mut child = program.fork();
    child.mprotect(0, 4, RW);
    child.map(4, 1);
    assert_eq!(child.ranges(), [(0, 5)]);
    program.mprotect(0, 4, RW);
    program.write(0);
    let mut call = program.mm.update(&mut program.kernel);
    program.mm.madvise(AT, 4 * PAGE, 18, &mut call).unwrap();
    drop(call);
    program.mprotect(0, 1, PROT_READ);
    let mut child = program.fork();
    child.mprotect(0, 1, RW);
    assert_eq!(child.ranges(), [(0, 4)]);
}

#[test]
fn the_heap_of_a_child_grows_beside_what_it_has_inherited() {
    let mut program = Program::new();
    program.mm.set_start_brk(AT, 0);
    let brk = |program: &mut Program, pages: u64| {
        let end = AT + pages * PAGE;
        assert_eq!(program.mm.brk(end, &mut program.mm.update(&mut program.kernel)), end);
    };
    brk(&mut program, 4);
    program.write(0);
    brk(&mut program, 8);
    assert_eq!(program.ranges(), [(0, 8)]);
    let mut child = program.fork();
    brk(&mut child, 12);
    assert_eq!(child.ranges(), [(0, 8), (8, 4)]);
    assert_eq!(child.mm.maps().to_string().matches("[heap]").count(), 2);
    brk(&mut child, 16);
    assert_eq!(child.ranges(), [(0, 8), (8, 8)]);
}

#[test]
fn a_stack_that_was_forked_still_grows_as_one() {
    let mut program = Program::new();
    program.map_with(100, 1, RW, ANON | MAP_GROWSDOWN);
    program.write(100);
    let mut child = program.fork();
    child.write(99);
    assert_eq!(child.ranges(), [(99, 2)]);
    let vma = child.mm.iter().next().unwrap();
    assert!(VmFlags::of(&vma).contains(VmFlags::GROWS_DOWN));
}

/// `anon_vma_compatible`: what shows another file has an `anon_vma` of its own.
#[test]
fn files_side_by_side_are_touched_each_by_itself() {
    let mut program = Program::new();
    program.map_file(2, 1, 1, RW, MAP_PRIVATE);
    program.write(1);
    for page in [2, 0] {
        program.map_with(page, 1, RW, MAP_PRIVATE);
        program.write(page);
    }
    program.map_with(1, 1, RW, MAP_PRIVATE);
    assert_eq!(program.ranges(), [(0, 2), (2, 1)]);
}
