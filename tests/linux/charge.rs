//! Promised memory, to the page: who asks for how much, who gives back, and how strict a kernel is.

use std::fmt;

use kvma::linux::abi::*;
use kvma::linux::{
    Capabilities, CommitLimit, File, Kernel, Layout, LinuxVma, Mm, Mmap, OpenFile, Overcommit,
    Rights, Usage, VmFlags,
};
use kvma::{Errno, Error, Event, Heap, Hooks};

const PAGE: u64 = 4096;
const AT: u64 = 0x5000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const FIXED: u64 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Inode;

impl File for Inode {
    fn id(&self) -> u64 {
        1
    }

    fn device(&self) -> (u32, u32) {
        (8, 1)
    }

    fn inode(&self) -> u64 {
        1
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/file")
    }
}

/// A kernel that promises no more than its limit says.
struct Strict {
    limit: CommitLimit,
    caps: Capabilities,
    committed: u64,
    /// Whether hooks refuse to unmap, and files to be mapped.
    refuses: bool,
}

impl Strict {
    fn new(pages: u64) -> Self {
        let limit = CommitLimit::of_pages(pages, 0);
        Self { limit, caps: Capabilities::empty(), committed: 0, refuses: false }
    }
}

impl Hooks<LinuxVma<Inode>> for Strict {
    fn prepare(&mut self, event: &Event<'_, LinuxVma<Inode>>) -> Result<(), Error> {
        match event {
            Event::Unmap(_) if self.refuses => Err(Error::Refused(Errno::EBUSY)),
            _ => Ok(()),
        }
    }
}

impl Kernel<Inode> for Strict {
    fn overcommit(&self) -> Overcommit {
        Overcommit::Never
    }

    fn charge(&mut self, pages: u64, usage: &Usage) -> Result<(), Errno> {
        let limit = self.limit.pages(usage, self.caps);
        Overcommit::Never.decide(pages, self.committed + pages, 0, limit)?;
        self.committed += pages;
        Ok(())
    }

    fn uncharge(&mut self, pages: u64) {
        self.committed =
            self.committed.checked_sub(pages).expect("more given back than was promised");
    }

    fn map_file(&mut self, _file: &OpenFile<Inode>, _flags: VmFlags) -> Result<(), Errno> {
        Err(Errno::ENOMEM)
    }
}

struct Program {
    mm: Mm<Inode, Heap>,
    kernel: Strict,
}

impl Program {
    fn new(limit: u64) -> Self {
        Self { mm: Mm::new(Layout::x86_64(8 << 20), Heap).unwrap(), kernel: Strict::new(limit) }
    }

    fn map(&mut self, page: u64, pages: u64, prot: u64, flags: u64) -> Result<u64, Errno> {
        let file = Some(OpenFile::new(Inode, Rights::READ | Rights::WRITE));
        let args = Mmap { addr: AT + page * PAGE, len: pages * PAGE, prot, flags, offset: 0, file };
        let answer = self.mm.mmap(args, &mut self.mm.update(&mut self.kernel));
        self.mm.check().unwrap();
        assert_eq!(self.mm.usage().committed(), self.kernel.committed);
        answer
    }
}

#[test]
fn what_is_replaced_hands_its_promise_on() {
    let mut program = Program::new(11);
    program.map(0, 8, RW, FIXED).unwrap();
    // Linux asks for the difference only, however little there is to spare.
    assert_eq!(program.map(0, 8, RW, FIXED), Ok(AT));
    assert_eq!(program.map(2, 8, RW, FIXED), Ok(AT + 2 * PAGE));
    assert_eq!(program.kernel.committed, 10);
    assert_eq!(program.map(9, 2, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 10, RW, FIXED), Ok(AT));
    assert_eq!(program.map(0, 10, PROT_READ, FIXED), Ok(AT));
    assert_eq!(program.kernel.committed, 0);
}

#[test]
fn a_replacement_that_fails_leaves_the_count_right() {
    let mut program = Program::new(100);
    program.map(0, 8, RW, FIXED).unwrap();
    // Nothing has gone: the old charge stands, the new one does not.
    program.kernel.refuses = true;
    assert_eq!(program.map(4, 8, RW, FIXED), Err(Errno::EBUSY));
    assert_eq!(program.kernel.committed, 8);
    program.kernel.refuses = false;
    // The old has gone when the file refuses.
    assert_eq!(program.map(4, 8, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.kernel.committed, 4);
}

#[test]
fn never_overcommits_even_what_says_noreserve() {
    let mut program = Program::new(9);
    assert_eq!(program.map(0, 9, RW, FIXED | MAP_NORESERVE), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 8, RW, FIXED | MAP_NORESERVE), Ok(AT));
    assert_eq!(program.map(8, 1 << 20, PROT_READ, FIXED), Ok(AT + 8 * PAGE));
}

#[test]
fn reserves_are_kept_from_users_and_from_large_processes() {
    let mut program = Program::new(1000);
    program.kernel.limit = program.kernel.limit.with_reserves(100, 50);
    // 1000 - 100, and what is promised must stay below.
    assert_eq!(program.map(0, 900, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 899, RW, FIXED), Ok(AT));
    program.map(0, 899, PROT_READ, FIXED).unwrap();
    // A 32nd of 899 pages is 28.
    assert_eq!(program.map(1000, 872, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(1000, 871, RW, FIXED), Ok(AT + 1000 * PAGE));
    program.map(1000, 871, PROT_READ, FIXED).unwrap();
    // Of a large process no more than the reserve; and an administrator gets the rest.
    program.map(0, 4000, PROT_READ, FIXED).unwrap();
    program.kernel.caps = Capabilities::SYS_ADMIN;
    assert_eq!(program.map(5000, 950, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(5000, 949, RW, FIXED), Ok(AT + 5000 * PAGE));
}

#[test]
fn the_three_modes() {
    use Overcommit::*;
    assert_eq!(Always.decide(u64::MAX, u64::MAX, 0, 0), Ok(()));
    assert_eq!(Heuristic.decide(100, u64::MAX, 100, 0), Ok(()));
    assert_eq!(Heuristic.decide(101, 0, 100, u64::MAX), Err(Errno::ENOMEM));
    assert_eq!(Never.decide(1, 99, 0, 100), Ok(()));
    assert_eq!(Never.decide(1, 100, u64::MAX, 100), Err(Errno::ENOMEM));
    let limit = CommitLimit::of_ram(1001, 1, 50, 30).with_reserves(600, 0);
    assert_eq!(limit.all(), 530);
    assert_eq!(limit.pages(&Usage::default(), Capabilities::empty()), 0);
    assert_eq!(CommitLimit::of_ram(u64::MAX, 0, 100, u64::MAX).all(), u64::MAX);
}

/// The limit of the running kernel, from what it says of itself.
#[test]
#[cfg(target_os = "linux")]
fn the_limit_is_the_running_kernels() {
    let Ok(meminfo) = std::fs::read_to_string("/proc/meminfo") else { return };
    let pages = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 4)
    };
    // SAFETY: all-zero is a value of this plain C structure, and it lives during the call.
    let (ram, swap) = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        assert_eq!(libc::sysinfo(&mut info), 0);
        let unit = u64::from(info.mem_unit);
        (info.totalram * unit / PAGE, info.totalswap * unit / PAGE)
    };
    let setting = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?.trim().parse().ok()
    };
    let known = || {
        let limit = match setting("overcommit_kbytes")? {
            0 => {
                let ratio = setting("overcommit_ratio")?;
                CommitLimit::of_ram(ram, pages("Hugetlb:").unwrap_or(0), ratio, swap)
            }
            kbytes => CommitLimit::of_pages(kbytes / 4, swap),
        };
        Some((limit.all(), pages("CommitLimit:")?))
    };
    match known() {
        Some((ours, kernel)) => assert_eq!(ours, kernel),
        None => eprintln!("linux_commit: the running kernel does not tell its limit"),
    }
}
