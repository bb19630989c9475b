//! Charged memory, to the page: what is charged and uncharged, and how strict a kernel is.

use kvma::linux::abi::*;
use kvma::linux::{
    Capabilities, CommitLimit, Inheritance, Kernel, Layout, LinuxVma, Mm, MmAlloc, Mmap, OpenFile,
    Overcommit, Usage, VmFlags,
};
use kvma::{Errno, FixedPool, Heap, Hooks, PageSize, Piece, VmaNode};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

/// Private memory at a fixed address.
const FIXED: u64 = ANON | MAP_FIXED;

/// Allows `pages` pages to be committed.
fn limit_of(pages: u64) -> CommitLimit {
    CommitLimit::of_bytes(PageSize::SIZE_4K, pages * PAGE, 0)
}

struct Program<A: MmAlloc<Inode> = Heap> {
    mm: Mm<Inode, A>,
    kernel: TestKernel,
}

impl Program {
    fn new(limit: u64) -> Self {
        Self::with_nodes(limit, Heap)
    }
}

impl<A: MmAlloc<Inode>> Program<A> {
    fn with_nodes(limit: u64, nodes: A) -> Self {
        let kernel = TestKernel::default().with_commit_limit(limit_of(limit));
        Self { mm: Mm::new(Layout::x86_64(8 << 20), nodes).unwrap(), kernel }
    }

    fn map(&mut self, page: u64, pages: u64, prot: u64, flags: u64) -> Result<u64, Errno> {
        let file = Some(Inode::new(1).open());
        let args = Mmap { addr: AT + page * PAGE, len: pages * PAGE, prot, flags, offset: 0, file };
        let answer = self.mm.mmap(args, &mut self.mm.update(&mut self.kernel));
        self.mm.check().unwrap();
        assert_eq!(self.mm.usage().committed(), self.kernel.charged);
        answer
    }

    /// mremap(2) of some pages, which may move.
    fn remap(&mut self, page: u64, old: u64, new: u64) -> Result<u64, Errno> {
        let mut call = self.mm.update(&mut self.kernel);
        let (old, new) = (old * PAGE, new * PAGE);
        let answer = self.mm.mremap(AT + page * PAGE, old, new, MREMAP_MAYMOVE, 0, &mut call);
        call.finish();
        self.mm.check().unwrap();
        assert_eq!(self.mm.usage().committed(), self.kernel.charged);
        answer
    }

    fn maps(&self) -> String {
        self.mm.maps().to_string()
    }
}

#[test]
fn what_is_replaced_hands_its_charge_on() {
    let mut program = Program::new(11);
    program.map(0, 8, RW, FIXED).unwrap();
    // Linux asks for the difference only, however little there is to spare.
    assert_eq!(program.map(0, 8, RW, FIXED), Ok(AT));
    assert_eq!(program.map(2, 8, RW, FIXED), Ok(AT + 2 * PAGE));
    assert_eq!(program.kernel.charged, 10 * PAGE);
    assert_eq!(program.map(9, 2, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 10, RW, FIXED), Ok(AT));
    assert_eq!(program.map(0, 10, PROT_READ, FIXED), Ok(AT));
    assert_eq!(program.kernel.charged, 0);
}

#[test]
fn a_replacement_that_fails_leaves_the_count_right() {
    let mut program = Program::new(100);
    program.map(0, 8, RW, FIXED).unwrap();
    // Nothing has gone: the old charge stands, the new one does not.
    program.kernel.refuse_unmap = Some(Errno::EBUSY);
    assert_eq!(program.map(4, 8, RW, FIXED), Err(Errno::EBUSY));
    assert_eq!(program.kernel.charged, 8 * PAGE);
    program.kernel.refuse_unmap = None;
    program.kernel.refuse_files = Some(Errno::ENOMEM);
    // The old mapping has gone by the time the file refuses.
    assert_eq!(program.map(4, 8, RW, MAP_PRIVATE | MAP_FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.kernel.charged, 4 * PAGE);
}

/// A failing mmap takes back what it has charged, and nothing else where nothing was there.
#[test]
fn a_kernel_is_never_told_to_uncharge_nothing() {
    #[derive(Default)]
    struct Refusing(Vec<(bool, u64)>);

    impl Hooks<LinuxVma<Inode>> for Refusing {
        type Error = Errno;
    }

    impl Kernel<Inode> for Refusing {
        fn charge(&mut self, bytes: u64, _usage: &Usage) -> Result<(), Errno> {
            self.0.push((true, bytes));
            Ok(())
        }

        fn uncharge(&mut self, bytes: u64) {
            self.0.push((false, bytes));
        }

        fn map_file(
            &mut self,
            _file: &OpenFile<Inode>,
            _vma: &Piece<'_, LinuxVma<Inode>>,
            _flags: VmFlags,
        ) -> Result<VmFlags, Errno> {
            Err(Errno::ENODEV)
        }
    }

    let mut mm = Mm::<Inode, _>::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let mut kernel = Refusing::default();
    let file = Some(Inode::new(1).open());
    let flags = MAP_PRIVATE | MAP_FIXED;
    let args = Mmap { addr: AT, len: 8 * PAGE, prot: RW, flags, offset: 0, file };
    assert_eq!(mm.mmap(args, &mut mm.update(&mut kernel)), Err(Errno::ENODEV));
    assert_eq!(kernel.0, [(true, 8 * PAGE), (false, 8 * PAGE)]);
}

#[test]
fn a_growing_mremap_that_fails_uncharges_once() {
    let mut program = Program::new(100);
    program.map(0, 8, RW, FIXED).unwrap();
    let before = program.maps();
    program.kernel.refuse_relocate = Some(Errno::EIO);
    // In the middle of a VMA, so that it cannot grow where it is.
    for _ in 0..3 {
        assert_eq!(program.remap(2, 2, 5), Err(Errno::EIO));
        assert_eq!((program.maps(), program.kernel.charged), (before.clone(), 8 * PAGE));
    }
    program.kernel.refuse_relocate = None;
    assert!(program.remap(2, 2, 5).is_ok());
    assert_eq!(program.kernel.charged, 11 * PAGE);
}

#[test]
fn a_growing_mremap_takes_the_growth_back_even_if_hooks_refuse_to_unmap() {
    let mut program = Program::new(100);
    program.map(0, 8, RW, FIXED).unwrap();
    // The growth comes to lie right below this.
    let below_base = (program.mm.layout().base() - AT) / PAGE - 1;
    program.map(below_base, 1, RW, FIXED).unwrap();
    let before = program.maps();
    program.kernel.refuse_relocate = Some(Errno::EIO);
    program.kernel.refuse_unmap = Some(Errno::EBUSY);
    assert_eq!(program.remap(2, 2, 5), Err(Errno::EIO));
    assert_eq!((program.maps(), program.kernel.charged), (before, 9 * PAGE));
    program.kernel.refuse_relocate = None;
    let to = program.remap(2, 2, 5).unwrap();
    assert_eq!(to, program.mm.layout().base() - 6 * PAGE);
    // It has merged with what follows.
    assert_eq!(program.mm.iter().last().unwrap().start(), to);
}

#[test]
fn a_growing_mremap_without_nodes_leaves_everything_as_it_was() {
    /// mremap of the middle of a VMA with `N` nodes.
    fn with_nodes<const N: usize>() -> Result<u64, Errno> {
        let nodes = FixedPool::<VmaNode<LinuxVma<Inode>>, N>::new();
        let mut program = Program::with_nodes(100, &nodes);
        program.map(0, 8, RW, FIXED).unwrap();
        let before = program.maps();
        let answer = program.remap(2, 2, 5);
        if answer.is_err() {
            assert_eq!((program.maps(), program.kernel.charged), (before, 8 * PAGE));
        }
        answer
    }
    // The map needs one for itself, the VMA one, the growth one, and splitting the VMA two.
    assert_eq!(with_nodes::<2>(), Err(Errno::ENOMEM));
    assert_eq!(with_nodes::<3>(), Err(Errno::ENOMEM));
    assert_eq!(with_nodes::<4>(), Err(Errno::ENOMEM));
    assert!(with_nodes::<5>().is_ok());
}

#[test]
fn mode_never_charges_even_what_says_noreserve() {
    let mut program = Program::new(9);
    assert_eq!(program.map(0, 9, RW, FIXED | MAP_NORESERVE), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 8, RW, FIXED | MAP_NORESERVE), Ok(AT));
    assert_eq!(program.map(8, 1 << 20, PROT_READ, FIXED), Ok(AT + 8 * PAGE));
}

#[test]
fn reserves_are_kept_from_users_and_from_large_processes() {
    let mut program = Program::new(1000);
    let limit = limit_of(1000).with_reserves(100 * PAGE, 50 * PAGE);
    program.kernel.set_commit_limit(limit);
    // 1000 - 100, and charges must stay below.
    assert_eq!(program.map(0, 900, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 899, RW, FIXED), Ok(AT));
    program.map(0, 899, PROT_READ, FIXED).unwrap();
    // A 32nd of 899 pages is 28.
    assert_eq!(program.map(1000, 872, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(1000, 871, RW, FIXED), Ok(AT + 1000 * PAGE));
    program.map(1000, 871, PROT_READ, FIXED).unwrap();
    // From a large process no more than the reserve is kept, and an administrator gets the rest.
    program.map(0, 4000, PROT_READ, FIXED).unwrap();
    program.kernel.capabilities = Capabilities::SYS_ADMIN;
    assert_eq!(program.map(5000, 950, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(5000, 949, RW, FIXED), Ok(AT + 5000 * PAGE));
}

#[test]
fn the_three_modes_decide_as_in_linux() {
    use Overcommit::*;
    assert_eq!(Always.decide(u64::MAX, u64::MAX, 0, 0), Ok(()));
    assert_eq!(Heuristic.decide(100, u64::MAX, 100, 0), Ok(()));
    assert_eq!(Heuristic.decide(101, 0, 100, u64::MAX), Err(Errno::ENOMEM));
    assert_eq!(Never.decide(1, 99, 0, 100), Ok(()));
    assert_eq!(Never.decide(1, 100, u64::MAX, 100), Err(Errno::ENOMEM));
    let limit = ram_and_swap(1001, 1, 50, 30).with_reserves(600 * PAGE, 0);
    assert_eq!(limit.all(), 530 * PAGE);
    assert_eq!(limit.for_process(&Usage::default(), Capabilities::empty()), 0);
    let all = CommitLimit::of_ram(PageSize::SIZE_4K, u64::MAX, 0, 100, u64::MAX).all();
    assert_eq!(all, u64::MAX);
}

/// The limit of a machine, all in pages.
fn ram_and_swap(ram: u64, huge_pages: u64, percent: u64, swap: u64) -> CommitLimit {
    let page = PageSize::SIZE_4K;
    CommitLimit::of_ram(page, ram * PAGE, huge_pages * PAGE, percent, swap * PAGE)
}

/// Half a page more would let one more page be charged.
#[test]
fn limits_are_rounded_as_linux_rounds_them() {
    assert_eq!(ram_and_swap(1001, 0, 50, 0).all(), 500 * PAGE);
    assert_eq!(ram_and_swap(3, 0, 99, 1).all(), 3 * PAGE);
    // `vm.overcommit_kbytes` and the reserves need not be whole pages.
    let limit = CommitLimit::of_bytes(PageSize::SIZE_4K, 10 * PAGE + 2048, PAGE + 1024);
    assert_eq!(limit.all(), 11 * PAGE);
    let limit = limit.with_reserves(3 * PAGE - 1, 0);
    assert_eq!(limit.for_process(&Usage::default(), Capabilities::empty()), 9 * PAGE);
    // A 32nd of 47 pages is one page and a half, of which one counts.
    let mut program = Program::new(100);
    program.kernel.set_commit_limit(limit_of(100).with_reserves(0, 50 * PAGE));
    program.map(0, 47, PROT_READ, FIXED).unwrap();
    assert_eq!(program.map(100, 99, RW, FIXED), Err(Errno::ENOMEM));
    assert_eq!(program.map(100, 98, RW, FIXED), Ok(AT + 100 * PAGE));
}

/// The limit of the running kernel follows from what it says of itself.
#[test]
#[cfg(target_os = "linux")]
fn the_commit_limit_is_that_of_the_running_kernel() {
    let Ok(meminfo) = std::fs::read_to_string("/proc/meminfo") else { return };
    let bytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    // The C type is as wide as the machine's words.
    fn wide(number: impl Into<u64>) -> u64 {
        number.into()
    }
    // SAFETY: all-zero is a value of this plain C structure, and it lives during the call.
    let (ram, swap) = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        assert_eq!(libc::sysinfo(&mut info), 0);
        let unit = u64::from(info.mem_unit);
        (wide(info.totalram) * unit, wide(info.totalswap) * unit)
    };
    let setting = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?.trim().parse().ok()
    };
    let known = || {
        let limit = match setting("overcommit_kbytes")? {
            0 => {
                let ratio = setting("overcommit_ratio")?;
                let huge_pages = bytes("Hugetlb:").unwrap_or(0);
                CommitLimit::of_ram(PageSize::SIZE_4K, ram, huge_pages, ratio, swap)
            }
            kbytes => CommitLimit::of_bytes(PageSize::SIZE_4K, kbytes * 1024, swap),
        };
        Some((limit.all(), bytes("CommitLimit:")?))
    };
    match known() {
        Some((ours, kernel)) => assert_eq!(ours, kernel),
        None => eprintln!("linux::charge: the running kernel does not tell its limit"),
    }
}

/// A kernel that notes its charges, `true`, and uncharges, `false`, and refuses as it is told.
#[derive(Default)]
struct Told {
    charges: Vec<(bool, u64)>,
    refuse_charge: bool,
    refuse_files: bool,
    refuse_inherit: bool,
}

impl Told {
    fn refusal(refuse: bool) -> Result<(), Errno> {
        if refuse { Err(Errno::ENODEV) } else { Ok(()) }
    }
}

impl Hooks<LinuxVma<Inode>> for Told {
    type Error = Errno;
}

impl Kernel<Inode> for Told {
    fn charge(&mut self, bytes: u64, _usage: &Usage) -> Result<(), Errno> {
        Self::refusal(self.refuse_charge)?;
        self.charges.push((true, bytes));
        Ok(())
    }

    fn uncharge(&mut self, bytes: u64) {
        self.charges.push((false, bytes));
    }

    fn map_file(
        &mut self,
        _file: &OpenFile<Inode>,
        _vma: &Piece<'_, LinuxVma<Inode>>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        Self::refusal(self.refuse_files).map(|()| flags)
    }

    fn inherit(&mut self, _: Inheritance, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        Self::refusal(self.refuse_inherit)
    }
}

#[test]
fn a_call_uncharges_what_it_has_charged_and_never_nothing() {
    let mut mm = Mm::<Inode, _>::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let mut told = Told::default();
    let map = |mm: &mut Mm<_, _>, told: &mut Told, page, prot, flags| {
        let (addr, flags) = (AT + page * PAGE, flags | MAP_FIXED);
        let file = Some(Inode::new(1).open());
        let args = Mmap { addr, len: 2 * PAGE, prot, flags, offset: 0, file };
        mm.mmap(args, &mut mm.update(told))
    };
    map(&mut mm, &mut told, 0, PROT_READ, ANON).unwrap();
    told.refuse_files = true;
    assert_eq!(map(&mut mm, &mut told, 4, PROT_READ, MAP_PRIVATE), Err(Errno::ENODEV));
    // Moves of memory that is not charged, one of which shrinks.
    let (flags, to) = (MREMAP_MAYMOVE | MREMAP_FIXED, AT + 64 * PAGE);
    mm.mremap(AT, 2 * PAGE, 2 * PAGE, flags, to, &mut mm.update(&mut told)).unwrap();
    mm.mremap(to, 2 * PAGE, PAGE, flags, AT, &mut mm.update(&mut told)).unwrap();
    told.refuse_inherit = true;
    assert_eq!(mm.fork(&mut mm.update(&mut told)).err(), Some(Errno::ENODEV));
    mm.clear(*mm.layout(), &mut mm.update(&mut told)).unwrap();
    assert_eq!(told.charges, []);
    map(&mut mm, &mut told, 8, RW, ANON).unwrap();
    assert_eq!(mm.fork(&mut mm.update(&mut told)).err(), Some(Errno::ENODEV));
    let all = 2 * PAGE;
    assert_eq!(told.charges, [(true, all), (true, all), (false, all)]);
    told.charges.clear();
    told.refuse_charge = true;
    assert_eq!(mm.fork(&mut mm.update(&mut told)).err(), Some(Errno::ENODEV));
    assert_eq!(told.charges, []);
}
