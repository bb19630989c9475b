//! The memory calls of POSIX and what Linux adds to them, one test for each entry of
//! docs/COMING-FROM.md: `linux::Mm` answers as Linux does, `VmMap` underneath in its own words.

use kvma::addr_space::HasVmMap;
use kvma::compat::MapOptions;
use kvma::linux::abi::*;
use kvma::linux::{Capabilities, Layout, Mm, Mmap, PageOp, VmFlags};
use kvma::*;
use kvma_test_support::{Inode, TestKernel};

const PAGE: u64 = 4096;

struct Program {
    mm: Mm<Inode, Heap>,
    kernel: TestKernel,
}

impl Program {
    fn new() -> Program {
        Program {
            mm: Mm::new(Layout::x86_64(8 << 20), Heap).unwrap(),
            // So that it can lock what it likes.
            kernel: TestKernel::default().with_capabilities(Capabilities::IPC_LOCK),
        }
    }

    fn mmap(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        flags: u64,
        file: Option<Inode>,
    ) -> Result<u64, Errno> {
        let file = file.map(Inode::open);
        let args = Mmap { addr, len, prot, flags, offset: 0, file };
        self.mm.mmap(args, &mut self.mm.update(&mut self.kernel))
    }

    fn anonymous(&mut self, len: u64, prot: u64) -> u64 {
        self.mmap(0, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, None).unwrap()
    }

    fn munmap(&mut self, addr: u64, len: u64) -> Result<u64, Errno> {
        self.mm.munmap(addr, len, &mut self.mm.update(&mut self.kernel))
    }

    fn mprotect(&mut self, addr: u64, len: u64, prot: u64) -> Result<u64, Errno> {
        self.mm.mprotect(addr, len, prot, &mut self.mm.update(&mut self.kernel))
    }

    fn flags(&self, addr: u64) -> VmFlags {
        let vma = self.mm.vm_map().find(addr).unwrap();
        VmFlags::of(&vma)
    }
}

const RW: u64 = PROT_READ | PROT_WRITE;

#[test]
fn mmap_anonymous_and_of_files() {
    let mut program = Program::new();
    let at = program.anonymous(3 * PAGE, RW);
    assert!(program.flags(at).contains(VmFlags::READ | VmFlags::WRITE));
    // Lengths are rounded up to pages; a length of zero is EINVAL.
    let at = program.anonymous(PAGE + 1, PROT_READ);
    assert_eq!(program.mm.vm_map().find(at).unwrap().page_count(), 2);
    assert_eq!(program.mmap(0, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, None), Err(Errno::EINVAL));
    let at = program.mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, Some(Inode::new(7))).unwrap();
    let vma = program.mm.vm_map().find(at + PAGE).unwrap();
    assert_eq!(vma.data().object(), Some(&Inode::new(7)));
    assert_eq!(program.mmap(0, PAGE, PROT_READ, MAP_PRIVATE, None), Err(Errno::EBADF));
}

#[test]
fn map_shared_and_map_private() {
    let mut program = Program::new();
    let shared = program.mmap(0, PAGE, RW, MAP_SHARED, Some(Inode::new(7))).unwrap();
    let private = program.mmap(0, PAGE, RW, MAP_PRIVATE, Some(Inode::new(7))).unwrap();
    assert!(program.flags(shared).contains(VmFlags::SHARED));
    assert!(!program.flags(private).contains(VmFlags::SHARED));
    // Neither is EINVAL.
    assert_eq!(program.mmap(0, PAGE, RW, MAP_ANONYMOUS, None), Err(Errno::EINVAL));
}

#[test]
fn shared_memory_is_an_object() {
    // MAP_SHARED|MAP_ANONYMOUS, and what shm_open gives, are objects of the kernel.
    let mut program = Program::new();
    let at = program.mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, None).unwrap();
    assert_eq!(program.mm.vm_map().find(at).unwrap().data().object(), Some(&Inode::new(1001)));
}

#[test]
fn map_fixed_replaces_and_noreplace_refuses() {
    let mut program = Program::new();
    let at = program.anonymous(4 * PAGE, RW);
    let fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    assert_eq!(program.mmap(at + PAGE, PAGE, PROT_READ, fixed, None), Ok(at + PAGE));
    assert_eq!(program.kernel.unmapped, [(at + PAGE, 1)]);
    let gentle = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    assert_eq!(program.mmap(at, PAGE, PROT_READ, gentle, None), Err(Errno::EEXIST));
    assert_eq!(program.mmap(at + 1, PAGE, PROT_READ, fixed, None), Err(Errno::EINVAL));
}

#[test]
fn hints_are_taken_if_they_can_be() {
    let mut program = Program::new();
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    assert_eq!(program.mmap(0x5000_0000, PAGE, RW, flags, None), Ok(0x5000_0000));
    assert_ne!(program.mmap(0x5000_0000, PAGE, RW, flags, None), Ok(0x5000_0000));
}

#[test]
fn munmap_of_parts_and_gaps() {
    let mut program = Program::new();
    let at = program.anonymous(8 * PAGE, RW);
    assert_eq!(program.munmap(at + 2 * PAGE, 2 * PAGE), Ok(0));
    assert_eq!(program.munmap(at, 8 * PAGE), Ok(0));
    assert_eq!(program.munmap(at, 8 * PAGE), Ok(0), "nothing there is no error");
    assert_eq!(program.kernel.unmapped, [(at + 2 * PAGE, 2), (at, 2), (at + 4 * PAGE, 4)]);
    assert_eq!(program.munmap(at + 1, PAGE), Err(Errno::EINVAL));
    assert_eq!(program.munmap(at, 0), Err(Errno::EINVAL));
}

#[test]
fn mprotect_for_a_jit() {
    let mut program = Program::new();
    let at = program.anonymous(2 * PAGE, RW);
    assert_eq!(program.mprotect(at, PAGE, PROT_READ | PROT_EXEC), Ok(0));
    assert_eq!(program.kernel.protected, [(at, Prot::RW, Prot::RX)]);
    assert_eq!(program.mprotect(at + 1, PAGE, RW), Err(Errno::EINVAL));
}

#[test]
fn mprotect_over_a_gap() {
    // Linux changes what comes before the gap and then returns ENOMEM, and so does `linux::Mm`.
    let mut program = Program::new();
    let at = program.anonymous(4 * PAGE, RW);
    program.munmap(at + 2 * PAGE, PAGE).unwrap();
    assert_eq!(program.mprotect(at, 4 * PAGE, PROT_READ), Err(Errno::ENOMEM));
    assert!(!program.flags(at).contains(VmFlags::WRITE));
    assert!(program.flags(at + 3 * PAGE).contains(VmFlags::WRITE));
    // `VmMap` does all or nothing.
    let mut map = VmMap::<(), _>::new(0x1000..=0x1_0fff, PageSize::SIZE_4K, Heap).unwrap();
    for at in [0x1000, 0x3000] {
        let request = MapRequest::new(Placement::Fixed(at), PAGE, Attrs::new(Prot::RW));
        map.map(request, &mut NoHooks).unwrap();
    }
    let refused = map.protect(0x1000, 3 * PAGE, Prot::READ, &mut NoHooks);
    assert_eq!(refused.map_err(Error::errno), Err(Errno::ENOMEM));
    assert_eq!(map.find(0x1000).unwrap().prot(), Prot::RW);
}

#[test]
fn guard_pages() {
    let mut program = Program::new();
    let at = program.anonymous(4 * PAGE, 0);
    program.mprotect(at + PAGE, 2 * PAGE, RW).unwrap();
    let access = VmFlags::READ | VmFlags::WRITE;
    let accessible: Vec<_> =
        (0..4).map(|page| program.flags(at + page * PAGE).intersects(access)).collect();
    assert_eq!(accessible, [false, true, true, false]);
}

#[test]
fn mlock_and_mlockall() {
    let mut program = Program::new();
    let at = program.anonymous(4 * PAGE, RW);
    let Program { mm, kernel } = &mut program;
    assert_eq!(mm.mlock(at, PAGE, &mut mm.update(kernel)), Ok(0));
    assert!(program.flags(at).contains(VmFlags::LOCKED));
    let Program { mm, kernel } = &mut program;
    assert_eq!(mm.munlock(at, PAGE, &mut mm.update(kernel)), Ok(0));
    assert_eq!(mm.mlockall(MCL_CURRENT | MCL_FUTURE, &mut mm.update(kernel)), Ok(0));
    let next = program.anonymous(PAGE, PROT_READ);
    assert!(
        program.flags(at).contains(VmFlags::LOCKED)
            && program.flags(next).contains(VmFlags::LOCKED)
    );
    let Program { mm, kernel } = &mut program;
    mm.munlockall(&mut mm.update(kernel));
    assert!(!program.flags(at).contains(VmFlags::LOCKED));
    // The kernel populates the pages.
    assert!(program.kernel.page_ops.iter().any(|act| act.0 == PageOp::Populate));
}

#[test]
fn madvise() {
    const MADV_RANDOM: u64 = 1;
    const MADV_SEQUENTIAL: u64 = 2;
    const MADV_WILLNEED: u64 = 3;
    const MADV_DONTNEED: u64 = 4;
    const MADV_FREE: u64 = 8;
    const MADV_DONTDUMP: u64 = 16;
    let mut program = Program::new();
    let at = program.anonymous(4 * PAGE, RW);
    let advise = |program: &mut Program, advice| {
        let Program { mm, kernel } = program;
        mm.madvise(at, PAGE, advice, &mut mm.update(kernel))
    };
    for (advice, flag) in [
        (MADV_RANDOM, VmFlags::RAND_READ),
        (MADV_SEQUENTIAL, VmFlags::SEQ_READ),
        (MADV_DONTDUMP, VmFlags::DONT_DUMP),
    ] {
        assert_eq!(advise(&mut program, advice), Ok(0));
        assert!(program.flags(at).contains(flag));
        assert!(!program.flags(at + PAGE).contains(flag));
    }
    for (advice, op) in [(MADV_DONTNEED, PageOp::DontNeed), (MADV_FREE, PageOp::Free)] {
        program.kernel.page_ops.clear();
        assert_eq!(advise(&mut program, advice), Ok(0));
        assert_eq!(program.kernel.page_ops, [(op, at, 1)]);
    }
    assert_eq!(advise(&mut program, MADV_WILLNEED), Ok(0));
    assert_eq!(advise(&mut program, 9999), Err(Errno::EINVAL));
}

#[test]
fn msync() {
    let mut program = Program::new();
    let at = program.mmap(0, 4 * PAGE, RW, MAP_SHARED, Some(Inode::new(7))).unwrap();
    let Program { mm, kernel } = &mut program;
    assert_eq!(mm.msync(at + PAGE, PAGE, MS_SYNC, &mut mm.update(kernel)), Ok(0));
    assert_eq!(kernel.page_ops, [(PageOp::WriteBack, at + PAGE, 1)]);
    assert_eq!(mm.msync(at, PAGE, MS_SYNC | MS_ASYNC, &mut mm.update(kernel)), Err(Errno::EINVAL));
    assert_eq!(mm.msync(at, 8 * PAGE, MS_SYNC, &mut mm.update(kernel)), Err(Errno::ENOMEM));
}

#[test]
fn proc_maps() {
    let mut program = Program::new();
    program.mmap(0x5000_0000, 2 * PAGE, RW, MAP_SHARED, Some(Inode::new(7))).unwrap();
    let text = program.mm.maps().to_string();
    assert_eq!(
        text.trim_end(),
        format!("{:<73}/file/7", "50000000-50002000 rw-s 00000000 08:01 7")
    );
    // And back.
    let mut map = VmMap::<(), _>::new(0x1000..=0x7fff_ffff_ffff, PageSize::SIZE_4K, Heap).unwrap();
    assert_eq!(map.adopt_maps(&text, |_, attrs| (attrs, ())), Ok(1));
}

#[test]
fn exec_replaces_all() {
    let mut program = Program::new();
    let at = program.anonymous(4 * PAGE, RW);
    let Program { mm, kernel } = &mut program;
    mm.clear(Layout::x86_64(8 << 20), &mut mm.update(kernel)).unwrap();
    assert_eq!(kernel.unmapped, [(at, 4)]);
    assert_eq!(mm.map_count(), 0);
}

#[test]
fn device_registers() {
    // mmap of /dev/mem or of a UIO device. The driver says how it is cached, and it never merges
    // with memory.
    let mut map = VmMap::<(), _>::new(0x1000..=0x1_0fff, PageSize::SIZE_4K, Heap).unwrap();
    let registers = MapOptions::new(PAGE)
        .prot(Prot::RW)
        .shared()
        .object(2, 0xfe20_0000)
        .mem_type(MemType::Device);
    let mut seen = None;
    let mut hooks = on_event(|event| {
        if let Event::Map(piece) = event {
            seen = Some((piece.attrs().mem_type(), piece.attrs().backing()));
        }
    });
    map.map(registers.request(PageSize::SIZE_4K).unwrap(), &mut hooks).unwrap();
    assert_eq!(seen, Some((MemType::Device, Backing::Object { id: 2, offset: 0xfe20_0000 })));
}
