//! Files on the running kernel and on kvma: seals, flags of their own, placement of
//! their own, refused splits, and System V shared memory.
//!
//! A child of this test, driven through ptrace(2), makes the same calls as kvma. After each the
//! answers and the flags of all VMAs must be the same. What the running kernel does not grant is
//! left out with a message.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../child.rs"]
#[allow(dead_code)] // Nothing is accessed here.
mod child;
mod machine;
mod pair;

use std::ffi::CString;
use std::io;

use kvma::linux::abi::*;

use self::machine::{Kind, Machine};
use self::pair::{Call, Pair};

const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;
/// An address where nothing is.
const AT: u64 = 0x1000_0000_0000;
const FAR: u64 = 0x1100_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const SHARED: u64 = MAP_SHARED | MAP_FIXED;
const MOVE: u64 = MREMAP_MAYMOVE | MREMAP_FIXED;

const EPERM: i64 = 1;
const ENOMEM: i64 = 12;
const EACCES: i64 = 13;
const EFAULT: i64 = 14;
const ENODEV: i64 = 19;
const EINVAL: i64 = 22;

const DONTNEED: u64 = 4;
const REMOVE: u64 = 9;
const DONTFORK: u64 = 10;
const DOFORK: u64 = 11;
const MERGEABLE: u64 = 12;
const HUGEPAGE: u64 = 14;
const DODUMP: u64 = 17;
const COLD: u64 = 20;
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
const DONTNEED_LOCKED: u64 = 24;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

/// Returns the answer of a system call that makes something.
fn made(what: &str, answer: i64) -> Option<u64> {
    if answer < 0 {
        eprintln!("live_files: left out: {what}: {}", io::Error::last_os_error());
    }
    u64::try_from(answer).ok()
}

/// Starts the program with one descriptor or more.
fn pair(files: &[(u64, Kind)]) -> Option<Pair> {
    if !child::is_new_enough() {
        eprintln!("live_files: left out: the running kernel has other rules");
        return None;
    }
    let mut machine = Machine::new(pair::capabilities());
    for &(fd, kind) in files {
        machine.add(fd, kind);
    }
    let pair = Pair::start(machine);
    if pair.is_none() {
        eprintln!("live_files: left out: the mmap base cannot be told");
    }
    pair
}

/// A file of 64 pages in memory.
fn memory_file() -> Option<u64> {
    // SAFETY: plain system calls; the name is a C string.
    let fd = unsafe { libc::memfd_create(c"kvma".as_ptr(), libc::MFD_ALLOW_SEALING) };
    // SAFETY: a plain system call.
    unsafe { libc::ftruncate(fd, 64 * PAGE as i64) };
    made("memfd_create", fd.into())
}

fn seal(fd: u64, seals: i32) {
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::fcntl(fd as i32, libc::F_ADD_SEALS, seals) }, 0);
}

fn secret_memory() -> Option<u64> {
    // SAFETY: plain system calls.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) };
    // SAFETY: as above.
    unsafe { libc::ftruncate(fd as i32, 64 * PAGE as i64) };
    made("memfd_secret", fd)
}

fn ring() -> Option<u64> {
    // All-zero asks for nothing special.
    let mut params = [0u64; 15];
    // SAFETY: the call writes no more than `struct io_uring_params`, which has 120 bytes.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 64, params.as_mut_ptr()) };
    made("io_uring_setup", fd)
}

fn perf_buffer() -> Option<u64> {
    // `struct perf_event_attr` of 64 bytes: its first version. A clock, on a CPU of its own.
    let mut attr = [0u64; 8];
    attr[0] = 1 | 64 << 32; // PERF_TYPE_SOFTWARE, size
    attr[2] = 100_000; // sample_period
    attr[5] = 1 << 5; // exclude_kernel
    // SAFETY: the call reads the structure, whose size is in it.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_mut_ptr(), 0, -1, -1, 0) };
    made("perf_event_open", fd)
}

fn mmap(addr: u64, pages: u64, prot: u64, flags: u64, fd: u64) -> Call {
    Call::Mmap(addr, pages * PAGE, prot, flags, fd, 0)
}

/// Makes all sorts of calls on the VMA of `pages` pages at `AT`, whatever it maps; the answers are
/// the kernel's. Calls that only the file itself could answer are left out.
fn all_sorts(pair: &mut Pair, pages: u64) {
    let len = pages * PAGE;
    for advice in [
        DOFORK,
        DODUMP,
        DONTFORK,
        DONTNEED,
        DONTNEED_LOCKED,
        COLD,
        POPULATE_READ,
        POPULATE_WRITE,
        GUARD_INSTALL,
        GUARD_REMOVE,
        HUGEPAGE,
        MERGEABLE,
        18,
        19,
        1,
        15,
    ] {
        pair.call(Call::Madvise(AT, PAGE, advice));
        pair.call(Call::Madvise(AT, len, advice));
    }
    pair.call(Call::Mlock2(AT, PAGE, 0));
    pair.call(Call::Mlock2(AT, len, MLOCK_ONFAULT));
    pair.call(Call::Munlock(AT, len));
    pair.call(Call::Msync(AT, len, MS_SYNC));
    pair.call(Call::Mprotect(AT + PAGE, PAGE, PROT_READ));
    pair.call(Call::Mprotect(AT, len, PROT_READ | PROT_EXEC));
    pair.call(Call::Mprotect(AT, len, RW));
    pair.call(Call::Mremap(AT, len, len + PAGE, 0, 0));
    pair.call(Call::Mremap(AT, 0, PAGE, MREMAP_MAYMOVE, 0));
    pair.call(Call::Mremap(AT, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
    pair.call(Call::Mremap(AT, len, len, MOVE, FAR));
    pair.call(Call::Mremap(FAR, len, len, MOVE, AT));
    // With a neighbour: several VMAs at once.
    pair.call(Call::anonymous(AT + len, PAGE));
    pair.call(Call::Mremap(AT, len + PAGE, len + PAGE, MOVE, FAR));
    pair.call(Call::Mremap(FAR, len + PAGE, len + PAGE, MOVE, AT));
    pair.call(Call::anonymous(AT - PAGE, PAGE));
    pair.call(Call::Mremap(AT - PAGE, len + PAGE, len + PAGE, MOVE, FAR));
    pair.call(Call::Munmap(FAR, 2 * len));
    pair.call(Call::Munmap(AT + PAGE, PAGE));
    pair.call(Call::anonymous(AT, PAGE));
    pair.call(Call::Mseal(AT, len));
}

#[test]
fn a_write_seal_is_checked_before_the_old_range_goes() {
    let Some(fd) = memory_file() else { return };
    seal(fd, libc::F_SEAL_WRITE);
    let Some(mut pair) = pair(&[(fd, Kind::Sealed)]) else { return };
    pair.ok(Call::anonymous(AT, 4 * PAGE));
    // The test's own comparison sees that all four pages are still there.
    pair.fails(mmap(AT, 4, RW, SHARED, fd), EPERM);
    pair.fails(mmap(AT + PAGE, 1, RW, SHARED, fd), EPERM);
    pair.fails(mmap(AT, 4, RW, SHARED | MAP_GROWSDOWN, fd), EINVAL);
    pair.ok(mmap(AT, 4, PROT_READ, SHARED, fd));
    pair.fails(Call::Mprotect(AT, PAGE, RW), EACCES);
    pair.fails(Call::Madvise(AT, PAGE, REMOVE), EACCES);
    pair.ok(Call::Mprotect(AT, 4 * PAGE, PROT_READ | PROT_EXEC));
    // Private pages are the program's own.
    pair.ok(mmap(AT, 4, RW, MAP_PRIVATE | MAP_FIXED, fd));
    pair.fails(Call::Madvise(AT, PAGE, REMOVE), EACCES);
    all_sorts(&mut pair, 4);
}

#[test]
fn a_seal_against_future_writes_leaves_what_is_mapped_writable() {
    let Some(fd) = memory_file() else { return };
    let Some(mut pair) = pair(&[(fd, Kind::Memory)]) else { return };
    pair.ok(mmap(FAR + HUGE, 4, RW, SHARED, fd));
    seal(fd, 0x10); // F_SEAL_FUTURE_WRITE
    pair.machine.add(fd, Kind::Sealed);
    pair.fails(mmap(AT, 4, RW, SHARED, fd), EPERM);
    pair.ok(mmap(AT, 4, PROT_READ, SHARED, fd));
    pair.fails(Call::Mprotect(AT, PAGE, RW), EACCES);
    pair.ok(Call::Mprotect(FAR + HUGE, PAGE, PROT_READ));
    pair.ok(Call::Mprotect(FAR + HUGE, PAGE, RW));
    // It may be written, but no hole punched.
    pair.fails(Call::Madvise(FAR + HUGE, PAGE, REMOVE), EPERM);
    all_sorts(&mut pair, 4);
}

#[test]
fn secret_memory_is_locked_and_not_dumped() {
    let Some(fd) = secret_memory() else { return };
    let Some(mut pair) = pair(&[(fd, Kind::Secret)]) else { return };
    pair.ok(mmap(AT, 2, RW, SHARED, fd));
    // It merges with what it has made the flags of.
    pair.ok(Call::Mmap(AT + 2 * PAGE, 2 * PAGE, RW, SHARED, fd, 2 * PAGE));
    pair.ok(Call::Munlock(AT, 4 * PAGE));
    pair.fails(Call::Mlock2(AT, 4 * PAGE, 0), ENOMEM);
    pair.fails(Call::Madvise(AT, PAGE, POPULATE_READ), EINVAL);
    pair.ok(Call::Madvise(AT, PAGE, GUARD_REMOVE));
    all_sorts(&mut pair, 4);
    // The file refuses when the old range has gone.
    pair.ok(mmap(FAR, 4, RW, SHARED, fd));
    pair.fails(mmap(FAR + PAGE, 1, RW, MAP_PRIVATE | MAP_FIXED, fd), EINVAL);
    pair.fails(mmap(FAR, 4, RW | PROT_EXEC, SHARED, fd), EPERM);
    pair.ok(mmap(FAR, 1, RW, SHARED | MAP_LOCKED, fd));
    pair.ok(mmap(FAR, 1, RW, SHARED | MAP_POPULATE, fd));
}

#[test]
fn a_ring_is_mapped_where_the_kernel_wants_it() {
    let Some(fd) = ring() else { return };
    let Some(mut pair) = pair(&[(fd, Kind::Ring)]) else { return };
    let offset = 0x1000_0000; // IORING_OFF_SQES
    pair.fails(Call::Mmap(AT, PAGE, RW, MAP_SHARED, fd, offset), EINVAL);
    pair.fails(Call::Mmap(AT, PAGE, RW, SHARED, fd, offset), EINVAL);
    let ring = pair.ok(Call::Mmap(0, PAGE, RW, MAP_SHARED | MAP_POPULATE, fd, offset));
    for advice in [DODUMP, GUARD_INSTALL, GUARD_REMOVE, 25] {
        pair.fails(Call::Madvise(ring, PAGE, advice), EINVAL);
    }
    // Its pages have come with mmap, and do not come back.
    pair.ok(Call::Madvise(ring, PAGE, DONTNEED));
    pair.fails(Call::Madvise(ring, PAGE, POPULATE_WRITE), EFAULT);
    pair.fails(Call::Madvise(ring, PAGE, REMOVE), ENODEV);
    for advice in [DOFORK, DONTFORK, COLD, MERGEABLE, HUGEPAGE] {
        pair.ok(Call::Madvise(ring, PAGE, advice));
    }
    pair.fails(Call::Mlock2(ring, PAGE, 0), ENOMEM);
    // Never locked, it is populated at once even with ONFAULT.
    pair.fails(Call::Mlock2(ring, PAGE, MLOCK_ONFAULT), ENOMEM);
    pair.fails(Call::Mprotect(ring, PAGE, PROT_READ | PROT_EXEC), EACCES);
    pair.fails(Call::Mremap(ring, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0), EFAULT);
    pair.fails(Call::Mremap(ring, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0), EINVAL);
    // The target has gone by the time the file refuses the address.
    pair.ok(Call::anonymous(FAR, 2 * PAGE));
    pair.fails(Call::Mremap(ring, PAGE, PAGE, MOVE, FAR), EINVAL);
    pair.fails(Call::Mremap(ring, 2 * PAGE, 2 * PAGE, MOVE, FAR), EFAULT);
    // Two of its own kind stay two, and go one by one.
    let second = pair.ok(Call::Mmap(0, PAGE, RW, MAP_SHARED | MAP_LOCKED, fd, offset));
    pair.fails(Call::Mremap(second, 2 * PAGE, 2 * PAGE, MOVE, FAR), EFAULT);
    pair.ok(Call::Mmap(0, PAGE, RW, MAP_PRIVATE, fd, offset));
    pair.ok(Call::Munmap(ring, PAGE));
}

#[test]
fn a_perf_buffer_is_never_split() {
    let Some(fd) = perf_buffer() else { return };
    let Some(mut pair) = pair(&[(fd, Kind::Perf)]) else { return };
    let buffer = pair.call(mmap(AT, 3, RW, SHARED, fd));
    if made("a buffer of perf_event_open", if buffer < 0 { buffer } else { 0 }).is_none() {
        return;
    }
    for (first, pages) in [(0, 1), (1, 1), (2, 1)] {
        let (addr, len) = (AT + first * PAGE, pages * PAGE);
        pair.fails(Call::Munmap(addr, len), EINVAL);
        pair.fails(Call::Mprotect(addr, len, PROT_READ), EINVAL);
        pair.fails(Call::anonymous(addr, len), EINVAL);
        pair.fails(Call::Mseal(addr, len), EINVAL);
        pair.fails(Call::Madvise(addr, len, DOFORK), EINVAL);
        pair.fails(Call::Madvise(addr, len, HUGEPAGE), EINVAL);
        // Nothing would change.
        pair.ok(Call::Madvise(addr, len, DONTFORK));
        pair.ok(Call::Mlock2(addr, len, 0));
    }
    pair.fails(mmap(FAR, 3, RW, MAP_PRIVATE | MAP_FIXED, fd), EINVAL);
    all_sorts(&mut pair, 3);
}

#[test]
fn segments_are_attached_and_detached() {
    // It may be executed: only root attaches what may not with `SHM_EXEC` (shmop(2)).
    // SAFETY: plain system calls. The segment goes with the last process that has attached it.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 5 * PAGE as usize + 100, 0o700) };
    let Some(id) = made("shmget", id.into()) else { return };
    let Some(mut pair) = pair(&[]) else { return };
    pair.machine.add_segment(id, 5 * PAGE + 100);
    attach_and_detach(&mut pair, id);
    // SAFETY: as above.
    unsafe { libc::shmctl(id as i32, libc::IPC_RMID, std::ptr::null_mut()) };
}

fn attach_and_detach(pair: &mut Pair, id: u64) {
    let attach = |addr, flags| Call::Shmat(id, addr, flags);
    pair.ok(attach(0, 0));
    pair.ok(attach(0, SHM_RND));
    pair.fails(attach(0, SHM_REMAP), EINVAL);
    pair.ok(attach(AT, 0));
    pair.fails(attach(AT + 5 * PAGE, 0), EINVAL);
    pair.ok(attach(AT, SHM_REMAP));
    pair.fails(attach(AT + HUGE + 1, 0), EINVAL);
    pair.ok(attach(AT + HUGE + 1, SHM_RND));
    pair.fails(attach(1, SHM_RND | SHM_REMAP), EINVAL);
    pair.fails(attach(TOP - PAGE, 0), ENOMEM);
    pair.fails(attach(PAGE.wrapping_neg(), 0), EINVAL);
    pair.fails(attach(PAGE.wrapping_neg(), SHM_REMAP), EPERM.max(ENOMEM));
    pair.fails(Call::Shmat(u64::from(u32::MAX >> 1), AT + 1, 0), EINVAL);
    pair.ok(attach(AT + 2 * HUGE, SHM_RDONLY));
    pair.fails(Call::Mprotect(AT + 2 * HUGE, PAGE, RW), EACCES);
    pair.ok(attach(AT + 3 * HUGE, SHM_EXEC));
    // Two attachments are two files.
    pair.ok(attach(AT + 3 * HUGE + 6 * PAGE, SHM_EXEC));
    pair.fails(Call::Mremap(AT + 3 * HUGE, 12 * PAGE, 12 * PAGE, MOVE, FAR), EFAULT);
    pair.ok(Call::anonymous(AT + 3 * HUGE - PAGE, PAGE));
    pair.fails(Call::Mremap(AT + 3 * HUGE - PAGE, 7 * PAGE, 7 * PAGE, MOVE, FAR), EFAULT);
    pair.ok(Call::Mremap(AT + 3 * HUGE, 6 * PAGE, 6 * PAGE, MOVE, FAR + HUGE));
    // In pieces, with gaps.
    pair.ok(Call::Munmap(AT + PAGE, PAGE));
    pair.ok(Call::Mprotect(AT + 3 * PAGE, PAGE, PROT_READ));
    pair.fails(Call::Shmdt(AT + 1), EINVAL);
    pair.fails(Call::Shmdt(AT + 2 * PAGE), EINVAL);
    // A piece of another attachment at the same offset.
    pair.ok(attach(AT + 4 * HUGE, 0));
    pair.ok(Call::Mremap(AT + 4 * HUGE + PAGE, PAGE, PAGE, MOVE, AT + PAGE));
    pair.ok(Call::Shmdt(AT));
    pair.ok(Call::Shmdt(AT));
    pair.fails(Call::Shmdt(AT), EINVAL);
    // What was extended goes as far as the segment reaches.
    pair.ok(Call::Mremap(FAR + HUGE, 6 * PAGE, 8 * PAGE, MREMAP_MAYMOVE, 0));
    pair.ok(Call::Mprotect(FAR + HUGE + 6 * PAGE, PAGE, PROT_READ));
    pair.ok(Call::Shmdt(FAR + HUGE));
    // Sealed pieces stay, and so does what the program mapped over it.
    pair.ok(Call::Mseal(AT + 2 * HUGE + PAGE, PAGE));
    pair.ok(Call::anonymous(AT + 2 * HUGE + 3 * PAGE, PAGE));
    pair.ok(Call::Shmdt(AT + 2 * HUGE));
    all_sorts(pair, 6);
}

/// The end of user space.
const TOP: u64 = (1 << 47) - PAGE;

/// A tmpfs with `huge=always`, unmounted when dropped.
struct HugeMount(CString);

impl HugeMount {
    fn new() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("kvma-huge-{}", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        let path = CString::new(path.to_str()?).ok()?;
        // SAFETY: plain system calls with C strings. What is mounted is seen by nobody else.
        let mounted = unsafe {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                -1
            } else {
                let private = libc::MS_REC | libc::MS_PRIVATE;
                let (none, data) = (std::ptr::null(), c"huge=always".as_ptr().cast());
                libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null());
                libc::mount(c"none".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, data)
            }
        };
        let mount = Self(path);
        made("a tmpfs with huge=always", mounted.into())?;
        Some(mount)
    }

    fn file(&self) -> Option<u64> {
        let path = format!("{}/file", self.0.to_str().ok()?);
        let path = CString::new(path).ok()?;
        // SAFETY: plain system calls with a C string.
        unsafe {
            let fd = libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600);
            libc::ftruncate(fd, 64 * HUGE as i64);
            made("a file on it", fd.into())
        }
    }
}

impl Drop for HugeMount {
    fn drop(&mut self) {
        // SAFETY: a plain system call with a C string.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
        let _ = std::fs::remove_dir(self.0.to_str().unwrap_or_default());
    }
}

#[test]
fn huge_pages_of_tmpfs_are_aligned_where_they_fit() {
    let Some(mount) = HugeMount::new() else { return };
    let Some(fd) = mount.file() else { return };
    let Some(mut pair) = pair(&[(fd, Kind::HugeMemory)]) else { return };
    let at = |addr, len, flags, offset| Call::Mmap(addr, len, RW, flags, fd, offset);
    let mut aligned = 0;
    for flags in [MAP_SHARED, MAP_PRIVATE] {
        for len in [2 * HUGE, HUGE / 2, HUGE + PAGE, HUGE, 3 * HUGE - PAGE] {
            for offset in [0, PAGE, HUGE, HUGE - PAGE, 5 * PAGE] {
                let found = pair.ok(at(0, len, flags, offset));
                aligned += u32::from((found ^ offset) % HUGE == 0);
            }
        }
    }
    assert!(aligned > 10, "{aligned}");
    // A hint that can be had is taken; one that cannot is a hint for the second search as well.
    pair.ok(at(AT + PAGE, 2 * HUGE, MAP_SHARED, 0));
    pair.ok(at(AT + 2 * PAGE, 2 * HUGE, MAP_SHARED, 0));
    pair.ok(at(AT + PAGE, 2 * HUGE, SHARED, 0));
    let small = pair.ok(at(0, HUGE, MAP_SHARED, 0));
    pair.ok(Call::Mremap(small, HUGE, 4 * HUGE, MREMAP_MAYMOVE, 0));
}
