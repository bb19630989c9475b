/*
 * kvma: VMAs for kernels and hypervisors. Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate, then
 *     KVMA_BLESS=1 cargo test -p kvma-capi --test header
 *
 * All functions: a pointer is NULL or points to what its type says for as long as the call lasts;
 * what a const pointer points to does not change meanwhile, and what a result goes to is not used
 * otherwise. Tables of functions live as long as their comments say. A handle has not been freed,
 * and no other thread frees it during the call.
 *
 * A call answers KVMA_NULL_POINTER where a pointer must not be NULL, KVMA_OUT_OF_MEMORY without
 * memory, and KVMA_BUSY for a handle that is in use, as by the call whose callback makes this one;
 * that holds until the handle is freed. A call that does not answer KVMA_OK has changed nothing.
 * Functions that the caller hands over must return: no C++ exception and no longjmp across this
 * library.
 *
 * Addresses, lengths, offsets, alignments and amounts of memory are in bytes.
 */

#ifndef KVMA_H
#define KVMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvma_file;


// Pages may be read.
#define KVMA_READ 1

// Pages may be written.
#define KVMA_WRITE 2

// Pages may be executed.
#define KVMA_EXEC 4

// Writes are seen by everybody who maps the same object.
#define KVMA_SHARED (1 << 3)

// The VMA is a stack: a fault below may extend it downwards.
#define KVMA_GROWS_DOWN (1 << 4)

// Pages stay in memory.
#define KVMA_LOCKED (1 << 5)

// The VMA never merges with a neighbour.
#define KVMA_NO_MERGE (1 << 7)

// Memory type of frame buffers: writes are combined, reads are not cached. None of the three types
// is ordinary memory, cached and written back.
#define KVMA_WRITE_COMBINING (1 << 8)

// Memory type: not cached, ordered as ordinary memory.
#define KVMA_UNCACHED (2 << 8)

// Memory type of device registers: not cached, not reordered, not speculated.
#define KVMA_DEVICE (3 << 8)

// The VMA is never split. Of the split granularities, `KVMA_SPLIT_…`, a VMA has one or none; with
// none it may be split at every page.
#define KVMA_SPLIT_NEVER (3 << 10)

// The VMA may be split at multiples of 64 KiB only.
#define KVMA_SPLIT_64K (4 << 10)

// The VMA may be split at multiples of 512 KiB only.
#define KVMA_SPLIT_512K (8 << 10)

// The VMA may be split at multiples of 1 MiB only.
#define KVMA_SPLIT_1M (9 << 10)

// The VMA may be split at multiples of 2 MiB only.
#define KVMA_SPLIT_2M (1 << 10)

// The VMA may be split at multiples of 4 MiB only.
#define KVMA_SPLIT_4M (10 << 10)

// The VMA may be split at multiples of 8 MiB only.
#define KVMA_SPLIT_8M (11 << 10)

// The VMA may be split at multiples of 16 MiB only.
#define KVMA_SPLIT_16M (12 << 10)

// The VMA may be split at multiples of 32 MiB only.
#define KVMA_SPLIT_32M (5 << 10)

// The VMA may be split at multiples of 256 MiB only.
#define KVMA_SPLIT_256M (13 << 10)

// The VMA may be split at multiples of 512 MiB only.
#define KVMA_SPLIT_512M (6 << 10)

// The VMA may be split at multiples of 1 GiB only.
#define KVMA_SPLIT_1G (2 << 10)

// The VMA may be split at multiples of 2 GiB only.
#define KVMA_SPLIT_2G (14 << 10)

// The VMA may be split at multiples of 16 GiB only.
#define KVMA_SPLIT_16G (7 << 10)

// The VMA may be split at multiples of 512 GiB only.
#define KVMA_SPLIT_512G (15 << 10)

// The lowest of sixteen flags that are the kernel's own.
#define KVMA_USER_FLAG (1 << 16)

// The piece is going to be mapped.
#define KVMA_EVENT_MAP 0

// The piece is going to be unmapped.
#define KVMA_EVENT_UNMAP 1

// The piece is going to have new attributes.
#define KVMA_EVENT_PROTECT 2

// The piece's contents are going to move.
#define KVMA_EVENT_RELOCATE 3

// Advice: the pages will be needed soon (`MADV_WILLNEED`).
#define KVMA_ADVISE_WILL_NEED 0

// Advice: what the pages hold is not needed; the next access finds zeros or the object
// (`MADV_DONTNEED`).
#define KVMA_ADVISE_DONT_NEED 1

// Advice: the pages may go when memory runs short (`MADV_FREE`).
#define KVMA_ADVISE_FREE 2

// Advice: populate the page tables now (`MADV_POPULATE_READ`).
#define KVMA_ADVISE_POPULATE 3

// Advice: write back what was changed, and wait (`MS_SYNC`).
#define KVMA_ADVISE_FLUSH 4

// Advice: start to write back what was changed (`MS_ASYNC`).
#define KVMA_ADVISE_FLUSH_ASYNC 5

// Advice: make the instruction cache see what was written.
#define KVMA_ADVISE_FLUSH_INSTRUCTIONS 6

// Success.
#define KVMA_SPACE_OK 0

// The arguments make no sense, or the range leaves the space.
#define KVMA_SPACE_INVALID 1

// There is no memory, or no free range that is long enough. Nothing has changed.
#define KVMA_SPACE_NO_MEMORY 2

// Not all of the range is mapped; the parts that are have been changed.
#define KVMA_SPACE_NOT_MAPPED 3

// The callback asked to stop. Nothing has changed.
#define KVMA_SPACE_STOPPED 4

// A load.
#define KVMA_ACCESS_READ 0

// A store.
#define KVMA_ACCESS_WRITE 1

// An instruction fetch.
#define KVMA_ACCESS_EXECUTE 2

// Make the page present, with no more rights than the VMA has; a private page of an object without
// write access, so that the first write faults.
#define KVMA_FAULT_MAP 0

// Give the VMA a page of its own, with what is there now or with zeros: the fault is a write to
// private memory.
#define KVMA_FAULT_COPY 1

// Send `SEGV_MAPERR`: nothing is mapped there.
#define KVMA_FAULT_MAPERR 2

// Send `SEGV_ACCERR`: what is mapped there does not allow the access.
#define KVMA_FAULT_ACCERR 3

// Ask `kvma_linux_fault`: the VMA must take note of the access, or a stack may have to grow. Only
// `kvma_linux_check_access` answers so.
#define KVMA_FAULT_UNDECIDED 4

// The file is open for reading.
#define KVMA_FILE_READ 1

// The file is open for writing.
#define KVMA_FILE_WRITE 2

// The file has no pages to map, as a directory has none (`ENODEV`).
#define KVMA_FILE_UNMAPPABLE 1

// The file lies on a file system that is mounted `noexec`.
#define KVMA_FILE_NO_EXEC (1 << 1)

// The file is append-only.
#define KVMA_FILE_APPEND_ONLY (1 << 2)

// The file is in use as swap space (`ETXTBSY`).
#define KVMA_FILE_SWAP (1 << 3)

// `MAP_SYNC` may be given with `MAP_SHARED_VALIDATE`.
#define KVMA_FILE_KNOWS_SYNC (1 << 4)

// `MAP_SYNC` works: the file is persistent memory.
#define KVMA_FILE_PERSISTENT (1 << 5)

// The file is sealed against writing (`F_SEAL_WRITE`, `F_SEAL_FUTURE_WRITE`).
#define KVMA_FILE_WRITE_SEALED (1 << 6)

// The kernel alone chooses the address (`EINVAL` for any other), as for rings of io_uring(7).
#define KVMA_RESTRICT_ADDRESS 1

// mremap moves it alone, not with other VMAs (`EFAULT`), as segments of System V shared memory.
#define KVMA_RESTRICT_JOINT_MOVE (1 << 1)

// It cannot be split (`EINVAL`), as buffers of perf_event_open(2).
#define KVMA_RESTRICT_SPLIT (1 << 2)

// mlock and the like pass it over, as secret memory and files of persistent memory.
#define KVMA_RESTRICT_LOCK (1 << 3)

// Pages come in by the program's own accesses alone, as those of memfd_secret(2).
#define KVMA_RESTRICT_POPULATE (1 << 4)

// `CAP_IPC_LOCK`: may lock more memory than the limit.
#define KVMA_CAP_IPC_LOCK 1

// `CAP_SYS_RAWIO`: may map the lowest addresses.
#define KVMA_CAP_SYS_RAWIO 2

// `CAP_SYS_ADMIN`: may use the last few per cent of memory.
#define KVMA_CAP_SYS_ADMIN 4

// Overcommit: refuse only what alone exceeds all memory.
#define KVMA_OVERCOMMIT_HEURISTIC 0

// Overcommit: refuse nothing.
#define KVMA_OVERCOMMIT_ALWAYS 1

// Overcommit: refuse what exceeds the commit limit.
#define KVMA_OVERCOMMIT_NEVER 2

// Bring the pages in, writable where the VMA is.
#define KVMA_PAGE_OP_POPULATE 0

// `MADV_POPULATE_READ`: as if each page had been read.
#define KVMA_PAGE_OP_POPULATE_READ 1

// `MADV_POPULATE_WRITE`: as if each page had been written.
#define KVMA_PAGE_OP_POPULATE_WRITE 2

// `MADV_WILLNEED`: read ahead.
#define KVMA_PAGE_OP_WILL_NEED 3

// `MADV_DONTNEED`: drop what is mapped; the next access sees zeros or the file.
#define KVMA_PAGE_OP_DONT_NEED 4

// `MADV_FREE`: the pages may be dropped until they are written again.
#define KVMA_PAGE_OP_FREE 5

// `MADV_REMOVE`: punch a hole in the object.
#define KVMA_PAGE_OP_REMOVE 6

// `MADV_COLD`: reclaim early.
#define KVMA_PAGE_OP_COLD 7

// `MADV_PAGEOUT`: reclaim now.
#define KVMA_PAGE_OP_PAGE_OUT 8

// `MADV_COLLAPSE`: make huge pages now.
#define KVMA_PAGE_OP_COLLAPSE 9

// `MADV_GUARD_INSTALL`: each page faults from now on, and its contents go.
#define KVMA_PAGE_OP_GUARD_INSTALL 10

// `MADV_GUARD_REMOVE`: take such guards away.
#define KVMA_PAGE_OP_GUARD_REMOVE 11

// `msync(MS_SYNC)`: write the object's range to its device, and wait.
#define KVMA_PAGE_OP_WRITE_BACK 12

// `mincore`: say which pages are in memory.
#define KVMA_PAGE_OP_RESIDENCY 13

// Something that this header has no number for yet.
#define KVMA_PAGE_OP_OTHER UINT32_MAX

// Both see the same pages until one writes: take write access away on both sides.
#define KVMA_INHERIT_COPY_ON_WRITE 0

// Both see the same pages for good. The child's entries may be left to its faults.
#define KVMA_INHERIT_SHARE 1

// The child sees zeros (`MADV_WIPEONFORK`).
#define KVMA_INHERIT_WIPE 2

// `RLIMIT_AS`
#define KVMA_LIMIT_ADDRESS_SPACE 0

// `RLIMIT_DATA`
#define KVMA_LIMIT_DATA 1

// `RLIMIT_MEMLOCK`
#define KVMA_LIMIT_MEM_LOCK 2

// `RLIMIT_STACK`
#define KVMA_LIMIT_STACK 3

// The hard limit of `RLIMIT_DATA`, which counts for mappings where the soft one is 0.
#define KVMA_LIMIT_DATA_MAX 4

// Memory may be writable and executable at once, as everywhere.
#define KVMA_WRITE_EXEC_ALLOWED 0

// Memory may not be writable and executable at once (`EACCES`).
#define KVMA_WRITE_EXEC_NOT_TOGETHER 1

// Memory may be writable and executable neither at once nor one after the other.
#define KVMA_WRITE_EXEC_NEVER 2

// Memory may not be writable and executable at once, and what was not mapped executable never
// becomes so: `prctl(PR_SET_MDWE)`.
#define KVMA_WRITE_EXEC_MDWE 3

// `[vsyscall]` is not listed.
#define KVMA_GATE_NONE 0

// `[vsyscall]` may be called.
#define KVMA_GATE_EXECUTE 1

// `[vsyscall]` may be called and read.
#define KVMA_GATE_READ_EXECUTE 2

// The file is what is mapped; without a file, the memory is plain anonymous memory.
#define KVMA_ROLE_OBJECT 0

// The file names anonymous memory (`PR_SET_VMA_ANON_NAME`).
#define KVMA_ROLE_NAME 1

// The file names memory that the kernel itself put there, such as `[vdso]`. It cannot be split.
#define KVMA_ROLE_SPECIAL 2

// Searches from the top: the highest free range is taken.
#define KVMA_TOP_DOWN 1

// `hint` counts.
#define KVMA_HINTED 2

// Placement: wherever `search` finds a free range.
#define KVMA_ANYWHERE 0

// Placement: at `addr`, replacing what is mapped there (`MAP_FIXED`).
#define KVMA_FIXED 1

// Placement: at `addr` if the range is free (`MAP_FIXED_NOREPLACE`).
#define KVMA_FIXED_NOREPLACE 2

// A new VMA merges with both neighbours where it can.
#define KVMA_MERGE_BOTH 0

// A new VMA merges with the neighbour below only.
#define KVMA_MERGE_LEFT 1

// A new VMA merges with the neighbour above only.
#define KVMA_MERGE_RIGHT 2

// A new VMA does not merge.
#define KVMA_MERGE_NEVER 3

// Success.
#define KVMA_OK 0

// The allocator had no memory to give.
#define KVMA_OUT_OF_MEMORY 1

// No free range of that length and alignment lies in the window.
#define KVMA_NO_SPACE 2

// An address, length, alignment or offset is not a multiple of the page size, or a page size or
// alignment is not a power of two.
#define KVMA_UNALIGNED 3

// The length is zero.
#define KVMA_ZERO_LENGTH 4

// The range wraps around, or reaches beyond the address space.
#define KVMA_OUT_OF_RANGE 5

// The range is in use, or a part of it is.
#define KVMA_OVERLAP 6

// The range has a gap, or nothing is mapped there.
#define KVMA_NOT_MAPPED 7

// A VMA would be split below its split granularity.
#define KVMA_SPLIT_REFUSED 8

// No two VMAs meet at this address.
#define KVMA_NOT_ADJACENT 9

// The VMAs differ in protection, flags, user bits or user data.
#define KVMA_ATTRIBUTES_DIFFER 10

// The VMAs are backed by different objects, or their offsets are not contiguous.
#define KVMA_BACKING_DIFFERS 11

// A claim holds the range, or a part of it.
#define KVMA_CLAIMED 12

// The claim is gone: something was mapped over it at a fixed address.
#define KVMA_CLAIM_LOST 13

// The map is not empty, and has to be.
#define KVMA_NOT_EMPTY 14

// The two maps cover different ranges, or have pages of different sizes.
#define KVMA_SPACE_MISMATCH 15

// The two maps are one and the same.
#define KVMA_SAME_SPACE 16

// Memory would be writable and executable, at once or one after the other.
#define KVMA_WRITE_XOR_EXEC 17

// The two handles have different allocators.
#define KVMA_FOREIGN_MEMORY 18

// The handle is in use, by another thread or by the call whose callback made this one.
#define KVMA_BUSY 19

// A pointer is NULL that must not be.
#define KVMA_NULL_POINTER 20

// An argument is none of its `KVMA_…` constants.
#define KVMA_BAD_ARGUMENT 21

// A callback asked to stop.
#define KVMA_STOPPED 22

// This library has a bug. The handle cannot be used or freed from here on.
#define KVMA_INTERNAL 23

// In `user_bits`: only the addresses are taken, no memory, until `kvma_vm_commit`.
#define KVMA_UNCOMMITTED (1 << 0)

// In `user_bits`: a stack (`MAP_STACK`).
#define KVMA_STACK (1 << 1)

// In `user_bits`: left out of core dumps (`MADV_DONTDUMP`).
#define KVMA_NO_CORE_DUMP (1 << 2)

// In `user_bits`: will be read in order (`MADV_SEQUENTIAL`).
#define KVMA_SEQUENTIAL (1 << 3)

// In `user_bits`: will be read at random (`MADV_RANDOM`).
#define KVMA_RANDOM (1 << 4)

// In `user_bits`: may be writable now and executable later, or both at once.
#define KVMA_JIT (1 << 5)

// In `user_bits`: page tables are populated when memory is mapped or committed (`MAP_POPULATE`).
#define KVMA_POPULATE (1 << 6)

// In `user_bits`: no swap space is set aside (`MAP_NORESERVE`).
#define KVMA_NO_RESERVE (1 << 7)

// In `user_bits`: huge pages are welcome where they fit (`MADV_HUGEPAGE`).
#define KVMA_TRANSPARENT_HUGE (1 << 8)

// The VMA is left out of the copy.
#define KVMA_FORK_SKIP 1

// The range that VMAs move from is unmapped.
#define KVMA_SOURCE_UNMAP 0

// The range that VMAs move from stays mapped, without its contents (`MREMAP_DONTUNMAP`).
#define KVMA_SOURCE_KEEP 1

// A claim on a range. Opaque. In the end it is given to `kvma_vm_release_claim`, committed or not.
struct kvma_claim;

// The address space of a program, as Linux keeps it. Opaque. It has no lock, as `kvma_vm` has
// none.
struct kvma_linux;

// Carries the kernel's callbacks into one or several calls on an address space, and out of them
// the work that must wait until the caller's lock is released: the rest of the TLB flush,
// references to files, memory. Opaque.
struct kvma_linux_call;

// An address space as libmmap has it. Opaque. Any number of threads may look at it at once, one
// may change it; the caller keeps them apart. Callbacks may use it, but not free it.
struct kvma_space;

// Carries nodes and hooks into one or several calls on a map, and out of them the work that must
// wait until the caller's lock is released: the rest of the TLB flush, then dropping what was
// removed, then giving memory back. Opaque.
struct kvma_update;

// The VMAs of one address space. Opaque.
//
// It has no lock. The caller keeps calls that change it apart from all others; where that fails,
// the later call is answered `KVMA_BUSY`.
struct kvma_vm;

// A range of addresses.
struct kvma_range {
    // The first byte.
    uint64_t start;
    // The last byte. The one behind it may be 2^64.
    uint64_t last;
    // The length in bytes; 0 stands for 2^64.
    uint64_t len;
};

// The attributes of a VMA. All zero: anonymous memory without access. Two neighbours merge only if
// all of them are equal and the offsets contiguous.
struct kvma_attrs {
    // `KVMA_READ` and the like.
    uint32_t flags;
    // Whether there is an object (a file, shared memory, a device) behind the VMA.
    bool backed;
    // 64 bits that are the kernel's own.
    uint64_t user_bits;
    // The number of the object, if the VMA is `backed`.
    uint64_t object;
    // Where in the object the VMA begins, in bytes, if the VMA is `backed`.
    uint64_t offset;
};

// The part of a VMA that a change concerns; often all of it.
struct kvma_piece {
    // Where the part is.
    struct kvma_range range;
    // The attributes of the part: the offset is where the part begins.
    struct kvma_attrs attrs;
    // The user data. In `prepare`, and where the VMA lives on, it is that of the whole VMA.
    void *data;
};

// A step of a change that is about to happen.
struct kvma_event {
    // `KVMA_EVENT_MAP` or the like.
    uint32_t kind;
    // The piece that the step concerns: with the new attributes where it is protected, at its old
    // place where it is relocated.
    struct kvma_piece piece;
    // The attributes before, where the piece is protected; else those of the piece.
    struct kvma_attrs old;
    // The new address, where the piece is relocated; else 0.
    uint64_t to;
};

// An allocator. Both functions are needed. NULL where an allocator is asked for means
// `aligned_alloc` and `free` of the C library; a library built for kernels has none, and answers
// `KVMA_NULL_POINTER`.
//
// The table is copied; `ctx` must live as long as what was made with it. Two tables with the same
// functions and `ctx` are the same allocator.
struct kvma_allocator {
    // Returns `size` bytes at a multiple of `align`, or NULL if there is no memory. `align` is a
    // power of two of at most 64, and `size` a multiple of it. Memory that is not aligned so is
    // given back at once and counts as none.
    void *(*alloc)(void *ctx, size_t size, size_t align);
    // Takes back what `alloc` returned, with the same numbers.
    void (*free)(void *ctx, void *memory, size_t size, size_t align);
    // Passed to both.
    void *ctx;
};

// What is known of a page, in the words of all generations of libmmap.
struct kvma_space_info {
    // The protection, as given.
    int32_t prot;
    // The flags, as given.
    int32_t flags;
    // The file descriptor, as given. Below zero there is no file, and the offset means nothing.
    int32_t fd;
    // Whether the page was there at the last `mark_original`.
    bool original;
    // Whether the file was given as a pointer, `file`. `fd` is then 0, or -1 if that is NULL.
    bool by_pointer;
    // Where in the file the page lies that the information is about, in bytes.
    int64_t offset;
    // The address of the mapping, which is what was asked for at once, not of the region. 0 in a
    // space that does not keep mappings apart.
    uint64_t base;
    // The length of the mapping in bytes, or 0.
    uint64_t len;
    // The file pointer, as given. 0 unless `by_pointer`.
    size_t file;
};

// Hears of a piece that is about to change: its first byte, its length, and what it was. Answers
// whether to go on.
typedef bool (*kvma_space_fn)(size_t start,
                              size_t len,
                              const struct kvma_space_info *was,
                              void *udata);

// The answer of a call: `KVMA_OK`, a positive `KVMA_…` code, or, where a callback of the kernel's
// refused, the callback's errno as a negative number. A call that does not answer `KVMA_OK` has
// changed nothing, except where its comment says otherwise.
typedef int32_t kvma_status;

// Counts references to a file. Both functions may be NULL. They cannot fail. `get` is called in
// the middle of a change, where calls into the address space are answered `KVMA_BUSY`; `put` is
// called when the call is finished.
struct kvma_file_ops {
    // Takes a reference: one more VMA shows the file.
    void (*get)(struct kvma_file *file);
    // Gives a reference up: one VMA less shows the file.
    void (*put)(struct kvma_file *file);
};

// Something that can be mapped, or that names a mapping: the first member of the kernel's own
// structure for an open file, a memory object, a name. VMAs with different ones never merge. It
// must live until the last reference to it has been `put`.
struct kvma_file {
    // The reference counting. NULL: nobody counts, and the file outlives all that maps it.
    const struct kvma_file_ops *ops;
    // A number that tells files apart; it is the `object` of VMAs that show the file.
    uint64_t id;
    // The inode number, for `/proc/PID/maps`.
    uint64_t inode;
    // The major device number.
    uint32_t major;
    // The minor device number.
    uint32_t minor;
    // The path, or the name of special or named memory such as `[vdso]`. NULL: empty.
    const char *name;
    // Whether mappings that are large enough for huge pages start where address and offset agree
    // modulo their size.
    bool huge;
    // The size in bytes of the huge pages that the file consists of, as in hugetlbfs and as
    // `huge_memory` makes it. 0: it does not.
    uint64_t huge_page;
    // Whether mappings go where the search without regard to huge pages ends, unless huge pages
    // fit elsewhere: the rule of tmpfs with `huge=always` and the like.
    bool huge_shmem;
    // What calls may not do to its VMAs: `KVMA_RESTRICT_ADDRESS` and the like. Unknown bits are
    // ignored.
    uint32_t restrictions;
    // The size in bytes of a segment of System V shared memory, for `kvma_linux_shmat`. 0: it is
    // none.
    uint64_t segment_size;
};

// What a file descriptor stands for in one mmap call.
struct kvma_open_file {
    // The file. The call takes references of its own.
    struct kvma_file *file;
    // `KVMA_FILE_READ` and `KVMA_FILE_WRITE`.
    uint32_t rights;
    // `KVMA_FILE_UNMAPPABLE` and the like.
    uint32_t traits;
    // The largest offset in the file, in bytes. 0: that of a regular file.
    uint64_t max_bytes;
};

// The arguments of mmap(2).
struct kvma_linux_mmap_args {
    // A hint, or with `MAP_FIXED` the address.
    uint64_t addr;
    // The length in bytes.
    uint64_t len;
    // `PROT_*`
    uint64_t prot;
    // `MAP_*`
    uint64_t flags;
    // The offset in the file, in bytes.
    uint64_t offset;
    // What the file descriptor stands for; NULL if it is bad. Not read with `MAP_ANONYMOUS`.
    const struct kvma_open_file *file;
};

// The arguments of shmat(2).
struct kvma_linux_shmat_args {
    // The segment behind the identifier, as a file of this attachment alone, whose `segment_size`
    // is set. The call takes references of its own. NULL if there is none.
    struct kvma_file *segment;
    // Why there is none: an errno of either sign (0: `EINVAL`). Not read if there is one.
    int32_t error;
    // The address; 0 to let one be chosen.
    uint64_t addr;
    // `SHM_*`
    uint64_t flags;
};

// A range in an I/O vector.
struct kvma_iovec {
    // The address.
    uint64_t addr;
    // The length in bytes.
    uint64_t len;
};

// A page fault at an address of user space.
struct kvma_linux_fault_args {
    // The address.
    uint64_t addr;
    // What the processor was doing: `KVMA_ACCESS_READ` or the like.
    uint32_t access;
    // Whether the kernel was copying from or to the program's memory.
    bool by_kernel;
    // The program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes below
    // it, as up to Linux 4.20. 0: it does not count.
    uint64_t stack_pointer;
};

// The shape of an address space, in bytes: made by `kvma_linux_layout_x86_64`, and changed where
// wanted.
struct kvma_linux_layout {
    // The address from which top-down searches go (`mmap_base`).
    uint64_t base;
    // The address from which bottom-up searches go (`mmap_legacy_base`).
    uint64_t bottom;
    // The lowest address that a search or a hint gets, and to which a stack grows (the larger of
    // `vm.mmap_min_addr` and `CONFIG_LSM_MMAP_MIN_ADDR`).
    uint64_t min_addr;
    // The lowest address that may be asked for without privileges (`vm.mmap_min_addr`).
    uint64_t user_min_addr;
    // The number of bytes that stacks keep free below them (`stack_guard_gap`).
    uint64_t guard_gap;
    // The size of the huge pages to which large mappings are aligned; 0: they are not.
    uint64_t huge;
    // The number of the processor's protection keys, at most 16; 0: there are none.
    uint32_t protection_keys;
    // Whether searches go from the bottom up.
    bool bottom_up;
    // The first address that is not user space's (`TASK_SIZE`). Only to be read.
    uint64_t task_size;
    // The page size. Only to be read.
    uint64_t page_size;
};

// The callbacks through which the kernel edits its page tables in step with the map. Every
// function may be NULL, as may a pointer to the whole table.
//
//     prepare ... prepare     may refuse: then cancel ... cancel, and nothing has happened
//     -- the map changes --   from here on nothing can fail
//     on_unmap, on_protect, on_relocate, on_map     for each piece of a VMA, ascending
//     flush_begin             the kernel's lock is still held: start the TLB flush, do not wait
//     -- kvma_update_finish, or the end of a call without an update --
//     flush_wait              wait for the other processors
//     release ... release     removed VMAs in order: frames may be reused from here on
//
// Down to `flush_begin` the map is in use: calls into it are answered `KVMA_BUSY`. From
// `flush_wait` on it can be read, and after `kvma_update_finish` also changed.
//
// The table is copied; what `udata` points to must live as long as the call or the update.
struct kvma_hooks {
    // Gets ready for a step: page-table pages, limits. Returns 0, or an errno of either sign to
    // refuse the change; the call then answers with that errno as a negative status.
    int32_t (*prepare)(void *udata, const struct kvma_event *event);
    // Undoes a `prepare` that succeeded, because a later one refused.
    void (*cancel)(void *udata, const struct kvma_event *event);
    // The piece is mapped from now on. Page tables may be filled at once or on demand.
    void (*on_map)(void *udata, const struct kvma_piece *piece);
    // The piece is no longer mapped: its page-table entries must go.
    void (*on_unmap)(void *udata, const struct kvma_piece *piece);
    // The piece has new attributes: entries that allow more than they do must be narrowed.
    void (*on_protect)(void *udata, const struct kvma_piece *piece, const struct kvma_attrs *old);
    // The piece's contents move: entries go from its range to the range of that length at `to`.
    void (*on_relocate)(void *udata, const struct kvma_piece *piece, uint64_t to);
    // There is advice about a piece, `KVMA_ADVISE_WILL_NEED` or the like. It changes nothing in
    // the map.
    void (*on_advise)(void *udata, const struct kvma_piece *piece, uint32_t advice);
    // Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others. May
    // be called several times before one `flush_wait`.
    void (*flush_begin)(void *udata);
    // Waits until the flushes that have begun have ended everywhere. May sleep.
    void (*flush_wait)(void *udata);
    // Hears of a VMA, or a part of one, that was removed, after `flush_wait` and in the order of
    // removal: its frames may be freed, its file notified. Then its user data is dropped.
    void (*release)(void *udata, const struct kvma_piece *removed);
    // Passed to all of them.
    void *udata;
    // Whether to refuse, with `KVMA_WRITE_XOR_EXEC`, what lets code be written and run: a VMA that
    // is writable and executable at once, and one that becomes executable while it is writable,
    // unless it is marked `KVMA_JIT`. Asked before `prepare`.
    bool write_xor_exec;
};

// The kernel's side of a call. All zero: no hooks, no privileges, memory without end, no shared
// anonymous memory. The functions get the hooks' `udata`, and answer with 0 or an errno of either
// sign where they return a number.
//
// In pieces that the functions see, `user_bits` are Linux' `vm_flags`, and `data` is the file that
// is mapped.
struct kvma_kernel {
    // What happens to page tables.
    struct kvma_hooks hooks;
    // What the caller may do: `KVMA_CAP_IPC_LOCK` and the like.
    uint32_t capabilities;
    // The mode of `vm.overcommit_memory`: `KVMA_OVERCOMMIT_HEURISTIC` or the like.
    uint32_t overcommit;
    // Charges `bytes` more bytes to this process, which has `total` bytes mapped (a strict kernel
    // keeps something back from large ones); or refuses with `ENOMEM`. See
    // `kvma_overcommit_decide`.
    int32_t (*charge)(void *udata, uint64_t bytes, uint64_t total);
    // Takes the charge for `bytes` bytes back.
    void (*uncharge)(void *udata, uint64_t bytes);
    // Makes an object of `len` bytes for shared anonymous memory, with a reference for the caller;
    // or returns NULL and writes an errno to `err` (0: `ENOMEM`).
    struct kvma_file *(*shared_memory)(void *udata, uint64_t len, uint64_t vm_flags, int32_t *err);
    // Lets the file refuse to be mapped, or change the flags of the VMA. `vma` is what will be
    // mapped unless it merges. `vm_flags` are its flags so far: the file may set and clear
    // `io de pf mm`, `dc dd`, `lo lf`, `sr rr` and `hg nh`, and clear `mr mw me`; other changes do
    // not count. A file that adds `lo` need not look at the limit on locked memory.
    int32_t (*map_file)(void *udata,
                        const struct kvma_open_file *file,
                        const struct kvma_piece *vma,
                        uint64_t *vm_flags);
    // Works on the pages of a piece, `KVMA_PAGE_OP_POPULATE` or the like. `flush_begin` follows
    // those that may take page-table entries away or narrow them: all but the `POPULATE` ones,
    // `WILL_NEED`, `GUARD_REMOVE` and `RESIDENCY`.
    int32_t (*page_op)(void *udata, uint32_t op, const struct kvma_piece *piece);
    // Lets a child inherit a VMA, at the same addresses; `how` is `KVMA_INHERIT_COPY_ON_WRITE` or
    // the like. `flush_begin` follows the last. If the fork fails, what was done for the child is
    // to be thrown away.
    int32_t (*inherit)(void *udata, uint32_t how, const struct kvma_piece *vma);
    // Makes an object for `MAP_HUGETLB`, `len` bytes in huge pages of `page` bytes, with a
    // reference for the caller; or returns NULL and writes an errno to `err` (0: `ENOMEM`). The
    // pages are set aside for it, unless `vm_flags` has `nr`. The file's `huge_page` is `page`.
    // NULL: there are no huge pages.
    struct kvma_file *(*huge_memory)(void *udata,
                                     uint64_t page,
                                     uint64_t len,
                                     uint64_t vm_flags,
                                     int32_t *err);
    // Returns the size in bytes of the huge pages that `MAP_HUGETLB` means by the logarithm in its
    // size bits, where 0 stands for the usual size. It is one of the sizes of `KVMA_SPLIT_2M` and
    // the like; 0 if this machine has no such pages (`EINVAL`). NULL: those of x86-64, 2 MiB and
    // 1 GiB.
    uint64_t (*huge_page)(void *udata, uint32_t log2);
};

// A VMA that the kernel itself puts into an address space, as `execve` does.
struct kvma_linux_install_args {
    // The first byte.
    uint64_t start;
    // The first byte behind.
    uint64_t end;
    // All its flags: Linux' `vm_flags`, bit for bit.
    uint64_t vm_flags;
    // The offset in the file, in bytes.
    uint64_t offset;
    // The file, or NULL. The VMA takes a reference of its own.
    struct kvma_file *file;
    // What the file stands for: `KVMA_ROLE_OBJECT` or the like.
    uint32_t role;
};

// A VMA as it was when it was asked for.
struct kvma_vma {
    // Where it is.
    struct kvma_range range;
    // The free bytes right below it, down to the next VMA or the start of the space.
    uint64_t gap_before;
    // Its attributes.
    struct kvma_attrs attrs;
    // The user data.
    void *data;
};

// The rest of a walk over a range of bytes, which gets smaller from both ends. It refers to no
// map, so the map may change between two steps; the walk then goes on in what is there.
struct kvma_walk {
    // The first byte that is left.
    uint64_t first;
    // The last byte that is left.
    uint64_t last;
    // Whether nothing is left.
    bool done;
};

// What is in use, in bytes, as `/proc/PID/status` counts it.
struct kvma_linux_usage {
    // All mappings (`VmSize`).
    uint64_t total;
    // Locked memory (`VmLck`).
    uint64_t locked;
    // Private writable mappings (`VmData`).
    uint64_t data;
    // Stacks (`VmStk`).
    uint64_t stack;
    // Code (`VmExe` and `VmLib`).
    uint64_t exec;
    // Mappings made with `MAP_SHARED`.
    uint64_t shared;
    // Memory that is charged.
    uint64_t committed;
};

// Takes `len` bytes of text and answers whether it wants more.
typedef bool (*kvma_write_fn)(void *udata, const char *text, size_t len);

// A line of a `/proc/PID/maps` file.
struct kvma_maps_line {
    // The first byte.
    uint64_t start;
    // The first byte behind.
    uint64_t end;
    // `KVMA_READ`, `KVMA_WRITE`, `KVMA_EXEC` and `KVMA_SHARED`.
    uint32_t flags;
    // The major device number.
    uint32_t major;
    // The minor device number.
    uint32_t minor;
    // The inode number; 0 without a file.
    uint64_t inode;
    // The offset in the file, in bytes.
    uint64_t offset;
    // The path or name as written, not terminated. It points into the text.
    const char *name;
    // The length of the name.
    size_t name_len;
};

// Conditions on a free range, in bytes. All zero: the lowest free range anywhere.
struct kvma_search {
    // `KVMA_TOP_DOWN` and `KVMA_HINTED`, or 0.
    uint32_t flags;
    // The lowest address that may be used.
    uint64_t first;
    // The last byte that may be used. 0: there is no end.
    uint64_t last;
    // The start is a multiple of this power of two. 0: of the page size.
    uint64_t align;
    // The start is at this offset modulo `align`, such as a file's offset for huge pages.
    uint64_t align_offset;
    // With `KVMA_HINTED`: the start, rounded down to a page as mmap(2) does, if the range there is
    // free and in the window, whatever `align` says.
    uint64_t hint;
    // The number of bytes that stay free on both sides.
    uint64_t guard;
};

// The place of a new VMA. All zero: the lowest free range.
struct kvma_placement {
    // `KVMA_ANYWHERE`, `KVMA_FIXED` or `KVMA_FIXED_NOREPLACE`.
    uint32_t kind;
    // The address, for the two fixed placements.
    uint64_t addr;
    // The search, for `KVMA_ANYWHERE`.
    struct kvma_search search;
};

// Makes the attributes and the user data of a VMA's copy. `attrs` and `data` hold the VMA's own
// when it is called. Returns 0, `KVMA_FORK_SKIP`, or an errno as a negative number, which ends the
// fork; the call then answers with that number.
//
// The data is the copy's if this returns 0: a kernel that counts takes a reference here, since the
// `fork` of its `kvma_data_ops` is not called. It is dropped if a later VMA ends the fork.
typedef int32_t (*kvma_copy_fn)(void *udata,
                                const struct kvma_vma *vma,
                                struct kvma_attrs *attrs,
                                void **data);

// Says what becomes of the user data, the pointers that the kernel hangs on VMAs, when VMAs are
// split, merged, copied, moved and removed. Every function may be NULL. All but `drop` run in the
// middle of a change: they cannot fail, and calls into the map are answered `KVMA_BUSY`.
//
// A kernel that keeps a list of the VMAs which show an object (a reverse map) edits it in the
// hooks `on_map` and `on_unmap` and in `split`, `merge` and `relocate`. `drop` is too late for
// that.
//
// The table is not copied. It must live as long as the maps that use it, and must not change.
struct kvma_data_ops {
    // Called when the VMA over `range` is split: `data` keeps what lies below `at`, and the
    // pointer for the rest is returned. NULL: both have the same pointer.
    void *(*split)(void *udata, void *data, const struct kvma_range *range, uint64_t at);
    // Answers whether two neighbours may merge as far as the kernel is concerned. Their attributes
    // are equal and their offsets contiguous. NULL: they may if the pointers are equal.
    bool (*can_merge)(void *udata,
                      void *left,
                      const struct kvma_range *left_range,
                      void *right,
                      const struct kvma_range *right_range);
    // Called when two neighbours merge: `left` takes in what `right` stands for. `right` is
    // dropped later, as the pointer of a VMA that is gone. NULL: nothing is to be done.
    void (*merge)(void *udata,
                  void *left,
                  const struct kvma_range *left_range,
                  void *right,
                  const struct kvma_range *right_range);
    // Returns the pointer for a copy of the VMA over `range`, in another map or elsewhere in this
    // one. NULL: the same pointer.
    void *(*fork)(void *udata, void *data, const struct kvma_range *range);
    // Returns the pointer for a VMA whose pages move from the range `from` to the address `to`.
    // Called before the VMA meets its new neighbours. NULL: the same pointer.
    void *(*relocate)(void *udata, void *data, const struct kvma_range *from, uint64_t to);
    // Called for the pointer of a VMA that is gone, when the map can be used again and after the
    // TLB flush. Something else may be mapped in its place by then. NULL: nothing is to be done.
    void (*drop)(void *udata, void *data);
    // Passed to all of them.
    void *udata;
};

// Changes the page tables of a VMA.
typedef void (*kvma_vma_fn)(void *udata, const struct kvma_vma *vma);

// A request for a new VMA. All zero but `len`: anonymous memory without access in the lowest free
// range.
struct kvma_request {
    // The place of the VMA.
    struct kvma_placement placement;
    // The length in bytes, a multiple of the page size.
    uint64_t len;
    // The attributes of the VMA.
    struct kvma_attrs attrs;
    // `KVMA_MERGE_BOTH` or the like.
    uint32_t merge;
    // The user data. It is the map's if the call succeeds, and else still the caller's.
    void *data;
};

// Makes the user data of a VMA for the range that was chosen for it.
typedef void *(*kvma_make_data_fn)(void *udata, const struct kvma_range *range);

// Returns the user data for a line. May change `attrs`, which hold what the line says: protection,
// `KVMA_SHARED`, and where there is an inode the object of that number.
typedef void *(*kvma_adopt_fn)(void *udata,
                               const struct kvma_maps_line *line,
                               struct kvma_attrs *attrs);

// Returns the attributes that a VMA is to have. Gets the whole VMA and answers for all of it; is
// called several times, and must always return the same for the same VMA.
typedef struct kvma_attrs (*kvma_attrs_fn)(void *udata, const struct kvma_vma *vma);

// Answers whether a VMA of now and a saved one, which overlap, are of the same mapping, so that
// the pages which are there may stay. Must always answer the same for the same VMAs.
typedef bool (*kvma_same_fn)(void *udata, const struct kvma_vma *now, const struct kvma_vma *saved);

// Answers whether a VMA stays. Must always answer the same for the same VMA.
typedef bool (*kvma_keep_fn)(void *udata, const struct kvma_vma *vma);

// Returns the pointer that takes the place of `data`.
typedef void *(*kvma_data_fn)(void *udata, void *data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Answers whether memory can be executed after a step that could not be before, so that the
// instruction cache must be made to see what was written there. Writes where to `range` (NULL: not
// wanted).
bool kvma_event_gains_exec(const struct kvma_event *event, struct kvma_range *range);

// Makes a space of `len` bytes (rounded up to whole pages) from `start` (rounded down to a page).
// NULL if `page_size` is not a power of two, if the space reaches beyond the last address, or
// without memory.
struct kvma_space *kvma_space_new(size_t start,
                                  size_t len,
                                  size_t page_size,
                                  const struct kvma_allocator *allocator);

// Copies a space, marks and all. NULL without memory.
struct kvma_space *kvma_space_copy(const struct kvma_space *space);

// Frees a space. NULL is fine. A callback that frees the space which calls it changes nothing.
void kvma_space_free(struct kvma_space *space);

// Forgets all mappings, and the marks.
int32_t kvma_space_reset(struct kvma_space *space);

// Maps at `hint`, if that is not 0 and is free, else in the lowest free range. Returns the
// address, or `UINTPTR_MAX`. Of `info`, `prot`, `flags`, `fd` and `offset` count.
size_t kvma_space_map_any(struct kvma_space *space,
                          size_t hint,
                          size_t len,
                          const struct kvma_space_info *info);

// Maps at `addr`, replacing what is there, of which `function` hears. Returns the address, or
// `UINTPTR_MAX`.
size_t kvma_space_map_at(struct kvma_space *space,
                         size_t addr,
                         size_t len,
                         const struct kvma_space_info *info,
                         kvma_space_fn function,
                         void *udata);

// Unmaps a range; `function` hears of what was there. Gaps are fine.
int32_t kvma_space_unmap(struct kvma_space *space,
                         size_t addr,
                         size_t len,
                         kvma_space_fn function,
                         void *udata);

// Changes the protection of a range; `function` hears of what was there. Gaps are passed over, and
// answered with `KVMA_SPACE_NOT_MAPPED`.
int32_t kvma_space_protect(struct kvma_space *space,
                           size_t addr,
                           size_t len,
                           int32_t prot,
                           kvma_space_fn function,
                           void *udata);

// Answers whether the page of `addr` is mapped, and writes what is known of it to `info` (NULL:
// not wanted).
bool kvma_space_query(const struct kvma_space *space, size_t addr, struct kvma_space_info *info);

// Marks what is mapped as original. `KVMA_SPACE_NO_MEMORY`: it is marked, but a later
// `kvma_space_unmap_non_original` cannot bring back what is unmapped or protected until then.
int32_t kvma_space_mark_original(struct kvma_space *space);

// Brings back what was marked: unmaps the rest, gives original VMAs their protection again, and
// maps those that are gone. `function` hears of everything that is unmapped or protected.
// `KVMA_SPACE_NO_MEMORY`: the rest is unmapped, but nothing is brought back.
int32_t kvma_space_unmap_non_original(struct kvma_space *space,
                                      kvma_space_fn function,
                                      void *udata);

// mmap(2): maps memory or a file, and writes the address to `addr`.
kvma_status kvma_linux_mmap(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            const struct kvma_linux_mmap_args *args,
                            uint64_t *addr);

// shmat(2): attaches a segment of System V shared memory, and writes the address to `addr`.
kvma_status kvma_linux_shmat(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_shmat_args *args,
                             uint64_t *addr);

// shmdt(2): detaches the segment that was attached at `addr`.
kvma_status kvma_linux_shmdt(struct kvma_linux *mm, struct kvma_linux_call *in_call, uint64_t addr);

// munmap(2): unmaps a range.
kvma_status kvma_linux_munmap(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t addr,
                              uint64_t len);

// mprotect(2): changes the protection of a range.
kvma_status kvma_linux_mprotect(struct kvma_linux *mm,
                                struct kvma_linux_call *in_call,
                                uint64_t addr,
                                uint64_t len,
                                uint64_t prot);

// `pkey_mprotect(2)`: changes the protection of a range and its protection key. With -1 for `key`
// it is mprotect(2).
kvma_status kvma_linux_pkey_mprotect(struct kvma_linux *mm,
                                     struct kvma_linux_call *in_call,
                                     uint64_t addr,
                                     uint64_t len,
                                     uint64_t prot,
                                     uint64_t key);

// mremap(2): resizes or moves a mapping, and writes its address to `addr`.
kvma_status kvma_linux_mremap(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t old_addr,
                              uint64_t old_len,
                              uint64_t new_len,
                              uint64_t flags,
                              uint64_t new_addr,
                              uint64_t *addr);

// brk(2), the system call: moves the end of the heap, and writes where it ends then to `end`; that
// is the old end if it could not be moved.
kvma_status kvma_linux_brk(struct kvma_linux *mm,
                           struct kvma_linux_call *in_call,
                           uint64_t brk,
                           uint64_t *end);

// sbrk(3): moves the end of the heap by `increment` bytes, and writes where it was to `old_end`.
kvma_status kvma_linux_sbrk(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            int64_t increment,
                            uint64_t *old_end);

// madvise(2): gives advice about a range.
kvma_status kvma_linux_madvise(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len,
                               uint64_t advice);

// mlock(2): locks a range in memory.
kvma_status kvma_linux_mlock(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len);

// mlock2(2): locks a range in memory, now or as its pages come in.
kvma_status kvma_linux_mlock2(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t addr,
                              uint64_t len,
                              uint64_t flags);

// munlock(2): unlocks a range.
kvma_status kvma_linux_munlock(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len);

// mlockall(2): locks everything in memory, what is mapped or what will be.
kvma_status kvma_linux_mlockall(struct kvma_linux *mm,
                                struct kvma_linux_call *in_call,
                                uint64_t flags);

// munlockall(2): unlocks everything.
kvma_status kvma_linux_munlockall(struct kvma_linux *mm, struct kvma_linux_call *in_call);

// mseal(2): seals a range against changes of its mapping.
kvma_status kvma_linux_mseal(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len,
                             uint64_t flags);

// msync(2): writes changes of mapped files back.
kvma_status kvma_linux_msync(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len,
                             uint64_t flags);

// mincore(2): asks which pages are in memory. The kernel's `page_op` hears
// `KVMA_PAGE_OP_RESIDENCY` for each piece of the range, in order and without gaps between, and
// fills in the vector.
kvma_status kvma_linux_mincore(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len);

// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`: gives the anonymous memory in a range the name
// `name`, or takes its name away (NULL). The VMAs take references of their own.
kvma_status kvma_linux_set_anon_name(struct kvma_linux *mm,
                                     struct kvma_linux_call *in_call,
                                     uint64_t addr,
                                     uint64_t len,
                                     struct kvma_file *name);

// `process_madvise(2)`: gives advice about each of `count` ranges, and writes the number of bytes
// that it reached to `advised`. `own` says whether the address space is the caller's; if not, the
// kernel has checked the caller's rights.
kvma_status kvma_linux_process_madvise(struct kvma_linux *mm,
                                       struct kvma_linux_call *in_call,
                                       bool own,
                                       const struct kvma_iovec *ranges,
                                       size_t count,
                                       uint64_t advice,
                                       uint64_t flags,
                                       uint64_t *advised);

// `pkey_alloc(2)`: allocates a protection key and writes it to `key`.
kvma_status kvma_linux_pkey_alloc(struct kvma_linux *mm,
                                  uint64_t flags,
                                  uint64_t rights,
                                  uint64_t *key);

// `pkey_free(2)`: frees a protection key.
kvma_status kvma_linux_pkey_free(struct kvma_linux *mm, uint64_t key);

// Handles a page fault: writes what is to be done to `action`, `KVMA_FAULT_MAP` or the like.
// Extends the stack if the fault lies right below it and the limits allow.
kvma_status kvma_linux_fault(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_fault_args *fault,
                             uint64_t *action);

// Checks a page fault against what is mapped now: writes what is to be done to `action`. Changes
// nothing, so that any number of threads may ask at once. Most faults are answered so;
// `KVMA_FAULT_UNDECIDED` sends the others to `kvma_linux_fault`.
kvma_status kvma_linux_check_access(const struct kvma_linux *mm,
                                    const struct kvma_linux_fault_args *fault,
                                    uint64_t *action);

// Handles a page fault at `addr` below a stack: extends the stack if it may grow that far.
// `-EFAULT` if what lies above is no stack, and else the errno that says why it may not.
kvma_status kvma_linux_grow_stack(struct kvma_linux *mm,
                                  struct kvma_linux_call *in_call,
                                  uint64_t addr);

// Copies an address space for a child, with memory from the same allocator, and writes its handle
// to `child`; NULL if the call fails. VMAs keep their boundaries; those that are not to be copied
// are left out, and locks are not inherited.
//
// The kernel's `inherit` hears of each VMA, then its `flush_begin`, even if it refused one; its
// `flush_wait` when the call is finished.
kvma_status kvma_linux_fork(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            struct kvma_linux **child);

// Makes an empty address space with memory from `allocator` (NULL: malloc's), and writes its
// handle to `mm`; NULL if the call fails.
kvma_status kvma_linux_new(struct kvma_linux **mm,
                           const struct kvma_linux_layout *layout,
                           const struct kvma_allocator *allocator);

// Frees an address space: gives up its files and its memory. Calls no hooks; for that, call
// `kvma_linux_clear` first. NULL is fine. All calls on it have been finished before. `KVMA_BUSY`
// if it is in use, or is being freed already.
kvma_status kvma_linux_free(struct kvma_linux *mm);

// Begins calls on `mm` with `kernel` (NULL: none) and `nodes` preallocated nodes; a system call
// needs at most 3 at a time. Writes the handle to `in_call`; NULL if this fails. Call it before
// taking the lock that guards the address space. The table is copied.
kvma_status kvma_linux_call_new(struct kvma_linux_call **in_call,
                                const struct kvma_linux *mm,
                                const struct kvma_kernel *kernel,
                                size_t nodes);

// Returns the number of VMAs and parts of VMAs that the calls have removed so far.
size_t kvma_linux_call_removed(const struct kvma_linux_call *in_call);

// Does the work that is owed and frees the call: waits for the flush, gives up files and memory.
// Call it after releasing the lock. NULL is fine. `KVMA_BUSY` if the call is in use or is being
// finished already.
kvma_status kvma_linux_call_finish(struct kvma_linux_call *in_call);

// Decides as Linux does whether `bytes` more bytes may be charged in a machine with `memory` bytes
// and a commit limit of `limit` bytes. `committed` is what all processes together are charged for,
// those asked for included. `KVMA_OK` or `-ENOMEM`.
kvma_status kvma_overcommit_decide(uint32_t mode,
                                   uint64_t bytes,
                                   uint64_t committed,
                                   uint64_t memory,
                                   uint64_t limit);

// Returns the layout of x86-64 with 47-bit user space and no randomisation, for a stack of at most
// `stack_limit` bytes (`UINT64_MAX`: unlimited).
struct kvma_linux_layout kvma_linux_layout_x86_64(uint64_t stack_limit);

// Returns `layout` with both searches moved by a random number of pages, the low `bits` bits of
// `random`: the base down, the bottom up. Linux takes 28 bits on x86-64, and at most 32 count
// here.
struct kvma_linux_layout kvma_linux_layout_randomised(struct kvma_linux_layout layout,
                                                      uint64_t random,
                                                      uint32_t bits);

// Changes where mappings go from now on. What is mapped stays. `KVMA_OUT_OF_RANGE` or
// `KVMA_UNALIGNED` for a layout that makes no sense.
kvma_status kvma_linux_set_layout(struct kvma_linux *mm, const struct kvma_linux_layout *layout);

// Writes the layout of the address space to `layout`.
kvma_status kvma_linux_get_layout(const struct kvma_linux *mm, struct kvma_linux_layout *layout);

// Sets a resource limit, `KVMA_LIMIT_ADDRESS_SPACE` or the like, to `bytes` (`UINT64_MAX`: none).
// What is in use already stays.
kvma_status kvma_linux_set_limit(struct kvma_linux *mm, uint32_t limit, uint64_t bytes);

// Returns a resource limit in bytes; `UINT64_MAX` if there is none, and for what is no limit.
uint64_t kvma_linux_limit(const struct kvma_linux *mm, uint32_t limit);

// Sets the kernel's own rules, all off to begin with: about memory that is writable and executable
// (`KVMA_WRITE_EXEC_ALLOWED` or the like), and `guard` bytes, whole pages, that stay free on both
// sides of what mmap and mremap find a place for. What is mapped already stays.
kvma_status kvma_linux_set_policy(struct kvma_linux *mm, uint32_t write_exec, uint64_t guard);

// Writes the kernel's own rules, as `kvma_linux_set_policy` takes them, to `write_exec` and
// `guard`.
kvma_status kvma_linux_get_policy(const struct kvma_linux *mm,
                                  uint32_t *write_exec,
                                  uint64_t *guard);

// Lists `[vsyscall]` in `/proc/PID/maps`, or not: `KVMA_GATE_NONE` or the like.
kvma_status kvma_linux_set_gate(struct kvma_linux *mm, uint32_t gate);

// Returns how `[vsyscall]` is listed: `KVMA_GATE_NONE` or the like.
uint32_t kvma_linux_gate(const struct kvma_linux *mm);

// Sets how many VMAs there may be (`vm.max_map_count`).
kvma_status kvma_linux_set_max_map_count(struct kvma_linux *mm, size_t max);

// Returns the version of Linux whose rules are followed: 1000 times the major number, and the
// minor one. 0 for NULL.
uint32_t kvma_linux_rules(const struct kvma_linux *mm);

// Says where the heap starts, and how many bytes of initialised data `RLIMIT_DATA` counts with it.
kvma_status kvma_linux_set_start_brk(struct kvma_linux *mm, uint64_t start, uint64_t data_segment);

// Returns where the heap starts.
uint64_t kvma_linux_start_brk(const struct kvma_linux *mm);

// Returns where the heap ends, to the byte.
uint64_t kvma_linux_current_brk(const struct kvma_linux *mm);

// Says where the program's stack begins: `/proc/PID/maps` calls the VMA that holds this address
// `[stack]`.
kvma_status kvma_linux_set_start_stack(struct kvma_linux *mm, uint64_t addr);

// Returns where the program's stack begins, or 0.
uint64_t kvma_linux_start_stack(const struct kvma_linux *mm);

// Puts a VMA of the kernel's own into a free range. It does not merge with its neighbours, and no
// limit is asked.
kvma_status kvma_linux_install(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               const struct kvma_linux_install_args *args);

// Removes everything and starts anew with `layout`: what `execve` does first, and a process that
// ends does last. Limits stay.
kvma_status kvma_linux_clear(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_layout *layout);

// Takes note that a private page of the VMA at `addr` has been written.
kvma_status kvma_linux_note_write(struct kvma_linux *mm, uint64_t addr);

// Finds the VMA that holds the byte at `addr` and writes it to `vma` (NULL: not wanted): its
// `user_bits` are Linux' `vm_flags`, its `data` is the file that is mapped or names it.
// `KVMA_NOT_MAPPED` if there is none. O(log n).
kvma_status kvma_linux_find(const struct kvma_linux *mm, uint64_t addr, struct kvma_vma *vma);

// Finds the first VMA that ends behind the byte at `addr`. Otherwise as `kvma_linux_find`.
kvma_status kvma_linux_find_from(const struct kvma_linux *mm, uint64_t addr, struct kvma_vma *vma);

// Writes what the file of the VMA at `addr` stands for to `role`: `KVMA_ROLE_OBJECT` or the like.
// `KVMA_NOT_MAPPED` if there is no VMA.
kvma_status kvma_linux_role(const struct kvma_linux *mm, uint64_t addr, uint32_t *role);

// Writes the next VMA of the walk from below, whole, to `vma`. False at the end. O(log n).
bool kvma_linux_next(const struct kvma_linux *mm, struct kvma_walk *walk, struct kvma_vma *vma);

// Writes the next VMA of the walk from above, whole, to `vma`. False at the end. O(log n).
bool kvma_linux_prev(const struct kvma_linux *mm, struct kvma_walk *walk, struct kvma_vma *vma);

// Writes the next gap of the walk from below to `gap`: the part of a free range that lies in the
// walk. False at the end. O(log n).
bool kvma_linux_next_gap(const struct kvma_linux *mm,
                         struct kvma_walk *walk,
                         struct kvma_range *gap);

// Writes what is in use to `usage`.
kvma_status kvma_linux_get_usage(const struct kvma_linux *mm, struct kvma_linux_usage *usage);

// Finds where mmap would put `len` bytes of memory without an object and without a hint, and
// writes the address to `addr`: for what the kernel itself maps, and then installs there.
// `-ENOMEM` if there is no free range.
kvma_status kvma_linux_unmapped_area(const struct kvma_linux *mm, uint64_t len, uint64_t *addr);

// Returns the number of VMAs (`map_count`).
size_t kvma_linux_map_count(const struct kvma_linux *mm);

// Checks every invariant, and the counts against the VMAs: `KVMA_OK`, or `KVMA_INTERNAL`. For
// tests.
kvma_status kvma_linux_check(const struct kvma_linux *mm);

// Writes `/proc/PID/maps`, byte for byte as Linux does, in parts to `write`. `KVMA_STOPPED` if
// that wants no more.
kvma_status kvma_linux_maps(const struct kvma_linux *mm, kvma_write_fn write, void *udata);

// Returns the flag of Linux' `vm_flags` that smaps calls by these two letters, such as "gd"; 0 if
// there is none.
uint64_t kvma_linux_vm_flag(const char *two);

// Writes `vm_flags` as smaps does, each mnemonic followed by one space. `KVMA_STOPPED` if `write`
// wants no more.
kvma_status kvma_linux_vm_flags_text(uint64_t vm_flags, kvma_write_fn write, void *udata);

// Returns the answer to a memory call that is not served here, by its number on x86-64: a negative
// errno, as from a Linux that is built without the call. 0 for all other numbers.
kvma_status kvma_linux_unserved(uint32_t number);

// Writes the name of such a call and why it is not served. `KVMA_BAD_ARGUMENT` for all other
// numbers, `KVMA_STOPPED` if `write` wants no more.
kvma_status kvma_linux_unserved_text(uint32_t number, kvma_write_fn write, void *udata);

// Reads one line of a `/proc/PID/maps` file, `len` bytes without its newline, and writes it to
// `line`. `KVMA_BAD_ARGUMENT` for what Linux does not write.
kvma_status kvma_maps_parse_line(const char *start, size_t len, struct kvma_maps_line *line);

// Reads the `VmFlags:` line of a `/proc/PID/smaps` file, `len` bytes, and writes the flags to
// `vm_flags`. `KVMA_BAD_ARGUMENT` for another line, or a flag that Linux does not have.
kvma_status kvma_maps_parse_vm_flags(const char *start, size_t len, uint64_t *vm_flags);

// Describes a status in a few English words. Never NULL; the string is the library's own.
const char *kvma_strerror(kvma_status status);

// Returns the errno (a positive Linux error number) that the matching POSIX call gives: `ENOMEM`
// for a gap under mprotect(2), `EEXIST` for an overlap, the callback's own where one refused. 0
// for `KVMA_OK`.
int32_t kvma_errno(kvma_status status);

// Tells the hooks' `on_advise` about each piece in `len` bytes from `start`, ascending; nothing
// changes in the map. All must be mapped: else `KVMA_NOT_MAPPED`. `advice` is
// `KVMA_ADVISE_WILL_NEED` or the like; advice that takes pages away is followed by a flush. O(log
// n + VMAs).
kvma_status kvma_vm_advise(struct kvma_vm *vm,
                           uint64_t start,
                           uint64_t len,
                           uint32_t advice,
                           const struct kvma_hooks *hooks);

// Does what `kvma_vm_advise` does, within an update.
kvma_status kvma_update_advise(struct kvma_update *update,
                               struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               uint32_t advice);

// Chooses a range of `len` bytes and claims it, for work that is done without the lock. When that
// went well, `kvma_vm_commit_claim` makes a VMA of it; `kvma_vm_release_claim` comes last in any
// case. Writes the handle to `claim`; NULL if the call fails.
//
// A claim is not a VMA: lookups and iterators do not show it, and operations on ranges pass over
// it. But nobody else is given the range. A mapping at a fixed address takes the whole claim away.
// What `KVMA_FIXED` replaces is unmapped now, and the hooks hear of it. O(log n + VMAs replaced).
kvma_status kvma_vm_claim(struct kvma_vm *vm,
                          const struct kvma_placement *placement,
                          uint64_t len,
                          const struct kvma_hooks *hooks,
                          struct kvma_claim **claim);

// Does what `kvma_vm_claim` does, within an update.
kvma_status kvma_update_claim(struct kvma_update *update,
                              struct kvma_vm *vm,
                              const struct kvma_placement *placement,
                              uint64_t len,
                              struct kvma_claim **claim);

// Writes the range of a claim to `range`.
kvma_status kvma_claim_range(const struct kvma_claim *claim, struct kvma_range *range);

// Makes a VMA of a claimed range, with `attrs` and the user data `data`. It merges with its
// neighbours as `merge` says. `KVMA_CLAIM_LOST` if a mapping at a fixed address has taken the
// claim away, or it was committed already. If the call fails, nothing has changed, and `data` is
// still the caller's. Needs no memory. O(log n).
kvma_status kvma_vm_commit_claim(struct kvma_vm *vm,
                                 const struct kvma_claim *claim,
                                 const struct kvma_attrs *attrs,
                                 void *data,
                                 uint32_t merge,
                                 const struct kvma_hooks *hooks);

// Does what `kvma_vm_commit_claim` does, within an update.
kvma_status kvma_update_commit_claim(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     const struct kvma_claim *claim,
                                     const struct kvma_attrs *attrs,
                                     void *data,
                                     uint32_t merge);

// Gives up what is still claimed, if anything is, and frees the claim. Needs no memory and calls
// no hook. NULL is fine. If the call fails, the claim is not freed. O(log n).
kvma_status kvma_vm_release_claim(struct kvma_vm *vm, struct kvma_claim *claim);

// Does what `kvma_vm_release_claim` does, within an update.
kvma_status kvma_update_release_claim(struct kvma_update *update,
                                      struct kvma_vm *vm,
                                      struct kvma_claim *claim);

// Commits what is reserved (`KVMA_UNCOMMITTED`) in `len` bytes from `start`: makes it usable, with
// the protection `prot`. All must be mapped; parts that are committed already stay as they are.
// `KVMA_WRITE_XOR_EXEC` if memory would be writable and executable at once without `KVMA_JIT`.
kvma_status kvma_vm_commit(struct kvma_vm *vm,
                           uint64_t start,
                           uint64_t len,
                           uint32_t prot,
                           const struct kvma_hooks *hooks);

// Does what `kvma_vm_commit` does, within an update.
kvma_status kvma_update_commit(struct kvma_update *update,
                               struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               uint32_t prot);

// Gives the memory of `len` bytes from `start` back and keeps the addresses. All must be mapped.
// The hooks hear `on_protect`, with `KVMA_UNCOMMITTED` in the new `user_bits` only.
kvma_status kvma_vm_decommit(struct kvma_vm *vm,
                             uint64_t start,
                             uint64_t len,
                             const struct kvma_hooks *hooks);

// Does what `kvma_vm_decommit` does, within an update.
kvma_status kvma_update_decommit(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len);

// Keeps the pages of `len` bytes from `start` in memory, as mlock(2). All must be mapped.
kvma_status kvma_vm_lock_pages(struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               const struct kvma_hooks *hooks);

// Does what `kvma_vm_lock_pages` does, within an update.
kvma_status kvma_update_lock_pages(struct kvma_update *update,
                                   struct kvma_vm *vm,
                                   uint64_t start,
                                   uint64_t len);

// Lets the pages of `len` bytes from `start` go when memory is short, as munlock(2). All must be
// mapped.
kvma_status kvma_vm_unlock_pages(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 const struct kvma_hooks *hooks);

// Does what `kvma_vm_unlock_pages` does, within an update.
kvma_status kvma_update_unlock_pages(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     uint64_t start,
                                     uint64_t len);

// Clears the flags `clear` in the `user_bits` of `len` bytes from `start`, then sets the flags
// `set`: access patterns, core dumps, as madvise(2). All must be mapped. `KVMA_UNCOMMITTED` is
// left alone.
kvma_status kvma_vm_change_flags(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 uint64_t set,
                                 uint64_t clear,
                                 const struct kvma_hooks *hooks);

// Does what `kvma_vm_change_flags` does, within an update.
kvma_status kvma_update_change_flags(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     uint64_t start,
                                     uint64_t len,
                                     uint64_t set,
                                     uint64_t clear);

// Copies the map, VMA by VMA, into a new one of the same space, and writes its handle to `child`;
// NULL if the call fails. VMAs keep their boundaries; claims are not copied. The child's memory
// comes from `allocator` (NULL: malloc's), and its user data has the same `kvma_data_ops`.
//
// `copy` decides on each VMA, and may make its pages copy-on-write as it goes (NULL: all VMAs are
// copied as they are, and their data is `fork`ed). All memory is taken before the first VMA is
// copied. O(n log n).
kvma_status kvma_vm_fork(const struct kvma_vm *vm,
                         const struct kvma_allocator *allocator,
                         kvma_copy_fn copy,
                         void *udata,
                         struct kvma_vm **child);

// Does what `kvma_vm_fork` does, for a map whose program runs on: `flush_begin` and `flush_wait`
// follow what `copy` does to page tables, also where it ends the fork.
kvma_status kvma_vm_fork_live(struct kvma_vm *vm,
                              const struct kvma_allocator *allocator,
                              kvma_copy_fn copy,
                              void *udata,
                              const struct kvma_hooks *hooks,
                              struct kvma_vm **child);

// Does what `kvma_vm_fork_live` does, within an update.
kvma_status kvma_update_fork_live(struct kvma_update *update,
                                  struct kvma_vm *vm,
                                  const struct kvma_allocator *allocator,
                                  kvma_copy_fn copy,
                                  void *udata,
                                  struct kvma_vm **child);

// Makes an empty map over the bytes from `first` to `last`, whole pages of `page_size` bytes (any
// power of two), and writes its handle to `vm`; NULL if the call fails. `allocator` may be NULL:
// malloc's memory. `ops` may be NULL: user data are plain pointers, and neighbours merge if they
// are equal.
kvma_status kvma_vm_new(struct kvma_vm **vm,
                        uint64_t first,
                        uint64_t last,
                        uint64_t page_size,
                        const struct kvma_allocator *allocator,
                        const struct kvma_data_ops *ops);

// Frees a map: drops the user data and gives all memory back. Calls no hooks; for that, call
// `kvma_vm_clear` first. NULL is fine.
//
// All updates of the map have been finished before. `KVMA_BUSY` if the map is in use, as by the
// call whose callback calls this, or is being freed already; then it is not freed by this call.
kvma_status kvma_vm_free(struct kvma_vm *vm);

// Makes a change of page tables that no VMA shows: pages become copy-on-write, pages are given
// back. Calls `edit` with each VMA that shares a byte with `len` bytes from `start`, whole and
// ascending. A flush follows if there was any. O(log n + VMAs).
kvma_status kvma_vm_invalidate(struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               kvma_vma_fn edit,
                               void *udata,
                               const struct kvma_hooks *hooks);

// Does what `kvma_vm_invalidate` does, within an update.
kvma_status kvma_update_invalidate(struct kvma_update *update,
                                   struct kvma_vm *vm,
                                   uint64_t start,
                                   uint64_t len,
                                   kvma_vma_fn edit,
                                   void *udata);

// Maps what `request` asks for, and writes the address to `addr` (NULL: not wanted). The new VMA
// merges with its neighbours where attributes, offsets and user data allow. O(log n + VMAs
// replaced).
kvma_status kvma_vm_map(struct kvma_vm *vm,
                        const struct kvma_request *request,
                        const struct kvma_hooks *hooks,
                        uint64_t *addr);

// Does what `kvma_vm_map` does, within an update.
kvma_status kvma_update_map(struct kvma_update *update,
                            struct kvma_vm *vm,
                            const struct kvma_request *request,
                            uint64_t *addr);

// Maps as `kvma_vm_map` does, with user data that `make` makes once the range is known, in place
// of the request's. If the call fails after that, the data is dropped.
kvma_status kvma_vm_map_with(struct kvma_vm *vm,
                             const struct kvma_request *request,
                             kvma_make_data_fn make,
                             void *udata,
                             const struct kvma_hooks *hooks,
                             uint64_t *addr);

// Does what `kvma_vm_map_with` does, within an update.
kvma_status kvma_update_map_with(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 const struct kvma_request *request,
                                 kvma_make_data_fn make,
                                 void *udata,
                                 uint64_t *addr);

// Takes over a range that is mapped already: as `kvma_vm_map`, but without hooks, and with
// `KVMA_FIXED` nothing is replaced (`KVMA_OVERLAP`).
kvma_status kvma_vm_adopt(struct kvma_vm *vm, const struct kvma_request *request, uint64_t *addr);

// Fills the empty map with the VMAs of a `/proc/PID/maps` file, `text`, boundary for boundary and
// without hooks. VMAs wholly outside the space are passed over. `adopt` may be NULL: attributes as
// the lines say, and no user data.
//
// If the call fails the map is still empty, `adopt` has not been called, and `line` (NULL: not
// wanted) is the number of the line that is wrong, counted from 1, or 0 if it was none.
// `KVMA_NOT_EMPTY` for a map that is not empty.
kvma_status kvma_vm_adopt_maps(struct kvma_vm *vm,
                               const char *text,
                               kvma_adopt_fn adopt,
                               void *udata,
                               size_t *line);

// Changes the protection of `len` bytes from `start` to `prot` (`KVMA_READ`, `KVMA_WRITE`,
// `KVMA_EXEC`). All of them must be mapped, as for mprotect(2): else `KVMA_NOT_MAPPED`. O(log n +
// VMAs).
kvma_status kvma_vm_protect(struct kvma_vm *vm,
                            uint64_t start,
                            uint64_t len,
                            uint32_t prot,
                            const struct kvma_hooks *hooks);

// Does what `kvma_vm_protect` does, within an update.
kvma_status kvma_update_protect(struct kvma_update *update,
                                struct kvma_vm *vm,
                                uint64_t start,
                                uint64_t len,
                                uint32_t prot);

// Gives each VMA in `len` bytes from `start` the attributes that `attrs` returns for it. Gaps are
// passed over. VMAs whose attributes stay are neither split nor merged. O(log n + VMAs).
kvma_status kvma_vm_update_attrs(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 kvma_attrs_fn attrs,
                                 void *udata,
                                 const struct kvma_hooks *hooks);

// Does what `kvma_vm_update_attrs` does, within an update.
kvma_status kvma_update_attrs(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t start,
                              uint64_t len,
                              kvma_attrs_fn attrs,
                              void *udata);

// Finds the VMA that holds the byte at `addr` and writes it to `vma` (NULL: not wanted).
// `KVMA_NOT_MAPPED` if there is none. O(log n).
kvma_status kvma_vm_find(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

// Finds the VMA that holds the byte at `addr`, or else the next one above (Linux' `find_vma`).
// Otherwise as `kvma_vm_find`.
kvma_status kvma_vm_find_from(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

// Finds the last VMA that begins below the page of `addr`. Otherwise as `kvma_vm_find`.
kvma_status kvma_vm_find_before(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

// Answers whether `len` bytes from `start` lie in the space and are free, also of claims. O(log
// n).
bool kvma_vm_is_free(const struct kvma_vm *vm, uint64_t start, uint64_t len);

// Answers whether `len` bytes from `start` lie in the space and are all mapped. O(log n + VMAs).
bool kvma_vm_covers(const struct kvma_vm *vm, uint64_t start, uint64_t len);

// Finds the free range that a mapping of `len` bytes would get and writes its address to `addr`.
// `search` may be NULL: the lowest free range. `KVMA_NO_SPACE` if there is none. O(log n).
kvma_status kvma_vm_find_gap(const struct kvma_vm *vm,
                             uint64_t len,
                             const struct kvma_search *search,
                             uint64_t *addr);

// Returns the number of VMAs. Claims are none. O(1).
size_t kvma_vm_len(const struct kvma_vm *vm);

// Answers whether nothing is mapped. O(1).
bool kvma_vm_is_empty(const struct kvma_vm *vm);

// Returns the number of bytes in all VMAs together; 2^64 is `UINT64_MAX`. O(1).
uint64_t kvma_vm_mapped_bytes(const struct kvma_vm *vm);

// Returns the number of bytes in a page.
uint64_t kvma_vm_page_size(const struct kvma_vm *vm);

// Writes the range that the map covers to `range`.
kvma_status kvma_vm_space(const struct kvma_vm *vm, struct kvma_range *range);

// Checks every invariant of the structure from scratch: `KVMA_OK`, or `KVMA_INTERNAL`. For tests,
// and for kernels that suspect memory corruption. O(n log n).
kvma_status kvma_vm_check(const struct kvma_vm *vm);

// Moves the VMAs in `len` bytes from `from` to `to`, contents and all; gaps stay gaps. The target
// must be free and must not overlap the source, of which no part may be claimed (`KVMA_CLAIMED`).
// `source` is `KVMA_SOURCE_UNMAP` or `KVMA_SOURCE_KEEP`, and `merge` is `KVMA_MERGE_BOTH` or the
// like. O((VMAs + 1) log n).
kvma_status kvma_vm_relocate(struct kvma_vm *vm,
                             uint64_t from,
                             uint64_t len,
                             uint64_t to,
                             uint32_t source,
                             uint32_t merge,
                             const struct kvma_hooks *hooks);

// Does what `kvma_vm_relocate` does, within an update.
kvma_status kvma_update_relocate(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t from,
                                 uint64_t len,
                                 uint64_t to,
                                 uint32_t source,
                                 uint32_t merge);

// Moves the VMAs in `len` bytes from `from` into the map `target`, to `to`, with their attributes,
// offsets and user data; the functions for the data stay those of `vm`. Gaps stay gaps. The range
// in the target must be free, and its pages of the same size. Each map has hooks of its own:
// `on_unmap` here, `on_map` there. `merge` is `KVMA_MERGE_BOTH` or the like. `KVMA_SAME_SPACE`
// if both maps are the same. O((VMAs + 1) log n).
kvma_status kvma_vm_transfer(struct kvma_vm *vm,
                             uint64_t from,
                             uint64_t len,
                             const struct kvma_hooks *hooks,
                             struct kvma_vm *target,
                             uint64_t to,
                             uint32_t merge,
                             const struct kvma_hooks *target_hooks);

// Does what `kvma_vm_transfer` does, within an update of each map.
kvma_status kvma_update_transfer(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t from,
                                 uint64_t len,
                                 struct kvma_update *target_update,
                                 struct kvma_vm *target,
                                 uint64_t to,
                                 uint32_t merge);

// Makes `vm` equal to `saved`, an earlier `kvma_vm_fork` of it: boundaries and attributes of all
// VMAs, including those that were unmapped or replaced since. What comes back has a `fork` of the
// saved user data, and what stays keeps its own. `same` may be NULL: mappings are the same where
// the user data is the same pointer.
//
// The hooks hear what is to be undone: first `on_unmap` for what must go, then `on_protect` for
// what stays with other attributes, then `on_map` for what comes back, each ascending. The
// contents are the kernel's. `KVMA_SPACE_MISMATCH` if the maps cover different ranges or differ in
// page size, `KVMA_CLAIMED` if a claim lies where a VMA is to come back. O(n + m + steps log n)
// for n VMAs now and m saved ones.
kvma_status kvma_vm_restore(struct kvma_vm *vm,
                            const struct kvma_vm *saved,
                            kvma_same_fn same,
                            void *udata,
                            const struct kvma_hooks *hooks);

// Does what `kvma_vm_restore` does, within an update.
kvma_status kvma_update_restore(struct kvma_update *update,
                                struct kvma_vm *vm,
                                const struct kvma_vm *saved,
                                kvma_same_fn same,
                                void *udata);

// Writes the number of nodes that `kvma_vm_restore` may need to `nodes`. O(n + m).
kvma_status kvma_vm_restore_cost(const struct kvma_vm *vm,
                                 const struct kvma_vm *saved,
                                 kvma_same_fn same,
                                 void *udata,
                                 size_t *nodes);

// Splits the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a gap.
// Calls no hook. O(log n).
kvma_status kvma_vm_split_at(struct kvma_vm *vm, uint64_t addr);

// Does what `kvma_vm_split_at` does, with a node of an update.
kvma_status kvma_update_split_at(struct kvma_update *update, struct kvma_vm *vm, uint64_t addr);

// Merges the two VMAs that meet at `addr`, or answers why that is impossible: `KVMA_NOT_ADJACENT`,
// `KVMA_ATTRIBUTES_DIFFER`, `KVMA_BACKING_DIFFERS`. Calls no hook and needs no memory. O(log n).
kvma_status kvma_vm_merge_at(struct kvma_vm *vm, uint64_t addr);

// Does what `kvma_vm_merge_at` does, within an update, which keeps the node and the user data.
kvma_status kvma_update_merge_at(struct kvma_update *update, struct kvma_vm *vm, uint64_t addr);

// Answers what `kvma_vm_merge_at` would, and changes nothing. O(log n).
kvma_status kvma_vm_can_merge_at(const struct kvma_vm *vm, uint64_t addr);

// Unmaps `len` bytes from `start`; gaps in the range are fine, as for munmap(2). Writes the number
// of bytes unmapped to `bytes` (NULL: not wanted); 2^64 is `UINT64_MAX`. Claims stay.
// O(log n + VMAs removed).
kvma_status kvma_vm_unmap(struct kvma_vm *vm,
                          uint64_t start,
                          uint64_t len,
                          const struct kvma_hooks *hooks,
                          uint64_t *bytes);

// Does what `kvma_vm_unmap` does, within an update.
kvma_status kvma_update_unmap(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t start,
                              uint64_t len,
                              uint64_t *bytes);

// Unmaps everything, as `kvma_vm_unmap`, but needs no memory.
kvma_status kvma_vm_clear(struct kvma_vm *vm, const struct kvma_hooks *hooks, uint64_t *bytes);

// Does what `kvma_vm_clear` does, within an update.
kvma_status kvma_update_clear(struct kvma_update *update, struct kvma_vm *vm, uint64_t *bytes);

// Unmaps every VMA that `keep` does not keep, each whole, and writes the number of bytes unmapped
// to `bytes` (NULL: not wanted). Needs no memory. O(n + removed log n).
kvma_status kvma_vm_retain(struct kvma_vm *vm,
                           kvma_keep_fn keep,
                           void *udata,
                           const struct kvma_hooks *hooks,
                           uint64_t *bytes);

// Does what `kvma_vm_retain` does, within an update.
kvma_status kvma_update_retain(struct kvma_update *update,
                               struct kvma_vm *vm,
                               kvma_keep_fn keep,
                               void *udata,
                               uint64_t *bytes);

// Begins an update of `vm` with `hooks` (NULL: none) and `nodes` preallocated nodes, so that calls
// which need no more do not allocate; a call on a range needs at most 3. Writes the handle to
// `update`; NULL if the call fails. Call it before taking the lock that guards the map.
kvma_status kvma_update_new(struct kvma_update **update,
                            const struct kvma_vm *vm,
                            const struct kvma_hooks *hooks,
                            size_t nodes);

// Preallocates nodes until the update has `nodes`.
kvma_status kvma_update_preallocate(struct kvma_update *update, size_t nodes);

// Returns the number of VMAs and parts of VMAs that the update has removed so far.
size_t kvma_update_removed(const struct kvma_update *update);

// Does the work that is owed and frees the update: waits for the flush, drops what was removed,
// gives memory back. Call it after releasing the lock. NULL is fine. `KVMA_BUSY` if the update is
// in use or is being finished already.
kvma_status kvma_update_finish(struct kvma_update *update);

// Replaces the user data of the VMA that holds `addr` by what `change` returns. Splits and merges
// nothing, and calls no hook and none of the `kvma_data_ops`. `KVMA_NOT_MAPPED` if there is no
// VMA. O(log n).
kvma_status kvma_vm_update_data(struct kvma_vm *vm,
                                uint64_t addr,
                                kvma_data_fn change,
                                void *udata);

// Replaces the user data of the VMA that holds `addr` by `data`, and writes what was there to
// `old` (NULL: not wanted). Otherwise as `kvma_vm_update_data`.
kvma_status kvma_vm_set_data(struct kvma_vm *vm, uint64_t addr, void *data, void **old);

// Writes the next VMA of the walk from below, whole, to `vma`. False at the end. O(log n).
bool kvma_vm_next(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_vma *vma);

// Writes the next VMA of the walk from above, whole, to `vma`. False at the end. O(log n).
bool kvma_vm_prev(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_vma *vma);

// Writes the next piece of the walk from below to `piece`: the part of a VMA that lies in the
// walk, with its own offset in the object. False at the end. O(log n).
bool kvma_vm_next_piece(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_piece *piece);

// Writes the next piece of the walk from above to `piece`. Otherwise as `kvma_vm_next_piece`.
bool kvma_vm_prev_piece(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_piece *piece);

// Writes the next gap of the walk from below to `gap`: the part of a free range that lies in the
// walk. False at the end. O(log n).
bool kvma_vm_next_gap(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_range *gap);

// Writes the next gap of the walk from above to `gap`. Otherwise as `kvma_vm_next_gap`.
bool kvma_vm_prev_gap(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_range *gap);

// Returns a walk over what shares a byte with `len` bytes from `start`. For the whole map: 0 and
// `UINT64_MAX`.
struct kvma_walk kvma_walk_over(uint64_t start, uint64_t len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KVMA_H */
