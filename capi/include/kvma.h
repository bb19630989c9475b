/*
 * kvma: virtual memory VMAs for kernels and hypervisors. Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate, then
 *     KVMA_BLESS=1 cargo test -p kvma-capi --test header
 *
 * All functions: a pointer is NULL or points to what its type says for as long as the call lasts,
 * tables of functions for as long as their comments say; a handle has not been freed. NULL where a
 * pointer is needed is answered with KVMA_NULL_POINTER, running out of memory with
 * KVMA_OUT_OF_MEMORY, calling back into a map from its own hooks with KVMA_BUSY; whatever is not
 * answered with KVMA_OK has changed nothing. Functions that the caller hands over must return: no
 * C++ exception and no longjmp across this library.
 *
 * Addresses, lengths and alignments are in bytes, offsets in objects in pages.
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

// A stack: a fault below may extend it downwards.
#define KVMA_GROWS_DOWN (1 << 4)

// Pages stay in memory.
#define KVMA_LOCKED (1 << 5)

// Held for an owner who is still working: nobody else gets it, and it cannot be faulted.
#define KVMA_RESERVED (1 << 6)

// Never joined with a neighbour.
#define KVMA_NO_MERGE (1 << 7)

// Memory type: frame buffers; writes are gathered, reads are not cached. None of the three is
// ordinary memory, cached and written back.
#define KVMA_WRITE_COMBINING (1 << 8)

// Memory type: not cached, ordering as ordinary memory.
#define KVMA_UNCACHED (2 << 8)

// Memory type: device registers; not cached, not reordered, not speculated.
#define KVMA_DEVICE (3 << 8)

// The VMA may be cut at multiples of 2 MiB only. One of the `KVMA_CUT_…`, or none: at every page.
#define KVMA_CUT_2M (1 << 10)

// The VMA may be cut at multiples of 1 GiB only.
#define KVMA_CUT_1G (2 << 10)

// The VMA may not be cut.
#define KVMA_CUT_NEVER (3 << 10)

// The VMA may be cut at multiples of 64 KiB only.
#define KVMA_CUT_64K (4 << 10)

// The VMA may be cut at multiples of 32 MiB only.
#define KVMA_CUT_32M (5 << 10)

// The VMA may be cut at multiples of 512 MiB only.
#define KVMA_CUT_512M (6 << 10)

// The VMA may be cut at multiples of 16 GiB only.
#define KVMA_CUT_16G (7 << 10)

// The VMA may be cut at multiples of 512 KiB only.
#define KVMA_CUT_512K (8 << 10)

// The VMA may be cut at multiples of 1 MiB only.
#define KVMA_CUT_1M (9 << 10)

// The VMA may be cut at multiples of 4 MiB only.
#define KVMA_CUT_4M (10 << 10)

// The VMA may be cut at multiples of 8 MiB only.
#define KVMA_CUT_8M (11 << 10)

// The VMA may be cut at multiples of 16 MiB only.
#define KVMA_CUT_16M (12 << 10)

// The VMA may be cut at multiples of 256 MiB only.
#define KVMA_CUT_256M (13 << 10)

// The VMA may be cut at multiples of 2 GiB only.
#define KVMA_CUT_2G (14 << 10)

// The VMA may be cut at multiples of 512 GiB only.
#define KVMA_CUT_512G (15 << 10)

// The lowest of sixteen bits that are the owner's.
#define KVMA_OWNER_BIT (1 << 16)

// The piece is mapped from now on.
#define KVMA_EVENT_MAP 0

// The piece is mapped no more.
#define KVMA_EVENT_UNMAP 1

// The piece has new attributes.
#define KVMA_EVENT_PROTECT 2

// The piece's contents move.
#define KVMA_EVENT_RELOCATE 3

// Done.
#define KVMA_SPACE_OK 0

// The arguments make no sense, or the range leaves the space.
#define KVMA_SPACE_INVALID 1

// No memory, or no free range that is long enough. Nothing has changed.
#define KVMA_SPACE_NO_MEMORY 2

// Not all of the range is mapped; the parts that are have been changed.
#define KVMA_SPACE_HOLE 3

// The callback said stop. Nothing has changed.
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

// Give the VMA a page of its own, with what is there now or zeros in it: a write to private
// memory.
#define KVMA_FAULT_COPY 1

// `SEGV_MAPERR`: nothing is mapped there.
#define KVMA_FAULT_MAPERR 2

// `SEGV_ACCERR`: what is mapped there does not allow it.
#define KVMA_FAULT_ACCERR 3

// Only `kvma_linux_fault` can say: the VMA must take note of the access, or a stack may have to
// grow. (Only `kvma_linux_judge` answers so.)
#define KVMA_FAULT_TAKE_NOTE 4

// The file is open for reading.
#define KVMA_FILE_READ 1

// The file is open for writing.
#define KVMA_FILE_WRITE 2

// It has no pages to map, as a directory has none (`ENODEV`).
#define KVMA_FILE_UNMAPPABLE 1

// It lies on a file system that is mounted `noexec`.
#define KVMA_FILE_NO_EXEC (1 << 1)

// It is append-only.
#define KVMA_FILE_APPEND_ONLY (1 << 2)

// It is in use as swap space (`ETXTBSY`).
#define KVMA_FILE_SWAP (1 << 3)

// `MAP_SHARED_VALIDATE` may say `MAP_SYNC`.
#define KVMA_FILE_KNOWS_SYNC (1 << 4)

// `MAP_SYNC` works: the file is persistent memory.
#define KVMA_FILE_PERSISTENT (1 << 5)

// `CAP_IPC_LOCK`: lock more memory than the limit.
#define KVMA_CAP_IPC_LOCK 1

// `CAP_SYS_RAWIO`: map the lowest addresses.
#define KVMA_CAP_SYS_RAWIO 2

// `CAP_SYS_ADMIN`: commit the last few per cent of memory.
#define KVMA_CAP_SYS_ADMIN 4

// Refuse only what alone exceeds all memory.
#define KVMA_OVERCOMMIT_HEURISTIC 0

// Refuse nothing.
#define KVMA_OVERCOMMIT_ALWAYS 1

// Refuse what exceeds the commit limit.
#define KVMA_OVERCOMMIT_NEVER 2

// Bring the pages in, writable where the VMA is.
#define KVMA_ACTION_POPULATE 0

// `MADV_POPULATE_READ`: as if each page had been read.
#define KVMA_ACTION_POPULATE_READ 1

// `MADV_POPULATE_WRITE`: as if each page had been written.
#define KVMA_ACTION_POPULATE_WRITE 2

// `MADV_WILLNEED`: read ahead.
#define KVMA_ACTION_WILL_NEED 3

// `MADV_DONTNEED`: drop what is mapped; the next access sees zeros or the file.
#define KVMA_ACTION_DONT_NEED 4

// `MADV_FREE`: may be dropped until it is written again.
#define KVMA_ACTION_FREE 5

// `MADV_REMOVE`: punch a hole in the object.
#define KVMA_ACTION_REMOVE 6

// `MADV_COLD`: reclaim early.
#define KVMA_ACTION_COLD 7

// `MADV_PAGEOUT`: reclaim now.
#define KVMA_ACTION_PAGE_OUT 8

// `MADV_COLLAPSE`: make huge pages of it now.
#define KVMA_ACTION_COLLAPSE 9

// `MADV_GUARD_INSTALL`: each page faults from now on, and its contents go.
#define KVMA_ACTION_GUARD_INSTALL 10

// `MADV_GUARD_REMOVE`: take such guards away.
#define KVMA_ACTION_GUARD_REMOVE 11

// `msync(MS_SYNC)`: write the object's range to its device, and wait.
#define KVMA_ACTION_WRITE_BACK 12

// `mincore`: say which pages are in memory.
#define KVMA_ACTION_RESIDENCY 13

// Something that this header has no number for yet.
#define KVMA_ACTION_OTHER 4294967295

// Both see the same pages until one writes: take write access away on both sides.
#define KVMA_INHERIT_COPY_ON_WRITE 0

// Both see the same pages for good. The child's entries may be left to its faults.
#define KVMA_INHERIT_SHARE 1

// The child sees zeros (`MADV_WIPEONFORK`).
#define KVMA_INHERIT_WIPE 2

// The file is what is mapped; without a file, plain anonymous memory.
#define KVMA_ROLE_OBJECT 0

// The file names anonymous memory (`PR_SET_VMA_ANON_NAME`).
#define KVMA_ROLE_NAME 1

// The file names memory that the kernel itself put there, such as `[vdso]`. It cannot be split.
#define KVMA_ROLE_SPECIAL 2

// `[vsyscall]` is not listed.
#define KVMA_GATE_NONE 0

// `[vsyscall]` may be called.
#define KVMA_GATE_EXECUTE 1

// `[vsyscall]` may be read too.
#define KVMA_GATE_READ_EXECUTE 2

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

// Not at once (`EACCES`).
#define KVMA_WRITE_EXEC_NOT_TOGETHER 1

// Neither at once nor one after the other, in either order.
#define KVMA_WRITE_EXEC_NEVER 2

// Not at once, and what was not mapped executable never becomes so: `prctl(PR_SET_MDWE)`.
#define KVMA_WRITE_EXEC_MDWE 3

// From the top: the highest free range.
#define KVMA_TOP_DOWN 1

// `hint` says something.
#define KVMA_HINTED 2

// Wherever `search` finds room.
#define KVMA_ANYWHERE 0

// At `addr`; what is mapped there is replaced (`MAP_FIXED`).
#define KVMA_FIXED 1

// At `addr`, if it is free (`MAP_FIXED_NOREPLACE`).
#define KVMA_FIXED_NOREPLACE 2

// A new VMA is joined with both neighbours where it can be.
#define KVMA_MERGE_BOTH 0

// With the one below only.
#define KVMA_MERGE_LEFT 1

// With the one above only.
#define KVMA_MERGE_RIGHT 2

// With neither.
#define KVMA_MERGE_NEVER 3

// Done.
#define KVMA_OK 0

// The allocator had no memory to give.
#define KVMA_OUT_OF_MEMORY 1

// No free range of that length and alignment lies in the window.
#define KVMA_NO_SPACE 2

// An address, length, alignment or offset is not a multiple of the page size; or a page size or
// alignment is not a power of two.
#define KVMA_UNALIGNED 3

// A length of zero.
#define KVMA_ZERO_LENGTH 4

// The range wraps, or reaches beyond the address space.
#define KVMA_OUT_OF_RANGE 5

// The range is (partly) in use.
#define KVMA_OVERLAP 6

// The range has a hole, or nothing is mapped there.
#define KVMA_NOT_MAPPED 7

// A VMA would be cut below its cut granularity.
#define KVMA_CUT_REFUSED 8

// Two VMAs do not meet at this address.
#define KVMA_NOT_ADJACENT 9

// The VMAs differ in protection, flags or the owner's data.
#define KVMA_ATTRIBUTES_DIFFER 10

// The VMAs are backed by different objects, or their offsets are not contiguous.
#define KVMA_BACKING_DIFFERS 11

// The handle is in use: by another thread, or by the call whose hook made this one.
#define KVMA_BUSY 12

// NULL where a pointer is needed.
#define KVMA_NULL_POINTER 13

// An argument that is none of its `KVMA_…` constants, or does not belong to this handle.
#define KVMA_BAD_ARGUMENT 14

// A bug of this library. The handle can only be freed from here on.
#define KVMA_INTERNAL 15

// What is moved from is unmapped.
#define KVMA_SOURCE_UNMAP 0

// What is moved from stays mapped, emptied (`MREMAP_DONTUNMAP`).
#define KVMA_SOURCE_KEEP 1

// In `extra`: only the addresses are taken, no memory, until `kvma_vm_commit`.
#define KVMA_UNCOMMITTED (1 << 0)

// In `extra`: a stack (`MAP_STACK`).
#define KVMA_STACK (1 << 1)

// In `extra`: left out of core dumps (`MADV_DONTDUMP`).
#define KVMA_NO_CORE_DUMP (1 << 2)

// In `extra`: will be read in order (`MADV_SEQUENTIAL`).
#define KVMA_SEQUENTIAL (1 << 3)

// In `extra`: will be read at random (`MADV_RANDOM`).
#define KVMA_RANDOM (1 << 4)

// In `extra`: may be writable now and executable later, or both at once.
#define KVMA_JIT (1 << 5)

// In `extra`: page tables are to be filled when memory is mapped or committed (`MAP_POPULATE`).
#define KVMA_POPULATE (1 << 6)

// In `extra`: no swap space is set aside (`MAP_NORESERVE`).
#define KVMA_NO_RESERVE (1 << 7)

// In `extra`: huge pages are welcome where they fit (`MADV_HUGEPAGE`).
#define KVMA_TRANSPARENT_HUGE (1 << 8)

// The pages will be needed soon (`MADV_WILLNEED`).
#define KVMA_ADVISE_WILL_NEED 0

// What the pages hold is not needed: the next access finds zeroes or the object (`MADV_DONTNEED`).
#define KVMA_ADVISE_DONT_NEED 1

// The pages may go when memory runs short (`MADV_FREE`).
#define KVMA_ADVISE_FREE 2

// Fill the page tables now (`MADV_POPULATE_READ`).
#define KVMA_ADVISE_POPULATE 3

// Write back what was changed, and wait (`MS_SYNC`).
#define KVMA_ADVISE_FLUSH 4

// Start to write back what was changed (`MS_ASYNC`).
#define KVMA_ADVISE_FLUSH_ASYNC 5

// Make the instruction cache see what was written.
#define KVMA_ADVISE_FLUSH_INSTRUCTIONS 6

// A range that is held. Opaque. To be given to `kvma_vm_release` in the end, fulfilled or not.
struct kvma_hold;

// A program's address space, as Linux keeps it. Opaque. As `kvma_vm`, it has no lock.
struct kvma_linux;

// Carries an owner into one or several calls on an address space, and out of them what must wait
// until the caller's lock is released: the rest of the TLB flush, references to files, memory.
// Opaque.
struct kvma_linux_call;

// libmmap's address space. Opaque. Any number of threads may look at it at once, one may change
// it; the caller keeps them apart. Callbacks may call back.
struct kvma_space;

// Carries memory and hooks into one or several calls on a map, and out of them what must wait
// until the caller's lock is released: the rest of the TLB flush, then dropping what was removed,
// then giving memory back. Opaque.
struct kvma_update;

// The VMAs of one address space. Opaque.
//
// It has no lock. Calls that change it must be kept apart from all others by the caller; where
// they are not, the later one is answered `KVMA_BUSY`.
struct kvma_vm;

// A range of pages, in bytes.
struct kvma_range {
    // First byte.
    uint64_t start;
    // Last byte; the byte behind it may be 2^64.
    uint64_t last;
    // Length in pages.
    uint64_t pages;
};

// A VMA's attributes. All zero: anonymous memory without access. Two neighbours are joined only if
// all of them are equal, offsets contiguous.
struct kvma_attrs {
    // `KVMA_READ` and the like.
    uint32_t flags;
    // Whether there is an object (a file, shared memory, a device) behind the VMA.
    bool backed;
    // 64 further flags of the owner's.
    uint64_t extra;
    // Tells objects apart. Only if `backed`.
    uint64_t object;
    // Where in the object the VMA's first page lies, in pages. Only if `backed`.
    uint64_t offset;
};

// A part of a VMA that a change touches; often all of it.
struct kvma_piece {
    // Just the part that is touched.
    struct kvma_range range;
    // Attributes of the part: the offset is that of its first page.
    struct kvma_attrs attrs;
    // The owner's data. In `prepare`, and where the VMA lives on, it is the whole VMA's.
    void *data;
};

// A step of a change that is about to happen.
struct kvma_event {
    // `KVMA_EVENT_MAP` and the like.
    uint32_t kind;
    // What it is about. Where it is protected, with the new attributes; where it is relocated, at
    // its old place.
    struct kvma_piece piece;
    // Where it is protected: the attributes before. Else the piece's own.
    struct kvma_attrs old;
    // Where it is relocated: the address to which. Else 0.
    uint64_t to;
};

// Where memory comes from. Both functions are needed. NULL where an allocator is asked for means
// `aligned_alloc` and `free` of the C library; a library built for kernels has none, and answers
// `KVMA_NULL_POINTER`.
//
// `alloc` answers NULL when there is none. `align` is a power of two of at most 64, `size` a
// multiple of it. Memory that is not aligned so is given back at once and counts as none. The
// table is copied; `ctx` must live as long as what was made with it.
struct kvma_allocator {
    // Gives `size` bytes at a multiple of `align`, or NULL.
    void *(*alloc)(void *ctx, size_t size, size_t align);
    // Takes them back, with the same numbers.
    void (*free)(void *ctx, void *memory, size_t size, size_t align);
    // Handed to both.
    void *ctx;
};

// What is known of a page, in the words of all generations.
struct kvma_space_info {
    // As given.
    int32_t prot;
    // As given.
    int32_t flags;
    // As given. Below zero: no file, and the offset means nothing.
    int32_t fd;
    // Whether it was there at the last `mark_original`.
    bool original;
    // Whether the file was given as a pointer, `file`. `fd` is then 0, or -1 if that is NULL.
    bool by_pointer;
    // Where in the file the page lies that the information is about, in bytes.
    int64_t offset;
    // Address of the mapping, not of the region: what was asked for at once. 0 in a space that
    // does not keep mappings apart.
    uint64_t base;
    // Length of the mapping in bytes, or 0.
    uint64_t len;
    // As given. 0 unless `by_pointer`.
    size_t file;
};

// Hears of a piece that is about to change: its first byte, its length, and what it was. Answers
// whether to go on.
typedef bool (*kvma_space_fn)(size_t start,
                              size_t len,
                              const struct kvma_space_info *was,
                              void *udata);

// What a call answers: `KVMA_OK`, a positive `KVMA_…` code, or, where a `prepare` hook refused,
// the hook's errno as a negative number. Whatever the answer, a call that did not succeed has
// changed nothing.
typedef int32_t kvma_status;

// How the owner counts references to a file. Both may be NULL. They cannot fail and must not call
// back.
struct kvma_file_ops {
    // A VMA shows the file from now on.
    void (*get)(struct kvma_file *file);
    // A VMA shows it no more.
    void (*put)(struct kvma_file *file);
};

// What can be mapped, or can name a mapping: the first member of the owner's own structure for an
// open file, a memory object, a name. VMAs with different ones never merge. It must live until the
// last reference to it has been `put`.
struct kvma_file {
    // NULL: nobody counts, and the file outlives all that maps it.
    const struct kvma_file_ops *ops;
    // A number that tells files apart; the `object` of VMAs that show it.
    uint64_t id;
    // Inode number, for `/proc/PID/maps`.
    uint64_t inode;
    // Device number, major part.
    uint32_t major;
    // Device number, minor part.
    uint32_t minor;
    // Path, or the name of special or named memory such as `[vdso]`. NULL: empty.
    const char *name;
    // Whether mappings that are large enough for huge pages start where address and offset agree
    // modulo their size.
    bool huge;
    // The file consists of huge pages of so many bytes, as in hugetlbfs and as `huge_memory` makes
    // it. 0: it does not.
    uint64_t huge_page;
};

// What a file descriptor stands for in one mmap call.
struct kvma_open_file {
    // The file. The call takes references of its own.
    struct kvma_file *file;
    // `KVMA_FILE_READ`, `KVMA_FILE_WRITE`.
    uint32_t rights;
    // `KVMA_FILE_UNMAPPABLE` and the like.
    uint32_t traits;
    // Largest offset in the file. 0: a regular file's.
    uint64_t max_bytes;
};

// The arguments of mmap(2).
struct kvma_linux_mmap_args {
    // Hint, or with `MAP_FIXED` the address.
    uint64_t addr;
    // Length in bytes.
    uint64_t len;
    // `PROT_*`
    uint64_t prot;
    // `MAP_*`
    uint64_t flags;
    // Offset in the file, in bytes.
    uint64_t offset;
    // What the file descriptor stands for; NULL if it is bad. Not looked at with `MAP_ANONYMOUS`.
    const struct kvma_open_file *file;
};

// A range in an I/O vector.
struct kvma_iovec {
    // Address.
    uint64_t addr;
    // Length in bytes.
    uint64_t len;
};

// A page fault at an address of user space.
struct kvma_linux_fault_args {
    // Where.
    uint64_t addr;
    // What the processor was doing: `KVMA_ACCESS_READ` and the like.
    uint32_t access;
    // Whether on the kernel's behalf, copying from or to the program's memory.
    bool by_kernel;
    // The program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes below
    // it, as up to Linux 4.20. 0: not asked.
    uint64_t stack_pointer;
};

// The shape of an address space, in bytes: made by `kvma_linux_layout_x86_64`, and changed where
// wanted.
struct kvma_linux_layout {
    // Where the top-down search begins (`mmap_base`).
    uint64_t base;
    // Where the bottom-up search begins (`mmap_legacy_base`).
    uint64_t bottom;
    // Lowest address that a search or a hint comes to, and a stack grows to (the larger of
    // `vm.mmap_min_addr` and `CONFIG_LSM_MMAP_MIN_ADDR`).
    uint64_t min_addr;
    // Lowest address that may be asked for without privileges (`vm.mmap_min_addr`).
    uint64_t user_min_addr;
    // What stacks keep free below them (`stack_guard_gap`).
    uint64_t guard_gap;
    // Size of the huge pages to which large mappings are aligned; 0 for no alignment.
    uint64_t huge;
    // Whether addresses are handed out from below.
    bool bottom_up;
    // First address that is not user space's (`TASK_SIZE`). Told, not to be changed.
    uint64_t task_size;
    // The page size. Told, not to be changed.
    uint64_t page_size;
};

// What the owner of a map does in step with it. Every function may be NULL, as may a pointer to
// the whole table.
//
//     prepare ... prepare     may refuse: then cancel ... cancel, and nothing has happened
//     -- the map changes --   from here on nothing can fail
//     unmap, protect, relocate, map     once for each piece of a VMA, ascending
//     flush_begin             the owner's lock still held: start the TLB flush, do not wait
//     -- kvma_update_finish, or the end of a call without an update --
//     flush_wait              wait for the other processors
//     -- what was removed is dropped --
//
// All of them must not call back into the map; where they do, they are answered `KVMA_BUSY`.
struct kvma_hooks {
    // Gets ready for a step: page-table pages, limits. Returns 0, or an errno to refuse the
    // change; the call then answers with that errno as a negative status.
    int32_t (*prepare)(void *udata, const struct kvma_event *event);
    // Undoes a `prepare` that succeeded, because a later one refused.
    void (*cancel)(void *udata, const struct kvma_event *event);
    // The piece is mapped from now on. Page tables may be filled at once or on demand.
    void (*map)(void *udata, const struct kvma_piece *piece);
    // The piece is mapped no more: its page-table entries must go.
    void (*unmap)(void *udata, const struct kvma_piece *piece);
    // The piece has new attributes; entries that allow more than they do must be narrowed.
    void (*protect)(void *udata, const struct kvma_piece *piece, const struct kvma_attrs *old);
    // The piece's contents move: entries go from its range to as many pages at `to`.
    void (*relocate)(void *udata, const struct kvma_piece *piece, uint64_t to);
    // Advice about a piece, which changes nothing in the map: `KVMA_ADVISE_WILL_NEED` and the
    // like.
    void (*advise)(void *udata, const struct kvma_piece *piece, uint32_t advice);
    // Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others.
    void (*flush_begin)(void *udata);
    // Waits until the flush has ended everywhere. May sleep.
    void (*flush_wait)(void *udata);
    // Handed to all of them.
    void *udata;
    // Whether to refuse, with `EACCES`, what lets code be written and run: a VMA that is writable
    // and executable at once, and one that becomes executable while it is writable, unless it is
    // marked `KVMA_JIT`. Asked before `prepare`.
    bool write_xor_exec;
};

// The kernel's side of a call. All zero: no hooks, no privileges, memory without end, no shared
// anonymous memory. The functions get the hooks' `udata`.
//
// In pieces that hooks see, `extra` holds Linux's `vm_flags`, and `data` is the file that is
// mapped.
struct kvma_owner {
    // What happens to page tables.
    struct kvma_hooks hooks;
    // What the caller may do: `KVMA_CAP_IPC_LOCK` and the like.
    uint32_t capabilities;
    // The mode of `vm.overcommit_memory`: `KVMA_OVERCOMMIT_HEURISTIC` and the like.
    uint32_t overcommit;
    // May `pages` more pages be promised to this process? 0, and they count from now on; or
    // `ENOMEM`.
    int32_t (*commit)(void *udata, uint64_t pages);
    // `pages` promised pages are needed no more.
    void (*uncharge)(void *udata, uint64_t pages);
    // A new object of `len` bytes for shared anonymous memory, with a reference for the caller; or
    // NULL, with an errno in `error` (0: `ENOMEM`).
    struct kvma_file *(*shared_memory)(void *udata, uint64_t len, uint64_t vm_flags, int32_t *error);
    // The file's own say in being mapped: 0 or an errno.
    int32_t (*map_file)(void *udata, const struct kvma_open_file *file, uint64_t vm_flags);
    // Work on the pages of a piece, `KVMA_ACTION_POPULATE` and the like: 0 or an errno.
    // `flush_begin` follows those that may take page-table entries away or narrow them: all but
    // the `POPULATE` ones, `WILL_NEED`, `GUARD_REMOVE` and `RESIDENCY`.
    int32_t (*act)(void *udata, uint32_t action, const struct kvma_piece *piece);
    // A child inherits a VMA, at the same addresses; `how` is `KVMA_INHERIT_COPY_ON_WRITE` or the
    // like. 0 or an errno. `flush_begin` follows the last. If the fork fails, what was done for
    // the child is to be thrown away.
    int32_t (*inherit)(void *udata, uint32_t how, const struct kvma_piece *vma);
    // A new object for `MAP_HUGETLB`, `len` bytes in huge pages of `page` bytes, with a reference
    // for the caller; or NULL, with an errno in `error` (0: `ENOMEM`). Unless `vm_flags` has `nr`
    // the pages are to be set aside for it. NULL: there are no huge pages. The file's `huge_page`
    // is `page`.
    struct kvma_file *(*huge_memory)(void *udata,
                                     uint64_t page,
                                     uint64_t len,
                                     uint64_t vm_flags,
                                     int32_t *error);
    // Which huge pages `MAP_HUGETLB` means by the logarithm in its size bits; 0 is the usual size.
    // Bytes, one of the sizes of `KVMA_CUT_2M` and the like; 0 if this machine has no such pages
    // (`EINVAL`). NULL: those of x86-64, 2 MiB and 1 GiB.
    uint64_t (*huge_page)(void *udata, uint32_t log2);
    // As `commit`, which is not called then, and told that the process has `total` pages mapped: a
    // strict kernel keeps something back from large ones. NULL: `commit`.
    int32_t (*charge)(void *udata, uint64_t pages, uint64_t total);
};

// A VMA that the kernel itself puts into an address space, as `execve` does.
struct kvma_linux_install_args {
    // First byte.
    uint64_t start;
    // First byte behind.
    uint64_t end;
    // All its flags: Linux's `vm_flags`, bit for bit.
    uint64_t vm_flags;
    // Offset in the file, in bytes.
    uint64_t offset;
    // The file, or NULL. The VMA takes a reference of its own.
    struct kvma_file *file;
    // What the file stands for: `KVMA_ROLE_OBJECT` and the like.
    uint32_t role;
};

// A VMA, as it was when it was asked for.
struct kvma_vma {
    // Where it is.
    struct kvma_range range;
    // Free bytes right below it, down to the next VMA or the start of the space.
    uint64_t gap_before;
    // What it is like; the offset is that of its first page.
    struct kvma_attrs attrs;
    // The owner's data.
    void *data;
};

// What is left to be walked over: a range of bytes that gets smaller from both ends. It holds on
// to nothing, so the map may be changed between two steps; the walk then goes on in what is there.
struct kvma_walk {
    // First byte that is left.
    uint64_t first;
    // Last byte that is left.
    uint64_t last;
    // Whether nothing is left.
    bool done;
};

// What is in use, in pages, as `/proc/PID/status` counts it.
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
    // VMAs that count as committed memory.
    uint64_t committed;
};

// Takes `len` bytes of text and answers whether it wants more.
typedef bool (*kvma_write_fn)(void *udata, const char *text, size_t len);

// A line of a `/proc/PID/maps` file.
struct kvma_maps_line {
    // First byte.
    uint64_t start;
    // First byte behind.
    uint64_t end;
    // `KVMA_READ`, `KVMA_WRITE`, `KVMA_EXEC`, `KVMA_SHARED`.
    uint32_t flags;
    // Device number, major part.
    uint32_t major;
    // Device number, minor part.
    uint32_t minor;
    // Inode number; 0 without a file.
    uint64_t inode;
    // Offset in the file, in bytes.
    uint64_t offset;
    // Path or name, as written; not terminated. It lies in the text.
    const char *name;
    // Length of the name.
    size_t name_len;
};

// What a free range must be like, in bytes. All zero: the lowest one anywhere.
struct kvma_search {
    // `KVMA_TOP_DOWN`, `KVMA_HINTED`.
    uint32_t flags;
    // Only from here on.
    uint64_t first;
    // Only up to this byte. 0: no end.
    uint64_t last;
    // At a multiple of this power of two. 0: of a page.
    uint64_t align;
    // At this, modulo the alignment, such as a file's offset for huge pages.
    uint64_t align_offset;
    // With `KVMA_HINTED`: here if that is free and in the window, aligned or not.
    uint64_t hint;
    // With so many bytes free on both sides.
    uint64_t guard;
};

// A new VMA. All zero but `len` is one: anonymous memory without access at the lowest free place.
struct kvma_request {
    // `KVMA_ANYWHERE`, `KVMA_FIXED`, `KVMA_FIXED_NOREPLACE`.
    uint32_t place;
    // `KVMA_MERGE_BOTH` and the like.
    uint32_t merge;
    // Length in bytes, a multiple of the page size.
    uint64_t len;
    // Where, for the two fixed places.
    uint64_t addr;
    // Where, for `KVMA_ANYWHERE`.
    struct kvma_search search;
    // What it is like.
    struct kvma_attrs attrs;
    // The owner's data. If the call fails, it is still the caller's.
    void *data;
};

// The attributes that a VMA is to have. Gets the whole VMA and answers for it; is asked several
// times and must answer the same.
typedef struct kvma_attrs (*kvma_attrs_fn)(void *udata, const struct kvma_vma *vma);

// The pointer that takes the place of `data`.
typedef void *(*kvma_data_fn)(void *udata, void *data);

// Whether a VMA is copied, and with which attributes: `attrs` holds its own and may be changed.
typedef bool (*kvma_copy_fn)(void *udata, const struct kvma_vma *vma, struct kvma_attrs *attrs);

// What is done with each VMA that a disturbance touches.
typedef void (*kvma_vma_fn)(void *udata, const struct kvma_vma *vma);

// What becomes of the owner's pointers when VMAs are cut, joined, copied, moved and removed. Every
// function may be NULL. They run in the middle of a change: they cannot fail, and must not call
// back into the map. The table is not copied: it must live as long as the maps that use it.
struct kvma_data_ops {
    // The VMA is cut: `data` keeps the first `pages` pages; the pointer for the rest is returned.
    // NULL: both have the same pointer.
    void *(*split)(void *udata, void *data, uint64_t pages);
    // Whether two neighbours may be joined as far as the owner is concerned; attributes are equal,
    // offsets contiguous. `pages` is the left one's length. NULL: if the pointers are equal.
    bool (*can_merge)(void *udata, void *left, uint64_t pages, void *right);
    // They are joined: `left`, of `pages` pages, stays; `right` is no longer in the map, and
    // `drop` is not called for it. NULL: `drop(right)`.
    void (*merge)(void *udata, void *left, uint64_t pages, void *right);
    // The pointer for a copy of the VMA, in another map or elsewhere in this one. NULL: the same.
    void *(*fork)(void *udata, void *data);
    // The pointer for the VMA, whose pages move up by `pages`, or down if that is negative. Called
    // before it meets its new neighbours. NULL: the same.
    void *(*relocate)(void *udata, void *data, int64_t pages);
    // The VMA is gone, after the flush has ended. NULL: nothing is to be done.
    void (*drop)(void *udata, void *data);
    // Handed to all of them.
    void *udata;
};

// Gives the owner's data for a line, and may change the `attrs` that the line says: protection,
// `KVMA_SHARED`, and where there is an inode the object of that number.
typedef void *(*kvma_adopt_fn)(void *udata,
                               const struct kvma_maps_line *line,
                               struct kvma_attrs *attrs);

// Whether a VMA of now and one of then, which overlap, show the same mapping, so that the pages
// which are there may stay. Must always answer the same.
typedef bool (*kvma_same_fn)(void *udata, const struct kvma_vma *now, const struct kvma_vma *then);

// Whether a VMA stays. Must always answer the same.
typedef bool (*kvma_keep_fn)(void *udata, const struct kvma_vma *vma);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Whether memory can be executed after a step that could not be before, so that the instruction
// cache must be made to see what was written there. Which, goes to `range` (NULL: not wanted).
bool kvma_event_gains_exec(const struct kvma_event *event, struct kvma_range *range);

// Makes a space of `len` bytes (retry_with_nodes up to whole pages) from `start` (down to a page).
// NULL if `page_size` is not a power of two, if the space reaches beyond the last address, or
// without memory.
struct kvma_space *kvma_space_new(size_t start,
                                  size_t len,
                                  size_t page_size,
                                  const struct kvma_allocator *allocator);

// A space equal to this one, marks and all. NULL without memory.
struct kvma_space *kvma_space_copy(const struct kvma_space *space);

// Frees a space. NULL is fine. A callback that frees the space which calls it changes nothing.
void kvma_space_free(struct kvma_space *space);

// Forgets all mappings, and the mark.
int32_t kvma_space_reset(struct kvma_space *space);

// Maps at `hint`, if that is not 0 and is free, else at the lowest free range. The address, or
// `UINTPTR_MAX`. Of `info`, `prot`, `flags`, `fd` and `offset` count.
size_t kvma_space_map_any(struct kvma_space *space,
                          size_t hint,
                          size_t len,
                          const struct kvma_space_info *info);

// Maps at `addr`, over what is there, of which it tells. The address, or `UINTPTR_MAX`.
size_t kvma_space_map_at(struct kvma_space *space,
                         size_t addr,
                         size_t len,
                         const struct kvma_space_info *info,
                         kvma_space_fn tell,
                         void *udata);

// Unmaps a range, and tells of what was there. Holes are fine.
int32_t kvma_space_unmap(struct kvma_space *space,
                         size_t addr,
                         size_t len,
                         kvma_space_fn tell,
                         void *udata);

// Changes the protection of a range, and tells of what was there. Holes are passed over, and
// answered with `KVMA_SPACE_HOLE`.
int32_t kvma_space_protect(struct kvma_space *space,
                           size_t addr,
                           size_t len,
                           int32_t prot,
                           kvma_space_fn tell,
                           void *udata);

// Whether the page of `addr` is mapped, and what is known of it, to `info` (NULL: not wanted).
bool kvma_space_query(const struct kvma_space *space, size_t addr, struct kvma_space_info *info);

// Marks what is mapped as original. `KVMA_SPACE_NO_MEMORY`: marked, but a later
// `unmap_non_original` cannot bring back what is unmapped or protected until then.
int32_t kvma_space_mark_original(struct kvma_space *space);

// Brings back what was marked: unmaps the rest, gives original VMAs their protection again, and
// maps those that are gone. Tells of everything that is unmapped or protected.
// `KVMA_SPACE_NO_MEMORY`: the rest is unmapped, but nothing brought back.
int32_t kvma_space_unmap_non_original(struct kvma_space *space, kvma_space_fn tell, void *udata);

// mmap(2). The address goes to `addr`.
kvma_status kvma_linux_mmap(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            const struct kvma_linux_mmap_args *args,
                            uint64_t *addr);

// munmap(2)
kvma_status kvma_linux_munmap(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t addr,
                              uint64_t len);

// mprotect(2)
kvma_status kvma_linux_mprotect(struct kvma_linux *mm,
                                struct kvma_linux_call *in_call,
                                uint64_t addr,
                                uint64_t len,
                                uint64_t prot);

// pkey_mprotect(2). -1 for `key` is plain mprotect.
kvma_status kvma_linux_pkey_mprotect(struct kvma_linux *mm,
                                     struct kvma_linux_call *in_call,
                                     uint64_t addr,
                                     uint64_t len,
                                     uint64_t prot,
                                     uint64_t key);

// mremap(2). The address goes to `addr`.
kvma_status kvma_linux_mremap(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t old_addr,
                              uint64_t old_len,
                              uint64_t new_len,
                              uint64_t flags,
                              uint64_t new_addr,
                              uint64_t *addr);

// brk(2), the system call: where the heap ends now goes to `end`, which is where it ended before
// if that failed.
kvma_status kvma_linux_brk(struct kvma_linux *mm,
                           struct kvma_linux_call *in_call,
                           uint64_t brk,
                           uint64_t *end);

// sbrk(3): moves the heap's end by `increment` bytes; where it was goes to `old_end`.
kvma_status kvma_linux_sbrk(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            int64_t increment,
                            uint64_t *old_end);

// madvise(2)
kvma_status kvma_linux_madvise(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len,
                               uint64_t advice);

// mlock(2)
kvma_status kvma_linux_mlock(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len);

// mlock2(2)
kvma_status kvma_linux_mlock2(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t addr,
                              uint64_t len,
                              uint64_t flags);

// munlock(2)
kvma_status kvma_linux_munlock(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len);

// mlockall(2)
kvma_status kvma_linux_mlockall(struct kvma_linux *mm,
                                struct kvma_linux_call *in_call,
                                uint64_t flags);

// munlockall(2)
kvma_status kvma_linux_munlockall(struct kvma_linux *mm, struct kvma_linux_call *in_call);

// mseal(2)
kvma_status kvma_linux_mseal(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len,
                             uint64_t flags);

// msync(2)
kvma_status kvma_linux_msync(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len,
                             uint64_t flags);

// mincore(2). The owner's `act` hears `KVMA_ACTION_RESIDENCY` for each VMA's part of the range, in
// order and without holes between, and fills in the vector.
kvma_status kvma_linux_mincore(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len);

// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`: names the anonymous memory in a range by `name`, or
// takes its name away (NULL). The VMAs take references of their own.
kvma_status kvma_linux_set_anon_name(struct kvma_linux *mm,
                                     struct kvma_linux_call *in_call,
                                     uint64_t addr,
                                     uint64_t len,
                                     struct kvma_file *name);

// process_madvise(2): madvise for each of `count` ranges. `own` says whether the address space is
// the caller's; for another's, the kernel has checked the caller's rights. The bytes advised go to
// `advised`.
kvma_status kvma_linux_process_madvise(struct kvma_linux *mm,
                                       struct kvma_linux_call *in_call,
                                       bool own,
                                       const struct kvma_iovec *ranges,
                                       size_t count,
                                       uint64_t advice,
                                       uint64_t flags,
                                       uint64_t *advised);

// pkey_alloc(2). The key goes to `key`.
kvma_status kvma_linux_pkey_alloc(struct kvma_linux *mm,
                                  uint64_t flags,
                                  uint64_t rights,
                                  uint64_t *key);

// pkey_free(2)
kvma_status kvma_linux_pkey_free(struct kvma_linux *mm, uint64_t key);

// What a page fault comes to, to `verdict`: `KVMA_FAULT_MAP` and the like. Extends the stack if
// the fault lies right below it and the limits allow.
kvma_status kvma_linux_fault(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_fault_args *fault,
                             uint64_t *verdict);

// What a page fault comes to by what is mapped there now, to `verdict`. Changes nothing, so that
// any number of threads may ask at once; most faults are answered so, and `KVMA_FAULT_TAKE_NOTE`
// sends the others to `kvma_linux_fault`.
kvma_status kvma_linux_judge(const struct kvma_linux *mm,
                             const struct kvma_linux_fault_args *fault,
                             uint64_t *verdict);

// A page fault at `addr` below a stack: extends it if it may grow that far. `-EFAULT` if what lies
// above is no stack, and the errno why it may not.
kvma_status kvma_linux_grow_stack(struct kvma_linux *mm,
                                  struct kvma_linux_call *in_call,
                                  uint64_t addr);

// The child's address space, from the same allocator, to `child`. VMAs keep their boundaries;
// those that are not to be copied are left out, and locks are not inherited.
//
// The owner's `inherit` hears of each VMA, then its `flush_begin`, even if it refused one; its
// `flush_wait` when the call is finished.
kvma_status kvma_linux_fork(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            struct kvma_linux **child);

// x86-64 with 47-bit user space and no randomisation, for a stack of at most `stack_limit` bytes
// (`UINT64_MAX`: unlimited).
struct kvma_linux_layout kvma_linux_layout_x86_64(uint64_t stack_limit);

// The same with both searches starting at one of 2 to the `bits` places, by the caller's random
// number: as many pages further as its low bits say. Linux takes 28 bits on x86-64, and at most 32
// are taken here.
struct kvma_linux_layout kvma_linux_layout_randomised(struct kvma_linux_layout layout,
                                                      uint64_t random,
                                                      uint32_t bits);

// Makes an empty address space with memory of `allocator` (NULL: malloc's). The handle goes to
// `mm`; NULL if it fails.
kvma_status kvma_linux_new(struct kvma_linux **mm,
                           const struct kvma_linux_layout *layout,
                           const struct kvma_allocator *allocator);

// Frees an address space: gives up its files and its memory. No hooks are called; for that, call
// `kvma_linux_clear` first. NULL is fine. All its calls must have been finished.
kvma_status kvma_linux_free(struct kvma_linux *mm);

// Begins calls on `mm` with `owner` (NULL: none), and takes `nodes` nodes in hand; a system call
// needs at most 3 at a time. To be called before taking the lock that guards the address space.
// The table is copied.
kvma_status kvma_linux_call_new(struct kvma_linux_call **in_call,
                                const struct kvma_linux *mm,
                                const struct kvma_owner *owner,
                                size_t nodes);

// VMAs and parts of VMAs that the calls have removed so far.
size_t kvma_linux_call_removed(const struct kvma_linux_call *in_call);

// Does what is owed and frees the call: waits for the flush, gives up files and memory. To be
// called after releasing the lock. NULL is fine.
kvma_status kvma_linux_call_finish(struct kvma_linux_call *in_call);

// Puts a VMA of the kernel's own into a free range. It is not joined with its neighbours, and no
// limit is asked.
kvma_status kvma_linux_install(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               const struct kvma_linux_install_args *args);

// Removes everything and starts anew with `layout`: what `execve` does first, and a process that
// ends, last. Limits stay.
kvma_status kvma_linux_clear(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_layout *layout);

// Says where the heap starts, and how many bytes of initialised data `RLIMIT_DATA` counts with it.
kvma_status kvma_linux_set_start_brk(struct kvma_linux *mm, uint64_t start, uint64_t data_segment);

// Says where the program's stack begins: its VMA is the one that maps calls `[stack]`.
kvma_status kvma_linux_set_start_stack(struct kvma_linux *mm, uint64_t addr);

// Lists `[vsyscall]`, or not: `KVMA_GATE_NONE` and the like.
kvma_status kvma_linux_set_gate(struct kvma_linux *mm, uint32_t gate);

// Changes where things go from now on. What is mapped stays. `KVMA_OUT_OF_RANGE` or
// `KVMA_UNALIGNED` for a layout that makes no sense.
kvma_status kvma_linux_set_layout(struct kvma_linux *mm, const struct kvma_linux_layout *layout);

// Sets a resource limit, `KVMA_LIMIT_ADDRESS_SPACE` and the like, to `bytes` (`UINT64_MAX`: none).
// What is in use already stays.
kvma_status kvma_linux_set_limit(struct kvma_linux *mm, uint32_t limit, uint64_t bytes);

// Sets the owner's own rules, all off to begin with: about memory that is writable and executable
// (`KVMA_WRITE_EXEC_ALLOWED` and the like), and `guard` bytes, whole pages, that are left free on
// both sides of what mmap and mremap find a place for. What is mapped already stays.
kvma_status kvma_linux_set_policy(struct kvma_linux *mm, uint32_t write_exec, uint64_t guard);

// Sets how many VMAs there may be (`vm.max_map_count`).
kvma_status kvma_linux_set_max_map_count(struct kvma_linux *mm, size_t max);

// Notes that a private page of the VMA at `addr` has been written.
kvma_status kvma_linux_note_write(struct kvma_linux *mm, uint64_t addr);

// What `kvma_overcommit_decide` answers where Linux would say `ENOMEM`.
kvma_status kvma_overcommit_decide(uint32_t mode,
                                   uint64_t pages,
                                   uint64_t committed,
                                   uint64_t memory,
                                   uint64_t limit);

// The VMA that holds the byte at `addr`: its `extra` are Linux's `vm_flags`, its `data` the file
// that is mapped or names it. `KVMA_NOT_MAPPED` if there is none.
kvma_status kvma_linux_find(const struct kvma_linux *mm, uint64_t addr, struct kvma_vma *vma);

// The first VMA that ends behind the byte at `addr`. `KVMA_NOT_MAPPED` if there is none.
kvma_status kvma_linux_find_from(const struct kvma_linux *mm, uint64_t addr, struct kvma_vma *vma);

// What the file of the VMA at `addr` stands for, to `role`: `KVMA_ROLE_OBJECT` and the like.
// `KVMA_NOT_MAPPED` if there is no VMA.
kvma_status kvma_linux_role(const struct kvma_linux *mm, uint64_t addr, uint32_t *role);

// The next VMA of the walk from below, to `vma`. False at the end. O(log n).
bool kvma_linux_next(const struct kvma_linux *mm, struct kvma_walk *walk, struct kvma_vma *vma);

// The next VMA of the walk from above, to `vma`. False at the end. O(log n).
bool kvma_linux_prev(const struct kvma_linux *mm, struct kvma_walk *walk, struct kvma_vma *vma);

// The next free range of the walk from below, cut to it, to `gap`. False at the end. O(log n).
bool kvma_linux_next_gap(const struct kvma_linux *mm,
                         struct kvma_walk *walk,
                         struct kvma_range *gap);

// What is in use, to `usage`.
kvma_status kvma_linux_get_usage(const struct kvma_linux *mm, struct kvma_linux_usage *usage);

// A resource limit in bytes; `UINT64_MAX` is unlimited, and the answer for what is no limit.
uint64_t kvma_linux_limit(const struct kvma_linux *mm, uint32_t limit);

// The shape of the address space, to `layout`.
kvma_status kvma_linux_get_layout(const struct kvma_linux *mm, struct kvma_linux_layout *layout);

// Where mmap would put `len` bytes of memory without an object if it got no hint, to `addr`: for
// what the kernel itself maps, and then installs there. `-ENOMEM` if there is no room.
kvma_status kvma_linux_unmapped_area(const struct kvma_linux *mm, uint64_t len, uint64_t *addr);

// The owner's own rules, as `kvma_linux_set_policy` takes them.
kvma_status kvma_linux_get_policy(const struct kvma_linux *mm,
                                  uint32_t *write_exec,
                                  uint64_t *guard);

// How `[vsyscall]` is listed: `KVMA_GATE_NONE` and the like.
uint32_t kvma_linux_gate(const struct kvma_linux *mm);

// The version of Linux whose rules are followed: the major number times 1000, and the minor one. 0
// for NULL.
uint32_t kvma_linux_rules(const struct kvma_linux *mm);

// Number of VMAs (`map_count`).
size_t kvma_linux_map_count(const struct kvma_linux *mm);

// Where the heap starts.
uint64_t kvma_linux_start_brk(const struct kvma_linux *mm);

// Where the heap ends, to the byte.
uint64_t kvma_linux_current_brk(const struct kvma_linux *mm);

// Where the program's stack begins, or 0.
uint64_t kvma_linux_start_stack(const struct kvma_linux *mm);

// Checks every invariant, and the counts against the VMAs: `KVMA_OK`, or `KVMA_INTERNAL`. For
// tests.
kvma_status kvma_linux_check(const struct kvma_linux *mm);

// Writes `/proc/PID/maps`, byte for byte as Linux does, in pieces to `write`. `KVMA_BUSY` if that
// wants no more.
kvma_status kvma_linux_maps(const struct kvma_linux *mm, kvma_write_fn write, void *udata);

// The flag of Linux's `vm_flags` that smaps calls by these two letters, such as "gd"; 0 if there
// is none.
uint64_t kvma_linux_vm_flag(const char *two);

// Writes `vm_flags` as smaps does, each mnemonic followed by one space. `KVMA_BUSY` if `write`
// wants no more.
kvma_status kvma_linux_vm_flags_text(uint64_t vm_flags, kvma_write_fn write, void *udata);

// What to answer to a memory call that is not served here, by its number on x86-64: a negative
// errno, as Linux answers where it is built without the call. 0 for all other numbers.
kvma_status kvma_linux_unserved(uint32_t number);

// Writes the name of such a call and why it is not served. `KVMA_BAD_ARGUMENT` for all other
// numbers.
kvma_status kvma_linux_unserved_text(uint32_t number, kvma_write_fn write, void *udata);

// Reads one line of a `/proc/PID/maps` file, `len` bytes without its newline, to `line`.
// `KVMA_BAD_ARGUMENT` if it is none that Linux writes.
kvma_status kvma_maps_parse_line(const char *start, size_t len, struct kvma_maps_line *line);

// Reads the `VmFlags:` line of a `/proc/PID/smaps` file, `len` bytes, to `vm_flags`.
// `KVMA_BAD_ARGUMENT` if it is none, or names a flag that Linux does not have.
kvma_status kvma_maps_parse_vm_flags(const char *start, size_t len, uint64_t *vm_flags);

// A short English description. Never NULL; the string is the library's.
const char *kvma_strerror(kvma_status status);

// The errno (a positive Linux error number) that the matching POSIX call gives: ENOMEM for a hole
// under mprotect(2), EEXIST for an overlap, the hook's own where a hook refused. 0 for `KVMA_OK`.
int32_t kvma_errno(kvma_status status);

// Maps as `request` says; the address goes to `addr` (NULL: not wanted). The new VMA is joined
// with its neighbours where attributes, offsets and the owner's data allow. O(log n + VMAs
// replaced).
kvma_status kvma_vm_map(struct kvma_vm *vm,
                        const struct kvma_request *request,
                        const struct kvma_hooks *hooks,
                        uint64_t *addr);

// `kvma_vm_map` within an update.
kvma_status kvma_update_map(struct kvma_update *update,
                            struct kvma_vm *vm,
                            const struct kvma_request *request,
                            uint64_t *addr);

// Unmaps `len` bytes from `start`; holes are fine (munmap(2)). The number of pages removed goes to
// `pages` (NULL: not wanted). O(log n + VMAs removed).
kvma_status kvma_vm_unmap(struct kvma_vm *vm,
                          uint64_t start,
                          uint64_t len,
                          const struct kvma_hooks *hooks,
                          uint64_t *pages);

// `kvma_vm_unmap` within an update.
kvma_status kvma_update_unmap(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t start,
                              uint64_t len,
                              uint64_t *pages);

// Unmaps everything. As `kvma_vm_unmap`, but needs no memory.
kvma_status kvma_vm_clear(struct kvma_vm *vm, const struct kvma_hooks *hooks, uint64_t *pages);

// `kvma_vm_clear` within an update.
kvma_status kvma_update_clear(struct kvma_update *update, struct kvma_vm *vm, uint64_t *pages);

// Changes the protection of `len` bytes from `start` to `prot` (`KVMA_READ`, `KVMA_WRITE`,
// `KVMA_EXEC`). All of them must be mapped (mprotect(2)): `KVMA_NOT_MAPPED`. O(log n + VMAs).
kvma_status kvma_vm_protect(struct kvma_vm *vm,
                            uint64_t start,
                            uint64_t len,
                            uint32_t prot,
                            const struct kvma_hooks *hooks);

// `kvma_vm_protect` within an update.
kvma_status kvma_update_protect(struct kvma_update *update,
                                struct kvma_vm *vm,
                                uint64_t start,
                                uint64_t len,
                                uint32_t prot);

// Gives each VMA in `len` bytes from `start` the attributes that `attrs` says; holes are passed
// over. VMAs whose attributes stay are neither split nor joined.
kvma_status kvma_vm_update_attrs(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 kvma_attrs_fn attrs,
                                 void *udata,
                                 const struct kvma_hooks *hooks);

// `kvma_vm_update_attrs` within an update.
kvma_status kvma_update_attrs(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t start,
                              uint64_t len,
                              kvma_attrs_fn attrs,
                              void *udata);

// Moves the VMAs in `len` bytes from `from` to `to`, contents and all; holes stay holes. The
// target must be free and must not overlap the source. `source` is `KVMA_SOURCE_UNMAP` or
// `KVMA_SOURCE_KEEP`, `merge` is `KVMA_MERGE_BOTH` or the like.
kvma_status kvma_vm_relocate(struct kvma_vm *vm,
                             uint64_t from,
                             uint64_t len,
                             uint64_t to,
                             uint32_t source,
                             uint32_t merge,
                             const struct kvma_hooks *hooks);

// `kvma_vm_relocate` within an update.
kvma_status kvma_update_relocate(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t from,
                                 uint64_t len,
                                 uint64_t to,
                                 uint32_t source,
                                 uint32_t merge);

// Puts what `change` answers in the place of the owner's data of the VMA that holds `addr`. Splits
// and joins nothing, calls no hook and none of the owner's data functions. O(log n).
kvma_status kvma_vm_update_data(struct kvma_vm *vm,
                                uint64_t addr,
                                kvma_data_fn change,
                                void *udata);

// Puts `data` in the place of the owner's data of the VMA that holds `addr`, and writes what was
// there to `old` (NULL: not wanted). As `kvma_vm_update_data`.
kvma_status kvma_vm_set_data(struct kvma_vm *vm, uint64_t addr, void *data, void **old);

// Copies the map VMA by VMA into a new one of the same space, with memory of `allocator` (NULL:
// malloc's) and the owner's data `fork`ed. `copy` decides on each VMA and may mark pages
// copy-on-write as it goes (NULL: all VMAs as they are). VMAs keep their boundaries. O(n log n);
// all memory is taken before the first VMA is copied.
kvma_status kvma_vm_fork(const struct kvma_vm *vm,
                         const struct kvma_allocator *allocator,
                         kvma_copy_fn copy,
                         void *udata,
                         struct kvma_vm **child);

// `kvma_vm_fork` of a map whose program runs on: `flush_begin` and `flush_wait` follow what `copy`
// does to page tables.
kvma_status kvma_vm_fork_live(struct kvma_vm *vm,
                              const struct kvma_allocator *allocator,
                              kvma_copy_fn copy,
                              void *udata,
                              const struct kvma_hooks *hooks,
                              struct kvma_vm **child);

// `kvma_vm_fork_live` within an update.
kvma_status kvma_update_fork_live(struct kvma_update *update,
                                  struct kvma_vm *vm,
                                  const struct kvma_allocator *allocator,
                                  kvma_copy_fn copy,
                                  void *udata,
                                  struct kvma_vm **child);

// Chooses a range as `request` says (place, search, length, owner's data) and holds it, for work
// that is to be done without the lock; then `kvma_vm_fulfil` it if all went well, and
// `kvma_vm_release` it in any case. Nobody else gets the range, it cannot be faulted or protected,
// and hooks do not hear of it. Unmapping and replacing it take it away from its holder. What
// `KVMA_FIXED` replaces is unmapped now.
kvma_status kvma_vm_reserve(struct kvma_vm *vm,
                            const struct kvma_request *request,
                            const struct kvma_hooks *hooks,
                            struct kvma_hold **hold);

// `kvma_vm_reserve` within an update.
kvma_status kvma_update_reserve_range(struct kvma_update *update,
                                      struct kvma_vm *vm,
                                      const struct kvma_request *request,
                                      struct kvma_hold **hold);

// What a hold holds.
kvma_status kvma_hold_range(const struct kvma_hold *hold, struct kvma_range *range);

// Makes a VMA of what is held, with `attrs` and `data`; what the reservation had for data is
// dropped. It is joined with its neighbours as `merge` says. `KVMA_NOT_MAPPED` if the range, or a
// part of it, has been unmapped or replaced meanwhile. If it fails, nothing has happened, and
// `data` is still the caller's.
kvma_status kvma_vm_fulfil(struct kvma_vm *vm,
                           const struct kvma_hold *hold,
                           const struct kvma_attrs *attrs,
                           void *data,
                           uint32_t merge,
                           const struct kvma_hooks *hooks);

// `kvma_vm_fulfil` within an update.
kvma_status kvma_update_fulfil(struct kvma_update *update,
                               struct kvma_vm *vm,
                               const struct kvma_hold *hold,
                               const struct kvma_attrs *attrs,
                               void *data,
                               uint32_t merge);

// Gives up what is still held, if anything is, and frees the hold. Needs no memory, calls no hook.
// NULL is fine. If it fails the hold has not been freed.
kvma_status kvma_vm_release(struct kvma_vm *vm, struct kvma_hold *hold);

// `kvma_vm_release` within an update.
kvma_status kvma_update_release(struct kvma_update *update,
                                struct kvma_vm *vm,
                                struct kvma_hold *hold);

// For a change of page tables that no VMA shows: marking pages copy-on-write, giving pages back.
// Calls `edit` with each VMA that shares a byte with `len` bytes from `start`, whole, ascending; a
// flush follows if there was any.
kvma_status kvma_vm_invalidate(struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               kvma_vma_fn edit,
                               void *udata,
                               const struct kvma_hooks *hooks);

// `kvma_vm_invalidate` within an update.
kvma_status kvma_update_invalidate(struct kvma_update *update,
                                   struct kvma_vm *vm,
                                   uint64_t start,
                                   uint64_t len,
                                   kvma_vma_fn edit,
                                   void *udata);

// Moves the VMAs in `len` bytes from `from` into `target`, to `to`: attributes, offsets and the
// owner's data, whose functions stay those of `vm`. Holes stay holes. The target must be free, and
// pages of one size. Each map has hooks of its own: `unmap` here, `map` there. `merge` is
// `KVMA_MERGE_BOTH` or the like.
kvma_status kvma_vm_transfer(struct kvma_vm *vm,
                             uint64_t from,
                             uint64_t len,
                             const struct kvma_hooks *hooks,
                             struct kvma_vm *target,
                             uint64_t to,
                             uint32_t merge,
                             const struct kvma_hooks *target_hooks);

// `kvma_vm_transfer` within an update of each map.
kvma_status kvma_update_transfer(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t from,
                                 uint64_t len,
                                 struct kvma_update *target_update,
                                 struct kvma_vm *target,
                                 uint64_t to,
                                 uint32_t merge);

// Cuts the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a hole.
// Calls no hook. O(log n).
kvma_status kvma_vm_split_at(struct kvma_vm *vm, uint64_t addr);

// Joins the two VMAs that meet at `addr`, or says why not: `KVMA_NOT_ADJACENT`,
// `KVMA_ATTRIBUTES_DIFFER`, `KVMA_BACKING_DIFFERS`. Calls no hook. O(log n), needs no memory.
kvma_status kvma_vm_merge_at(struct kvma_vm *vm, uint64_t addr);

// Whether `kvma_vm_merge_at` would join, and else why not. O(log n).
kvma_status kvma_vm_may_merge_at(const struct kvma_vm *vm, uint64_t addr);

// Makes an empty map of `pages` pages of `page_size` bytes (any power of two) from the address
// `start`, with the memory of `allocator` (NULL: malloc's) and, for the owner's data, `ops` (NULL:
// plain pointers, equal ones are joined). Writes the handle to `vm`; NULL if it fails.
kvma_status kvma_vm_new(struct kvma_vm **vm,
                        uint64_t start,
                        uint64_t pages,
                        uint64_t page_size,
                        const struct kvma_allocator *allocator,
                        const struct kvma_data_ops *ops);

// Frees the map: drops the owner's data, gives all memory back. No hooks are called; for that,
// call `kvma_vm_clear` first. NULL is fine.
//
// All its updates must have been finished. `KVMA_BUSY` if it is in use, for instance by the call
// whose hook calls this; then it has not been freed.
kvma_status kvma_vm_free(struct kvma_vm *vm);

// Makes what was reserved (`KVMA_UNCOMMITTED`) in `len` bytes from `start` usable, with the
// protection `prot`. All must be mapped; parts that are committed already stay as they are.
// `-EACCES` if that would be writable and executable at once without `KVMA_JIT`.
kvma_status kvma_vm_commit(struct kvma_vm *vm,
                           uint64_t start,
                           uint64_t len,
                           uint32_t prot,
                           const struct kvma_hooks *hooks);

// `kvma_vm_commit` within an update.
kvma_status kvma_update_commit(struct kvma_update *update,
                               struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               uint32_t prot);

// Gives the memory of `len` bytes from `start` back and keeps the addresses. All must be mapped.
// The hooks hear `protect`, with `KVMA_UNCOMMITTED` in the new `extra` only.
kvma_status kvma_vm_decommit(struct kvma_vm *vm,
                             uint64_t start,
                             uint64_t len,
                             const struct kvma_hooks *hooks);

// `kvma_vm_decommit` within an update.
kvma_status kvma_update_decommit(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len);

// Keeps the pages of `len` bytes from `start` in memory (mlock(2)). All must be mapped.
kvma_status kvma_vm_lock_pages(struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               const struct kvma_hooks *hooks);

// `kvma_vm_lock_pages` within an update.
kvma_status kvma_update_lock_pages(struct kvma_update *update,
                                   struct kvma_vm *vm,
                                   uint64_t start,
                                   uint64_t len);

// Lets the pages of `len` bytes from `start` go when memory is short (munlock(2)). All must be
// mapped.
kvma_status kvma_vm_unlock_pages(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 const struct kvma_hooks *hooks);

// `kvma_vm_unlock_pages` within an update.
kvma_status kvma_update_unlock_pages(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     uint64_t start,
                                     uint64_t len);

// Takes `clear` from the flags in `extra` of `len` bytes from `start`, then adds `set`: access
// patterns, core dumps (madvise(2)). All must be mapped. `KVMA_UNCOMMITTED` is left alone.
kvma_status kvma_vm_change_flags(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 uint64_t set,
                                 uint64_t clear,
                                 const struct kvma_hooks *hooks);

// `kvma_vm_change_flags` within an update.
kvma_status kvma_update_change_flags(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     uint64_t start,
                                     uint64_t len,
                                     uint64_t set,
                                     uint64_t clear);

// Tells the hooks' `advise` about each piece in `len` bytes from `start`, ascending; nothing
// changes in the map. All must be mapped. Advice that takes pages away is followed by a flush.
kvma_status kvma_vm_advise(struct kvma_vm *vm,
                           uint64_t start,
                           uint64_t len,
                           uint32_t advice,
                           const struct kvma_hooks *hooks);

// `kvma_vm_advise` within an update.
kvma_status kvma_update_advise(struct kvma_update *update,
                               struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               uint32_t advice);

// Whether `len` bytes from `start` lie in the space and are all mapped. O(log n + VMAs).
bool kvma_vm_covers(const struct kvma_vm *vm, uint64_t start, uint64_t len);

// Takes over a range that is mapped already: as `kvma_vm_map`, but without hooks, and `KVMA_FIXED`
// replaces nothing (`KVMA_OVERLAP`).
kvma_status kvma_vm_adopt(struct kvma_vm *vm, const struct kvma_request *request, uint64_t *addr);

// Fills the empty map with the VMAs of a `/proc/PID/maps` file, `text`, boundary for boundary and
// without hooks. VMAs wholly outside the space are passed over. `vma` may be NULL: as the lines
// say, with NULL for data. If it fails the map is still empty, `vma` has not been called, and
// `line` (NULL: not wanted) has the number of the line that is wrong, from 1, or 0.
kvma_status kvma_vm_adopt_maps(struct kvma_vm *vm,
                               const char *text,
                               kvma_adopt_fn vma,
                               void *udata,
                               size_t *line);

// The VMA that holds the byte at `addr`. `KVMA_NOT_MAPPED` if there is none; `vma` may be NULL.
// O(log n).
kvma_status kvma_vm_find(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

// The VMA that holds the byte at `addr`, or else the next one above (Linux' `find_vma`). O(log n).
kvma_status kvma_vm_find_from(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

// The last VMA that begins below the page of `addr`. O(log n).
kvma_status kvma_vm_find_before(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

// Whether `len` bytes from `start` lie in the space and are free. O(log n).
bool kvma_vm_is_free(const struct kvma_vm *vm, uint64_t start, uint64_t len);

// Where `len` bytes would go, to `addr`; changes nothing. `search` may be NULL: the lowest free
// range. O(log n).
kvma_status kvma_vm_find_gap(const struct kvma_vm *vm,
                             uint64_t len,
                             const struct kvma_search *search,
                             uint64_t *addr);

// Number of VMAs. O(1).
size_t kvma_vm_len(const struct kvma_vm *vm);

// Whether nothing is mapped. O(1).
bool kvma_vm_is_empty(const struct kvma_vm *vm);

// Pages in all VMAs together. O(1).
uint64_t kvma_vm_pages(const struct kvma_vm *vm);

// Bytes in a page.
uint64_t kvma_vm_page_size(const struct kvma_vm *vm);

// The range that the map covers.
kvma_status kvma_vm_space(const struct kvma_vm *vm, struct kvma_range *range);

// Checks every invariant of the structure from scratch, in O(n log n): `KVMA_OK`, or
// `KVMA_INTERNAL`. For tests, and for owners who suspect memory corruption.
kvma_status kvma_vm_check(const struct kvma_vm *vm);

// Makes `vm` equal to `saved`, an earlier `kvma_vm_fork` of it: boundaries and attributes of all
// VMAs, those included that were unmapped or replaced since. What comes back has a `fork` of the
// saved owner's data; what stays keeps its own. `same_mapping` may be NULL: where the owner's data
// is the same pointer.
//
// The hooks hear what is to be undone: first `unmap` for what must go, then `protect` for what
// stays with other attributes, then `map` for what comes back, each ascending. Contents are the
// owner's.
kvma_status kvma_vm_restore(struct kvma_vm *vm,
                            const struct kvma_vm *saved,
                            kvma_same_fn same_mapping,
                            void *udata,
                            const struct kvma_hooks *hooks);

// `kvma_vm_restore` within an update.
kvma_status kvma_update_restore(struct kvma_update *update,
                                struct kvma_vm *vm,
                                const struct kvma_vm *saved,
                                kvma_same_fn same_mapping,
                                void *udata);

// Nodes that `kvma_vm_restore` may need, to `nodes`. O(n + m).
kvma_status kvma_vm_restore_cost(const struct kvma_vm *vm,
                                 const struct kvma_vm *saved,
                                 kvma_same_fn same_mapping,
                                 void *udata,
                                 size_t *nodes);

// Unmaps every VMA that `wanted` does not want, each whole; the number of pages removed goes to
// `pages` (NULL: not wanted). Needs no memory. O(n + removed log n).
kvma_status kvma_vm_retain(struct kvma_vm *vm,
                           kvma_keep_fn wanted,
                           void *udata,
                           const struct kvma_hooks *hooks,
                           uint64_t *pages);

// `kvma_vm_retain` within an update.
kvma_status kvma_update_retain(struct kvma_update *update,
                               struct kvma_vm *vm,
                               kvma_keep_fn wanted,
                               void *udata,
                               uint64_t *pages);

// Begins a change of `vm` with `hooks` (NULL: none), and takes `nodes` nodes in hand: calls that
// need no more (a call on a range needs at most 3) do not allocate. To be called before taking the
// lock that guards the map. The table of hooks is copied.
kvma_status kvma_update_new(struct kvma_update **update,
                            const struct kvma_vm *vm,
                            const struct kvma_hooks *hooks,
                            size_t nodes);

// Takes nodes in hand until there are `nodes`.
kvma_status kvma_update_reserve(struct kvma_update *update, size_t nodes);

// VMAs and parts of VMAs removed so far.
size_t kvma_update_removed(const struct kvma_update *update);

// Does what is owed and frees the update: waits for the flush, drops what was removed, gives
// memory back. To be called after releasing the lock. NULL is fine.
kvma_status kvma_update_finish(struct kvma_update *update);

// A walk over what shares a byte with `len` bytes from `start`. The whole map: 0 and `UINT64_MAX`.
struct kvma_walk kvma_walk_over(uint64_t start, uint64_t len);

// The next VMA of the walk from below, whole, to `vma`. False at the end. O(log n).
bool kvma_vm_next(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_vma *vma);

// The next VMA of the walk from above, whole, to `vma`. False at the end. O(log n).
bool kvma_vm_prev(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_vma *vma);

// The next part of a VMA of the walk from below, cut to the walk, with its own offset in the
// object, to `piece`. False at the end. O(log n).
bool kvma_vm_next_piece(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_piece *piece);

// The next part of a VMA of the walk from above, cut to the walk, to `piece`. False at the end.
// O(log n).
bool kvma_vm_prev_piece(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_piece *piece);

// The next free range of the walk from below, cut to it, to `gap`. False at the end. O(log n).
bool kvma_vm_next_gap(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_range *gap);

// The next free range of the walk from above, cut to it, to `gap`. False at the end. O(log n).
bool kvma_vm_prev_gap(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_range *gap);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KVMA_H */
