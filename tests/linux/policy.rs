//! The kernel's own rules, and every way around them.

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Fault, FaultAction, Install, Layout, Mm, Mmap, NoKernel, Policy, Role, SegvCode,
    VmFlags, WriteExec,
};
use kvma::{Errno, Heap};
use kvma_test_support::Inode;

use super::{ANON, AT, PAGE, RW};

const RX: u64 = PROT_READ | PROT_EXEC;
const DENIED: Result<u64, Errno> = Err(Errno::EACCES);

struct Program(Mm<Inode, Heap>);

impl Program {
    fn new(policy: Policy) -> Self {
        let mut mm = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        mm.set_policy(policy).unwrap();
        Self(mm)
    }

    fn map(&mut self, addr: u64, pages: u64, prot: u64, flags: u64) -> Result<u64, Errno> {
        let file = Some(Inode::new(1).open());
        let args = Mmap { addr, len: pages * PAGE, prot, flags, offset: 0, file };
        self.0.mmap(args, &mut self.0.update(&mut NoKernel))
    }

    fn protect(&mut self, addr: u64, prot: u64) -> Result<u64, Errno> {
        self.0.mprotect(addr, PAGE, prot, &mut self.0.update(&mut NoKernel))
    }

    fn flags(&self, addr: u64) -> VmFlags {
        VmFlags::of(&self.0.iter().find(|vma| vma.start() <= addr && addr <= vma.last()).unwrap())
    }

    /// Returns the smallest gap between two neighbours, in pages.
    fn smallest_gap(&self) -> u64 {
        self.0.iter().skip(1).map(|vma| vma.gap_before() / PAGE).min().unwrap()
    }
}

#[test]
fn nothing_is_writable_and_executable_at_once_by_any_call() {
    for rule in [WriteExec::NotTogether, WriteExec::Mdwe, WriteExec::Never] {
        let mut program = Program::new(Policy::new().with_write_exec(rule));
        let kinds =
            [ANON, MAP_SHARED, MAP_PRIVATE, ANON | MAP_GROWSDOWN, MAP_DROPPABLE | MAP_ANONYMOUS];
        for kind in kinds {
            for place in [0, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT] {
                for prot in [PROT_WRITE | PROT_EXEC, RW | PROT_EXEC, RW | PROT_EXEC | PROT_SEM] {
                    assert_eq!(program.map(AT + 64 * PAGE, 1, prot, kind | place), DENIED);
                }
            }
            program.map(AT, 3, RW, kind | MAP_FIXED).unwrap();
            assert_eq!(program.protect(AT + PAGE, RW | PROT_EXEC), DENIED);
            assert_eq!(program.protect(AT + PAGE, PROT_WRITE | PROT_EXEC), DENIED);
            if kind & MAP_GROWSDOWN != 0 {
                assert_eq!(program.protect(AT + PAGE, RW | PROT_EXEC | PROT_GROWSDOWN), DENIED);
            }
            let mm = &mut program.0;
            let tagged =
                mm.pkey_mprotect(AT, PAGE, RW | PROT_EXEC, 0, &mut mm.update(&mut NoKernel));
            assert_eq!(tagged, DENIED);
            program.map(AT, 3, RX, kind | MAP_FIXED).unwrap();
            assert_eq!(program.protect(AT, RW | PROT_EXEC), DENIED);
        }
        // Neither a move nor a fork changes that.
        program.map(AT, 1, RX, ANON | MAP_FIXED).unwrap();
        let mm = &mut program.0;
        mm.mremap(
            AT,
            PAGE,
            PAGE,
            MREMAP_MAYMOVE | MREMAP_FIXED,
            AT + 9 * PAGE,
            &mut mm.update(&mut NoKernel),
        )
        .unwrap();
        let mut child = Program(program.0.fork(&mut program.0.update(&mut NoKernel)).unwrap());
        assert_eq!(child.protect(AT + 9 * PAGE, RW | PROT_EXEC), DENIED);
        assert_eq!(child.map(0, 1, RW | PROT_EXEC, ANON), DENIED);
        // Nor does another program in the same space.
        let layout = *child.0.layout();
        child.0.clear(layout, &mut child.0.update(&mut NoKernel)).unwrap();
        assert_eq!(child.map(0, 1, RW | PROT_EXEC, ANON), DENIED);
    }
}

#[test]
fn what_was_not_executable_never_becomes_so() {
    for rule in [WriteExec::Mdwe, WriteExec::Never] {
        let mut program = Program::new(Policy::new().with_write_exec(rule));
        for prot in [0, PROT_READ, PROT_WRITE, RW] {
            program.map(AT, 1, prot, ANON | MAP_FIXED).unwrap();
            for detour in [None, Some(0), Some(PROT_READ)] {
                if let Some(detour) = detour {
                    program.protect(AT, detour).unwrap();
                }
                assert_eq!(program.protect(AT, RX), DENIED);
                assert_eq!(program.protect(AT, PROT_EXEC), DENIED);
            }
        }
        // What is executable may stay so.
        program.map(AT, 1, RX, ANON | MAP_FIXED).unwrap();
        assert_eq!(program.protect(AT, PROT_EXEC), Ok(0));
        program.protect(AT, PROT_READ).unwrap();
        assert_eq!(program.protect(AT, RX), DENIED);
    }
}

#[test]
fn code_becomes_data_only_under_the_rule_of_linux() {
    let mut program = Program::new(Policy::new().with_write_exec(WriteExec::Mdwe));
    program.map(AT, 1, RX, ANON | MAP_FIXED).unwrap();
    assert_eq!(program.protect(AT, RW), Ok(0));
    let never = Policy::new().with_write_exec(WriteExec::Never);
    program.0.set_policy(never).unwrap();
    program.map(AT, 4, RX, ANON | MAP_FIXED).unwrap();
    assert_eq!(program.protect(AT, RW), DENIED);
    assert!(program.flags(AT).contains(VmFlags::MAY_WRITE));
    for (page, detour) in [(1, 0), (2, PROT_READ)] {
        let addr = AT + page * PAGE;
        program.protect(addr, detour).unwrap();
        assert_eq!(program.protect(addr, RW), DENIED);
        assert!(!program.flags(addr).contains(VmFlags::MAY_WRITE));
    }
    // The same for the VMAs of the loader, where they are moved, and in a child.
    let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_ACCESS;
    let (start, end) = (AT + 16 * PAGE, AT + 18 * PAGE);
    let vma = Install { start, end, flags, offset: 0, handle: Some((Inode::new(2), Role::Object)) };
    let mm = &mut program.0;
    mm.install(vma, &mut mm.update(&mut NoKernel)).unwrap();
    program.protect(start, PROT_READ).unwrap();
    let mm = &mut program.0;
    let to = AT + 32 * PAGE;
    mm.mremap(start, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to, &mut mm.update(&mut NoKernel))
        .unwrap();
    let mut child = Program(program.0.fork(&mut program.0.update(&mut NoKernel)).unwrap());
    assert_eq!(program.protect(to, RW), DENIED);
    assert_eq!(child.protect(to, RW), DENIED);
    child.0.check().unwrap();
}

#[test]
fn the_heap_keeps_the_kernels_guard() {
    let mut program = Program::new(Policy::new().with_guard(4 * PAGE));
    program.0.set_start_brk(AT, 0);
    program.map(AT + 16 * PAGE, 1, RW, ANON | MAP_FIXED).unwrap();
    let mm = &mut program.0;
    let mut brk = |pages| mm.brk(AT + pages * PAGE, &mut mm.update(&mut NoKernel));
    assert_eq!(brk(13), AT, "three pages between");
    assert_eq!(brk(12), AT + 12 * PAGE);
    assert_eq!(program.smallest_gap(), 4);
}

#[test]
fn a_stack_keeps_the_kernels_guard() {
    // Also from what needs no gap in Linux: memory without access, and another stack.
    for (prot, flags) in [(0, ANON), (RW, ANON | MAP_GROWSDOWN), (RW, ANON)] {
        let mut program = Program::new(Policy::new().with_guard(512 * PAGE));
        program.map(AT, 1, prot, flags | MAP_FIXED).unwrap();
        program.map(AT + 1000 * PAGE, 1, RW, ANON | MAP_GROWSDOWN | MAP_FIXED).unwrap();
        let mm = &mut program.0;
        let mut write = |page| {
            mm.fault(&Fault::new(AT + page * PAGE, Access::Write), &mut mm.update(&mut NoKernel))
        };
        assert_eq!(write(512), FaultAction::Refuse(SegvCode::MapErr));
        assert_eq!(write(513), FaultAction::Copy);
        assert_eq!(program.smallest_gap(), 512);
    }
}

#[test]
fn what_is_extended_in_place_keeps_the_kernels_guard() {
    let mut program = Program::new(Policy::new().with_guard(4 * PAGE));
    program.map(AT, 2, RW, ANON | MAP_FIXED).unwrap();
    program.map(AT + 16 * PAGE, 1, RW, ANON | MAP_FIXED).unwrap();
    let mm = &mut program.0;
    let mut grow = |pages, flags| {
        mm.mremap(AT, 2 * PAGE, pages * PAGE, flags, 0, &mut mm.update(&mut NoKernel))
    };
    assert_eq!(grow(13, 0), Err(Errno::ENOMEM));
    assert_ne!(grow(13, MREMAP_MAYMOVE), Ok(AT));
    assert!(program.smallest_gap() >= 4);
}

#[test]
fn a_guard_does_not_lift_a_hint_out_of_the_lowest_2_gib() {
    let mut program = Program::new(Policy::new().with_guard(4 * PAGE));
    for hint in [AT, 1 << 31, (1 << 31) - PAGE, 0x5000_0000] {
        let addr = program.map(hint, 4, RW, ANON | MAP_32BIT).unwrap();
        assert!(addr + 4 * PAGE <= 1 << 31, "{addr:x}");
    }
    assert!(program.smallest_gap() >= 4);
}

#[test]
fn a_guard_may_be_all_that_lies_below_a_hint() {
    let mut program = Program::new(Policy::new().with_guard(16 * PAGE));
    assert_eq!(program.map(16 * PAGE, 4, RW, ANON), Ok(16 * PAGE));
}
