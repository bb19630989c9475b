//! Private pages keep VMAs apart: directed cases, on the running kernel and on kvma.

use kvma::Heap;
use kvma::linux::abi::*;
use kvma::linux::maps::MapsLine;
use kvma::linux::{Access, Fault, Layout, Mm, Mmap};
use kvma_test_support::{Inode, TestKernel};

use super::child::{Child, Outcome, Probe, is_new_enough};
use super::{ANON, PAGE, STACK};

/// An address where nothing is; each test has a part of its own.
const AT: u64 = 0x2000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const EFAULT: i64 = -14;
const DONTUNMAP: u64 = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;

/// One program, twice.
struct Both {
    child: Child,
    mm: Mm<Inode, Heap>,
    kernel: TestKernel,
    at: u64,
}

impl Both {
    /// `None`, with a message, if the running kernel has other rules or lets nobody be traced.
    fn start(at: u64, mm: Mm<Inode, Heap>) -> Option<Self> {
        let child = Child::start(STACK);
        if let Err(refused) = &child {
            eprintln!("live_faults: NOTHING TESTED: {refused}");
        }
        is_new_enough().then_some(())?;
        Some(Self { child: child.ok()?, mm, kernel: TestKernel::default(), at })
    }

    /// Makes a call on both sides, and compares answers and VMAs.
    fn check(
        &mut self,
        number: libc::c_long,
        args: [u64; 6],
        ours: impl FnOnce(&mut Mm<Inode, Heap>, &mut TestKernel) -> Result<u64, kvma::Errno>,
    ) -> i64 {
        let kernel = self.child.call(number, args);
        let ours = ours(&mut self.mm, &mut self.kernel);
        let ours = ours.map_or_else(|errno| -i64::from(errno.0), |value| value as i64);
        assert_eq!(kernel, Outcome::Answer(ours), "call {number} {args:x?}\n{}", self.mm.maps());
        self.compare();
        ours
    }

    fn compare(&self) {
        assert_eq!(
            vmas(self.at, &self.child.maps()),
            vmas(self.at, &self.mm.maps().to_string()),
            "kernel and kvma"
        );
    }

    fn map(&mut self, page: u64, pages: u64, prot: u64) {
        let (addr, len) = (self.at + page * PAGE, pages * PAGE);
        let flags = ANON | MAP_FIXED;
        self.check(libc::SYS_mmap, [addr, len, prot, flags, u64::MAX, 0], |mm, kernel| {
            let args = Mmap { addr, len, prot, flags, offset: 0, file: None };
            mm.mmap(args, &mut mm.update(kernel))
        });
    }

    fn protect(&mut self, page: u64, pages: u64, prot: u64) {
        let (addr, len) = (self.at + page * PAGE, pages * PAGE);
        self.check(libc::SYS_mprotect, [addr, len, prot, 0, 0, 0], |mm, kernel| {
            mm.mprotect(addr, len, prot, &mut mm.update(kernel))
        });
    }

    fn touch(&mut self, page: u64) {
        let addr = self.at + page * PAGE;
        assert_eq!(self.child.probe(addr, Probe::Write), Outcome::Done);
        let write = Fault::new(addr, Access::Write);
        self.mm.fault(&write, &mut self.mm.update(&mut self.kernel));
        self.compare();
    }

    fn remap(&mut self, page: u64, old: u64, new: u64, flags: u64, to: u64) -> i64 {
        let (addr, old, new) = (self.at + page * PAGE, old * PAGE, new * PAGE);
        self.check(libc::SYS_mremap, [addr, old, new, flags, to, 0], |mm, kernel| {
            mm.mremap(addr, old, new, flags, to, &mut mm.update(kernel))
        })
    }
}

fn empty() -> Mm<Inode, Heap> {
    Mm::new(Layout::x86_64(STACK), Heap).unwrap()
}

/// First page, pages and permissions of each VMA in the 4096 pages from `at`.
fn vmas(at: u64, maps: &str) -> Vec<(u64, u64, String)> {
    let lines = maps.lines().map(|text| (MapsLine::parse(text).unwrap(), text));
    lines
        .filter(|(line, _)| at <= line.start && line.start < at + 4096 * PAGE)
        .map(|(line, text)| {
            let perms = text.split(' ').nth(1).unwrap().to_owned();
            ((line.start - at) / PAGE, (line.end - line.start) / PAGE, perms)
        })
        .collect()
}

#[test]
fn memory_that_was_touched_apart_stays_apart() {
    let Some(mut both) = Both::start(AT, empty()) else { return };
    let far = AT + 1024 * PAGE;
    for page in [0, 2] {
        both.map(page, 1, RW);
        both.touch(page);
    }
    // The gap goes to the one below, since it must belong to one.
    both.map(1, 1, RW);
    let seen = vmas(AT, &both.child.maps());
    assert_eq!(seen, [(0, 2, "rw-p".into()), (2, 1, "rw-p".into())]);
    assert_eq!(both.remap(0, 3, 3, DONTUNMAP, far), EFAULT);
    assert_eq!(both.remap(0, 3, 4, MREMAP_MAYMOVE, 0), EFAULT);
    // Changing and changing back does not make them one, and each part still moves alone.
    both.protect(0, 3, PROT_READ);
    both.protect(0, 3, RW);
    assert_eq!(vmas(AT, &both.child.maps()).len(), 2);
    assert_eq!(both.remap(0, 2, 2, DONTUNMAP, far), far as i64);
    // What was left behind has no pages, and goes with either.
    both.protect(0, 2, PROT_READ);
    both.protect(0, 2, RW);
    assert_eq!(vmas(AT, &both.child.maps()).len(), 2);
}

#[test]
fn memory_that_could_have_been_one_merges_whenever_it_was_touched() {
    let Some(mut both) = Both::start(AT + (1 << 30), empty()) else { return };
    // Apart only by their access when they were touched.
    both.map(0, 4, RW);
    both.touch(0);
    both.protect(0, 2, PROT_READ);
    both.touch(3);
    both.protect(0, 2, RW);
    assert_eq!(vmas(both.at, &both.child.maps()), [(0, 4, "rw-p".into())]);
    // In a row, from above and from below.
    for page in [20, 21, 19] {
        both.map(page, 1, if page == 20 { RW } else { RW | PROT_EXEC });
        both.touch(page);
    }
    both.protect(19, 3, RW);
    assert_eq!(vmas(both.at, &both.child.maps()).last(), Some(&(19, 3, "rw-p".into())));
    // Between two that are apart, what is touched goes with the one above.
    both.map(40, 1, RW);
    both.map(42, 1, RW);
    both.touch(40);
    both.touch(42);
    both.map(41, 1, PROT_READ | PROT_WRITE | PROT_EXEC);
    both.touch(41);
    both.protect(41, 1, RW);
    assert_eq!(vmas(both.at, &both.child.maps()).last(), Some(&(41, 2, "rw-p".into())));
}

/// Each VMA of a child gets an `anon_vma` of its own, whatever it has shared in the parent.
#[test]
fn a_forked_child_keeps_apart_what_was_one_in_its_parent() {
    let at = AT + (2 << 30);
    let len = 6 * PAGE;
    let mut mm = empty();
    let mut kernel = TestKernel::default();
    let k = &mut kernel;
    // This process is the parent of the child that is driven.
    // SAFETY: memory that nobody else has, which is written to only where it may be.
    unsafe {
        let addr = std::ptr::without_provenance_mut(at as usize);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let mapped =
            libc::mmap(addr, len as usize, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_eq!(mapped.addr() as u64, at);
        let bytes = mapped.cast::<u8>();
        bytes.write_volatile(1);
        assert_eq!(libc::mprotect(bytes.add(2 * PAGE as usize).cast(), 8192, libc::PROT_READ), 0);
    }
    let flags = ANON | MAP_FIXED;
    let args = Mmap { addr: at, len, prot: RW, flags, offset: 0, file: None };
    mm.mmap(args, &mut mm.update(k)).unwrap();
    mm.fault(&Fault::new(at, Access::Write), &mut mm.update(k));
    mm.mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ, &mut mm.update(k)).unwrap();
    let child = mm.fork(&mut mm.update(k)).unwrap();
    let both = Both::start(at, child);
    // SAFETY: the memory from above. In the parent all is one again.
    let parent = unsafe {
        let addr = std::ptr::without_provenance_mut(at as usize);
        assert_eq!(libc::mprotect(addr, len as usize, libc::PROT_READ | libc::PROT_WRITE), 0);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert_eq!(libc::munmap(addr, len as usize), 0);
        maps
    };
    assert_eq!(vmas(at, &parent), [(0, 6, "rw-p".into())]);
    mm.mprotect(at, len, RW, &mut mm.update(k)).unwrap();
    assert_eq!(mm.map_count(), 1);

    let Some(mut both) = both else { return };
    both.compare();
    both.protect(0, 6, RW);
    assert_eq!(vmas(at, &both.child.maps()).len(), 3);
    assert_eq!(both.remap(0, 6, 6, DONTUNMAP, at + 1024 * PAGE), EFAULT);
    assert_eq!(both.remap(0, 6, 7, MREMAP_MAYMOVE, 0), EFAULT);
    // Nor does anything new merge with what may have its parent's pages.
    both.map(6, 1, RW);
    assert_eq!(vmas(at, &both.child.maps()).len(), 4);
    // But growing is growing.
    both.map(6, 1, 0);
    assert_eq!(
        both.remap(4, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, at + 64 * PAGE),
        (at + 64 * PAGE) as i64
    );
    both.remap(64, 2, 4, MREMAP_MAYMOVE, 0);
    both.touch(67);
    // Not even what comes back from where it went to.
    both.remap(2, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, at + 92 * PAGE);
    both.map(0, 2, RW);
    both.map(4, 2, RW);
    both.remap(92, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED, at + 2 * PAGE);
}
