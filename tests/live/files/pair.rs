//! A program on the running kernel and the same one on kvma, side by side.

use kvma::Heap;
use kvma::linux::abi::*;
use kvma::linux::maps::MapsLine;
use kvma::linux::{Capabilities, Install, Layout, Mm, Mmap, Resource, Shmat, VmFlags};
use kvma_test_support::Inode;

use super::child::{Child, Outcome};
use super::machine::Machine;

/// Start, end and `VmFlags`.
type TheVma = (u64, u64, String);

pub struct Pair {
    child: Child,
    mm: Mm<Inode, Heap>,
    pub machine: Machine,
    /// The VMAs that were there from the start.
    initial: Vec<(u64, u64)>,
    /// Calls made.
    pub calls: u32,
}

impl Pair {
    /// Starts both. `None`: the mmap base of the running kernel cannot be told.
    pub fn start(machine: Machine) -> Option<Self> {
        let stack = 8 << 20;
        let child = Child::start(stack).unwrap();
        let maps = child.maps();
        let lines: Vec<_> = maps.lines().map(|line| MapsLine::parse(line).unwrap()).collect();
        let stack_at = maps.lines().position(|line| line.ends_with("[stack]"))?;
        // The first thing that execve maps ends at the base.
        let base = lines[..stack_at].last()?.end;
        let mut mm = Mm::new(Layout::x86_64(stack).with_base(base), Heap).unwrap();
        mm.set_limits(mm.limits().with(Resource::MemLock, lock_limit()));
        let mut pair = Self { child, mm, machine, initial: Vec::new(), calls: 0 };
        let top = pair.mm.layout().task_size();
        for line in lines.iter().filter(|line| line.end <= top) {
            let flags = line.perms | VmFlags::MAY_ACCESS;
            let vma = Install { start: line.start, end: line.end, flags, offset: 0, handle: None };
            let update = &mut pair.mm.update(&mut pair.machine);
            pair.mm.install(vma, update).unwrap();
            pair.initial.push((line.start, line.end));
        }
        // A gap above what was taken for the base would show.
        let (kernel, ours) = pair.both(Call::Mmap(0, 4096, 0, 0x22, u64::MAX, 0));
        if kernel != ours {
            return None;
        }
        pair.both(Call::Munmap(ours.cast_unsigned(), 4096));
        Some(pair)
    }

    /// Makes a call on both sides. Returns the answer, which must be the same.
    pub fn call(&mut self, call: Call) -> i64 {
        self.calls += 1;
        let (kernel, ours) = self.both(call);
        assert_eq!(kernel, ours, "{call:x?}\n{}", self.child.maps());
        let (theirs, mine) = (self.their_vmas(), self.our_vmas());
        assert_eq!(theirs, mine, "after {call:x?}");
        kernel
    }

    /// Makes a call that succeeds. Returns the answer.
    pub fn ok(&mut self, call: Call) -> u64 {
        let answer = self.call(call);
        u64::try_from(answer).unwrap_or_else(|_| panic!("{call:x?} = {answer}"))
    }

    /// Makes a call that fails with `errno`.
    pub fn fails(&mut self, call: Call, errno: i64) {
        assert_eq!(self.call(call), -errno, "{call:x?}");
    }

    fn both(&mut self, call: Call) -> (i64, i64) {
        let (number, args) = call.raw();
        let kernel = match self.child.call(number, args) {
            Outcome::Answer(answer) => answer,
            other => panic!("{call:x?}: {other:?}"),
        };
        (kernel, self.ours(call))
    }

    fn ours(&mut self, call: Call) -> i64 {
        let Self { mm, machine, .. } = self;
        let file = match call {
            Call::Mmap(.., fd, _) => machine.open(fd),
            _ => None,
        };
        let segment = match call {
            Call::Shmat(id, ..) => Some(machine.attach(id)),
            _ => None,
        };
        let update = &mut mm.update(machine);
        let answer = match call {
            Call::Mmap(addr, len, prot, flags, _, offset) => {
                mm.mmap(Mmap { addr, len, prot, flags, offset, file }, update)
            }
            Call::Munmap(addr, len) => mm.munmap(addr, len, update),
            Call::Mprotect(addr, len, prot) => mm.mprotect(addr, len, prot, update),
            Call::Mremap(old, old_len, new_len, flags, new) => {
                mm.mremap(old, old_len, new_len, flags, new, update)
            }
            Call::Madvise(addr, len, advice) => mm.madvise(addr, len, advice, update),
            Call::Mlock2(addr, len, flags) => mm.mlock2(addr, len, flags, update),
            Call::Munlock(addr, len) => mm.munlock(addr, len, update),
            Call::Msync(addr, len, flags) => mm.msync(addr, len, flags, update),
            Call::Mseal(addr, len) => mm.mseal(addr, len, 0, update),
            Call::Shmat(_, addr, flags) => {
                let segment = segment.expect("made above");
                mm.shmat(Shmat { segment, addr, flags }, update)
            }
            Call::Shmdt(addr) => mm.shmdt(addr, update),
        };
        answer.map_or_else(|errno| -i64::from(errno.0), |value| value as i64)
    }

    fn is_new(&self, start: u64) -> bool {
        start < self.mm.layout().task_size()
            && !self.initial.iter().any(|&(first, end)| first <= start && start < end)
    }

    fn our_vmas(&self) -> Vec<TheVma> {
        let vmas = self.mm.iter().filter(|vma| self.is_new(vma.start()));
        vmas.map(|vma| (vma.start(), vma.range().last() + 1, VmFlags::of(&vma).to_string()))
            .collect()
    }

    fn their_vmas(&self) -> Vec<TheVma> {
        let smaps = self.child.smaps();
        let mut vmas: Vec<TheVma> = Vec::new();
        for line in smaps.lines() {
            if let Ok(line) = MapsLine::parse(line) {
                vmas.push((line.start, line.end, String::new()));
            } else if let (Some(flags), Some(last)) =
                (line.strip_prefix("VmFlags: "), vmas.last_mut())
            {
                last.2 = flags.replace("sd ", "");
            }
        }
        vmas.retain(|vma| self.is_new(vma.0));
        vmas
    }
}

/// A system call, with its arguments.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// Address, length, protection, flags, descriptor, offset.
    Mmap(u64, u64, u64, u64, u64, u64),
    Munmap(u64, u64),
    Mprotect(u64, u64, u64),
    /// Old address, old and new length, flags, new address.
    Mremap(u64, u64, u64, u64, u64),
    Madvise(u64, u64, u64),
    Mlock2(u64, u64, u64),
    Munlock(u64, u64),
    Msync(u64, u64, u64),
    Mseal(u64, u64),
    /// Identifier, address, flags.
    Shmat(u64, u64, u64),
    Shmdt(u64),
}

impl Call {
    fn raw(self) -> (libc::c_long, [u64; 6]) {
        match self {
            Self::Mmap(a, b, c, d, e, f) => (libc::SYS_mmap, [a, b, c, d, e, f]),
            Self::Munmap(a, b) => (libc::SYS_munmap, [a, b, 0, 0, 0, 0]),
            Self::Mprotect(a, b, c) => (libc::SYS_mprotect, [a, b, c, 0, 0, 0]),
            Self::Mremap(a, b, c, d, e) => (libc::SYS_mremap, [a, b, c, d, e, 0]),
            Self::Madvise(a, b, c) => (libc::SYS_madvise, [a, b, c, 0, 0, 0]),
            Self::Mlock2(a, b, c) => (libc::SYS_mlock2, [a, b, c, 0, 0, 0]),
            Self::Munlock(a, b) => (libc::SYS_munlock, [a, b, 0, 0, 0, 0]),
            Self::Msync(a, b, c) => (libc::SYS_msync, [a, b, c, 0, 0, 0]),
            Self::Mseal(a, b) => (libc::SYS_mseal, [a, b, 0, 0, 0, 0]),
            Self::Shmat(id, addr, flags) => (libc::SYS_shmat, [id, addr, flags, 0, 0, 0]),
            Self::Shmdt(addr) => (libc::SYS_shmdt, [addr, 0, 0, 0, 0, 0]),
        }
    }

    /// Anonymous memory that cannot be written.
    pub const fn anonymous(addr: u64, len: u64) -> Self {
        Self::Mmap(addr, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, u64::MAX, 0)
    }
}

/// Returns the privileges of this process, as far as memory calls ask.
pub fn capabilities() -> Capabilities {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::IPC_LOCK, bits >> 14 & 1 != 0);
    capabilities.set(Capabilities::SYS_RAWIO, bits >> 17 & 1 != 0);
    capabilities
}

fn lock_limit() -> u64 {
    // SAFETY: all-zero is a value of this plain C structure, and it lives during the call.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit), 0);
        limit.rlim_cur
    }
}
