//! The numbers that user space passes: x86-64's, as in `asm/mman.h` and `linux/mman.h`.

/// `PROT_READ`: pages may be read.
pub const PROT_READ: u64 = 1;
/// `PROT_WRITE`: pages may be written.
pub const PROT_WRITE: u64 = 2;
/// `PROT_EXEC`: pages may be executed.
pub const PROT_EXEC: u64 = 4;
/// `PROT_SEM`: accepted and ignored.
pub const PROT_SEM: u64 = 8;
/// `PROT_GROWSDOWN`: mprotect starts at the stack's lowest page.
pub const PROT_GROWSDOWN: u64 = 0x0100_0000;
/// `PROT_GROWSUP`: for stacks that grow upwards, which x86-64 does not have.
pub const PROT_GROWSUP: u64 = 0x0200_0000;

/// `MAP_SHARED`: writes reach the object, and everybody who maps it.
pub const MAP_SHARED: u64 = 1;
/// `MAP_PRIVATE`: what is written is the program's alone.
pub const MAP_PRIVATE: u64 = 2;
/// `MAP_SHARED_VALIDATE`: as `MAP_SHARED`, and flags that are not known are refused.
pub const MAP_SHARED_VALIDATE: u64 = 3;
/// `MAP_DROPPABLE`: private memory that the kernel may drop at any time.
pub const MAP_DROPPABLE: u64 = 8;
/// The bits that hold one of the four types above.
pub const MAP_TYPE: u64 = 0xf;
/// `MAP_FIXED`: at the address given, in place of what is mapped there.
pub const MAP_FIXED: u64 = 0x10;
/// `MAP_ANONYMOUS`: memory of zeros, and no file.
pub const MAP_ANONYMOUS: u64 = 0x20;
/// `MAP_32BIT`: in the lowest 2 GiB.
pub const MAP_32BIT: u64 = 0x40;
/// `MAP_ABOVE4G`: above the lowest 4 GiB.
pub const MAP_ABOVE4G: u64 = 0x80;
/// `MAP_GROWSDOWN`: a stack, which faults below it extend.
pub const MAP_GROWSDOWN: u64 = 0x100;
/// `MAP_DENYWRITE`: accepted and ignored.
pub const MAP_DENYWRITE: u64 = 0x800;
/// `MAP_EXECUTABLE`: accepted and ignored.
pub const MAP_EXECUTABLE: u64 = 0x1000;
/// `MAP_LOCKED`: pages stay in memory.
pub const MAP_LOCKED: u64 = 0x2000;
/// `MAP_NORESERVE`: no memory is set aside for it.
pub const MAP_NORESERVE: u64 = 0x4000;
/// `MAP_POPULATE`: pages are brought in at once.
pub const MAP_POPULATE: u64 = 0x8000;
/// `MAP_NONBLOCK`: cancels `MAP_POPULATE`.
pub const MAP_NONBLOCK: u64 = 0x1_0000;
/// `MAP_STACK`: no huge pages.
pub const MAP_STACK: u64 = 0x2_0000;
/// `MAP_HUGETLB`: made of huge pages.
pub const MAP_HUGETLB: u64 = 0x4_0000;
/// `MAP_SYNC`: a page that can be written is safe on its medium; for persistent memory.
pub const MAP_SYNC: u64 = 0x8_0000;
/// `MAP_FIXED_NOREPLACE`: at the address given, if nothing is mapped there.
pub const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// `MAP_UNINITIALIZED`: accepted and ignored.
pub const MAP_UNINITIALIZED: u64 = 0x400_0000;
/// The lowest of the six bits that hold log2 of the huge page size.
pub const MAP_HUGE_SHIFT: u32 = 26;
/// The six bits, shifted down.
pub const MAP_HUGE_MASK: u64 = 0x3f;
/// The flags that `MAP_SHARED_VALIDATE` knows for every file (`LEGACY_MAP_MASK`). `MAP_SHARED`
/// ignores all others.
pub const LEGACY_MAP_MASK: u64 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_UNINITIALIZED
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_ABOVE4G
    | 21 << MAP_HUGE_SHIFT
    | 30 << MAP_HUGE_SHIFT;

/// `MREMAP_MAYMOVE`: it may move, where it cannot grow.
pub const MREMAP_MAYMOVE: u64 = 1;
/// `MREMAP_FIXED`: it moves to the address given, in place of what is mapped there.
pub const MREMAP_FIXED: u64 = 2;
/// `MREMAP_DONTUNMAP`: it stays mapped where it was, without its pages.
pub const MREMAP_DONTUNMAP: u64 = 4;

/// `SHM_RDONLY`: for reading only.
pub const SHM_RDONLY: u64 = 0o10000;
/// `SHM_RND`: the address is rounded down to a page.
pub const SHM_RND: u64 = 0o20000;
/// `SHM_REMAP`: in place of what is mapped there.
pub const SHM_REMAP: u64 = 0o40000;
/// `SHM_EXEC`: pages may be executed.
pub const SHM_EXEC: u64 = 0o100_000;

/// `MLOCK_ONFAULT`: pages are locked when they are first used.
pub const MLOCK_ONFAULT: u64 = 1;
/// `MCL_CURRENT`: locks what is mapped.
pub const MCL_CURRENT: u64 = 1;
/// `MCL_FUTURE`: locks what will be mapped.
pub const MCL_FUTURE: u64 = 2;
/// `MCL_ONFAULT`: pages are locked when they are first used.
pub const MCL_ONFAULT: u64 = 4;

/// `MS_ASYNC`: checks, and does no more, since pages are written back anyway.
pub const MS_ASYNC: u64 = 1;
/// `MS_INVALIDATE`: refused for locked memory.
pub const MS_INVALIDATE: u64 = 2;
/// `MS_SYNC`: writes back, and waits.
pub const MS_SYNC: u64 = 4;

/// Returns an argument that is an `int`: the upper half of the register does not count.
pub(super) const fn int(argument: u64) -> u64 {
    argument & u32::MAX as u64
}
