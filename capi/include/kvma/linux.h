/*
 * kvma/linux.h: Linux' memory calls, on top of a map.
 * Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate or header.outline, then
 *     KVMA_BLESS=1 cargo test -p kvma-capi --test header
 *
 * In the order of a life cycle:
 *
 *     Files
 *     The kernel around the calls
 *     The layout of an address space
 *     Making an address space and freeing it
 *     Calls: the kernel's side goes in, owed work comes out
 *     Setting up: limits, rules, the heap, the stack
 *     exec: what the kernel itself maps
 *     System calls
 *     Page faults
 *     Forking
 *     Finding and walking
 *     Counting
 *     Text
 *     Checking
 */

#ifndef KVMA_LINUX_H
#define KVMA_LINUX_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Named before they are described. */
struct kvma_file;

/* == Files == */

/*
 * Counts references to a file. Both functions may be NULL. They cannot fail. `get` is called in
 * the middle of a change, where calls into the address space are answered `KVMA_BUSY`; `put` is
 * called when the call is finished.
 */
struct kvma_file_ops {
    /* The size of this table in bytes. Later versions of it may have more fields at its end. */
    size_t size;
    /* Takes a reference: one more VMA shows the file. */
    void (*get)(struct kvma_file *file);
    /* Gives a reference up: one VMA less shows the file. */
    void (*put)(struct kvma_file *file);
};

/*
 * Something that can be mapped, or that names a mapping: the first member of the kernel's own
 * structure for an open file, a memory object, a name. VMAs with different ones never merge. It
 * must live until the last reference to it has been `put`.
 */
struct kvma_file {
    /* The reference counting. NULL: nobody counts, and the file outlives all that maps it. */
    const struct kvma_file_ops *ops;
    /* A number that tells files apart; it is the `object` of VMAs that show the file. */
    uint64_t id;
    /* The inode number, for `/proc/PID/maps`. */
    uint64_t inode;
    /* The major device number. */
    uint32_t major;
    /* The minor device number. */
    uint32_t minor;
    /* The path, or the name of special or named memory such as `[vdso]`. NULL: empty. */
    const char *name;
    /*
     * `true` if mappings that are large enough for huge pages start where address and offset agree
     * modulo their size.
     */
    bool huge;
    /*
     * The size in bytes of the huge pages that the file consists of, as in hugetlbfs and as
     * `huge_memory` makes it. 0: it does not.
     */
    uint64_t huge_page;
    /*
     * `true` if mappings go where the search without regard to huge pages ends, unless huge pages
     * fit elsewhere: the rule of tmpfs with `huge=always` and the like.
     */
    bool huge_shmem;
    /*
     * The things that calls may not do to its VMAs: `KVMA_RESTRICT_ADDRESS` and the like. Unknown
     * bits are ignored.
     */
    uint32_t restrictions;
    /*
     * The size in bytes of a segment of System V shared memory, for `kvma_linux_shmat`. 0: it is
     * none.
     */
    uint64_t segment_size;
};

enum kvma_file_right {
    /* The file is open for reading. */
    KVMA_FILE_READ = 1,
    /* The file is open for writing. */
    KVMA_FILE_WRITE = 2
};

enum kvma_file_trait {
    /* The file has no pages to map, as a directory has none (`ENODEV`). */
    KVMA_FILE_UNMAPPABLE = 1,
    /* The file lies on a file system that is mounted `noexec`. */
    KVMA_FILE_NO_EXEC = (1 << 1),
    /* The file is append-only. */
    KVMA_FILE_APPEND_ONLY = (1 << 2),
    /* The file is in use as swap space (`ETXTBSY`). */
    KVMA_FILE_SWAP = (1 << 3),
    /* `MAP_SYNC` may be given with `MAP_SHARED_VALIDATE`. */
    KVMA_FILE_KNOWS_SYNC = (1 << 4),
    /* `MAP_SYNC` works: the file is persistent memory. */
    KVMA_FILE_PERSISTENT = (1 << 5),
    /* The file is sealed against writing (`F_SEAL_WRITE`, `F_SEAL_FUTURE_WRITE`). */
    KVMA_FILE_WRITE_SEALED = (1 << 6)
};

enum kvma_restriction {
    /*
     * The kernel alone chooses the address (`EINVAL` for any other), as for rings of io_uring(7).
     */
    KVMA_RESTRICT_ADDRESS = 1,
    /*
     * mremap moves it alone, not with other VMAs (`EFAULT`), as segments of System V shared memory.
     */
    KVMA_RESTRICT_JOINT_MOVE = (1 << 1),
    /* It cannot be split (`EINVAL`), as buffers of perf_event_open(2). */
    KVMA_RESTRICT_SPLIT = (1 << 2),
    /* mlock and the like pass it over, as secret memory and files of persistent memory. */
    KVMA_RESTRICT_LOCK = (1 << 3),
    /* Pages come in by the program's own accesses alone, as those of memfd_secret(2). */
    KVMA_RESTRICT_POPULATE = (1 << 4)
};

/* The file behind a descriptor in one mmap call. */
struct kvma_open_file {
    /* The file. The call takes references of its own. */
    struct kvma_file *file;
    /* `KVMA_FILE_READ` and `KVMA_FILE_WRITE`. */
    uint32_t rights;
    /* `KVMA_FILE_UNMAPPABLE` and the like. */
    uint32_t traits;
    /* The largest offset in the file, in bytes. 0: that of a regular file. */
    uint64_t max_bytes;
};

/* == The kernel around the calls == */

enum kvma_capability {
    /* `CAP_IPC_LOCK`: may lock more memory than the limit. */
    KVMA_CAP_IPC_LOCK = 1,
    /* `CAP_SYS_RAWIO`: may map the lowest addresses. */
    KVMA_CAP_SYS_RAWIO = 2,
    /* `CAP_SYS_ADMIN`: may use the last few per cent of memory. */
    KVMA_CAP_SYS_ADMIN = 4
};

enum kvma_overcommit {
    /* Overcommit: refuse only what alone exceeds all memory. */
    KVMA_OVERCOMMIT_HEURISTIC = 0,
    /* Overcommit: refuse nothing. */
    KVMA_OVERCOMMIT_ALWAYS = 1,
    /* Overcommit: refuse what exceeds the commit limit. */
    KVMA_OVERCOMMIT_NEVER = 2
};

enum kvma_page_op {
    /* Bring the pages in, writable where the VMA is. */
    KVMA_PAGE_OP_POPULATE = 0,
    /* `MADV_POPULATE_READ`: as if each page had been read. */
    KVMA_PAGE_OP_POPULATE_READ = 1,
    /* `MADV_POPULATE_WRITE`: as if each page had been written. */
    KVMA_PAGE_OP_POPULATE_WRITE = 2,
    /* `MADV_WILLNEED`: read ahead. */
    KVMA_PAGE_OP_WILL_NEED = 3,
    /* `MADV_DONTNEED`: drop what is mapped; the next access sees zeros or the file. */
    KVMA_PAGE_OP_DONT_NEED = 4,
    /* `MADV_FREE`: the pages may be dropped until they are written again. */
    KVMA_PAGE_OP_FREE = 5,
    /* `MADV_REMOVE`: punch a hole in the object. */
    KVMA_PAGE_OP_REMOVE = 6,
    /* `MADV_COLD`: reclaim early. */
    KVMA_PAGE_OP_COLD = 7,
    /* `MADV_PAGEOUT`: reclaim now. */
    KVMA_PAGE_OP_PAGE_OUT = 8,
    /* `MADV_COLLAPSE`: make huge pages now. */
    KVMA_PAGE_OP_COLLAPSE = 9,
    /* `MADV_GUARD_INSTALL`: each page faults from now on, and its contents go. */
    KVMA_PAGE_OP_GUARD_INSTALL = 10,
    /* `MADV_GUARD_REMOVE`: take such guards away. */
    KVMA_PAGE_OP_GUARD_REMOVE = 11,
    /* `msync(MS_SYNC)`: write the object's range to its device, and wait. */
    KVMA_PAGE_OP_WRITE_BACK = 12,
    /* `mincore`: say which pages are in memory. */
    KVMA_PAGE_OP_RESIDENCY = 13,
    /* Something that this header has no number for yet. */
    KVMA_PAGE_OP_OTHER = 2147483647
};

enum kvma_inherit {
    /* Both see the same pages until one writes: take write access away on both sides. */
    KVMA_INHERIT_COPY_ON_WRITE = 0,
    /* Both see the same pages for good. The child's entries may be left to its faults. */
    KVMA_INHERIT_SHARE = 1,
    /* The child sees zeros (`MADV_WIPEONFORK`). */
    KVMA_INHERIT_WIPE = 2
};

/*
 * The kernel's side of a call. All zero but `size`: no hooks, no privileges, memory without end,
 * no shared anonymous memory. The functions get `udata`, and answer with 0 or an errno of either
 * sign where they return a number.
 *
 * In pieces that the functions see, `user_bits` are Linux' `vm_flags`, and `data` is the file that
 * is mapped.
 */
struct kvma_kernel {
    /* The size of this table in bytes. Later versions of it may have more fields at its end. */
    size_t size;
    /* The hooks for page tables. May be NULL. The table is copied. */
    const struct kvma_hooks *hooks;
    /* The capabilities of the caller: `KVMA_CAP_IPC_LOCK` and the like. */
    uint32_t capabilities;
    /* The mode of `vm.overcommit_memory`: `KVMA_OVERCOMMIT_HEURISTIC` or the like. */
    uint32_t overcommit;
    /* Passed to all functions of this table. */
    void *udata;
    /*
     * Charges `bytes` more bytes to this process, which has `total` bytes mapped (a strict kernel
     * keeps something back from large ones); or refuses with `ENOMEM`. See
     * `kvma_overcommit_decide`.
     */
    int32_t (*charge)(void *udata, uint64_t bytes, uint64_t total);
    /* Takes the charge for `bytes` bytes back. */
    void (*uncharge)(void *udata, uint64_t bytes);
    /*
     * Makes an object of `len` bytes for shared anonymous memory, with a reference for the caller;
     * or returns NULL and writes an errno to `err` (0: `ENOMEM`).
     */
    struct kvma_file *(*shared_memory)(void *udata, uint64_t len, uint64_t vm_flags, int32_t *err);
    /*
     * Lets the file refuse to be mapped, or change the flags of the VMA. `vma` is what will be
     * mapped unless it merges. `vm_flags` are its flags so far: the file may set and clear
     * `io de pf mm`, `dc dd`, `lo lf`, `sr rr` and `hg nh`, and clear `mr mw me`; other changes do
     * not count. A file that adds `lo` need not look at the limit on locked memory.
     */
    int32_t (*map_file)(void *udata,
                        const struct kvma_open_file *file,
                        const struct kvma_piece *vma,
                        uint64_t *vm_flags);
    /*
     * Works on the pages of a piece, `KVMA_PAGE_OP_POPULATE` or the like. `flush_begin` follows
     * those that may take page-table entries away or narrow them: all but the `POPULATE` ones,
     * `WILL_NEED`, `GUARD_REMOVE` and `RESIDENCY`.
     */
    int32_t (*page_op)(void *udata, uint32_t op, const struct kvma_piece *piece);
    /*
     * Lets a child inherit a VMA, at the same addresses; `how` is `KVMA_INHERIT_COPY_ON_WRITE` or
     * the like. `flush_begin` follows the last. If the fork fails, what was done for the child is
     * to be thrown away.
     */
    int32_t (*inherit)(void *udata, uint32_t how, const struct kvma_piece *vma);
    /*
     * Makes an object for `MAP_HUGETLB`, `len` bytes in huge pages of `page` bytes, with a
     * reference for the caller; or returns NULL and writes an errno to `err` (0: `ENOMEM`). The
     * pages are set aside for it, unless `vm_flags` has `nr`. The file's `huge_page` is `page`.
     * NULL: there are no huge pages.
     */
    struct kvma_file *(*huge_memory)(void *udata,
                                     uint64_t page,
                                     uint64_t len,
                                     uint64_t vm_flags,
                                     int32_t *err);
    /*
     * Returns the size in bytes of the huge pages that `MAP_HUGETLB` means by the logarithm in its
     * size bits, where 0 stands for the usual size. It is one of the sizes of `KVMA_SPLIT_2M` and
     * the like; 0 if this machine has no such pages (`EINVAL`). NULL: those of x86-64, 2 MiB and
     * 1 GiB.
     */
    uint64_t (*huge_page)(void *udata, uint32_t log2);
};

/*
 * Decides as Linux does whether `bytes` more bytes may be charged in a machine with `memory` bytes
 * and a commit limit of `limit` bytes. `committed` is what all processes together are charged for,
 * those asked for included. `KVMA_OK` or `-ENOMEM`.
 */
kvma_status kvma_overcommit_decide(uint32_t mode,
                                   uint64_t bytes,
                                   uint64_t committed,
                                   uint64_t memory,
                                   uint64_t limit);

/* == The layout of an address space == */

/*
 * The shape of an address space, in bytes: made by `kvma_linux_layout_x86_64`, and changed where
 * wanted.
 */
struct kvma_linux_layout {
    /* The address from which top-down searches go (`mmap_base`). */
    uint64_t base;
    /* The address from which bottom-up searches go (`mmap_legacy_base`). */
    uint64_t bottom;
    /*
     * The lowest address that a search or a hint gets, and to which a stack grows (the larger of
     * `vm.mmap_min_addr` and `CONFIG_LSM_MMAP_MIN_ADDR`).
     */
    uint64_t min_addr;
    /* The lowest address that may be asked for without privileges (`vm.mmap_min_addr`). */
    uint64_t user_min_addr;
    /* The number of bytes that stacks keep free below them (`stack_guard_gap`). */
    uint64_t guard_gap;
    /* The size of the huge pages to which large mappings are aligned; 0: they are not. */
    uint64_t huge;
    /* The number of the processor's protection keys, at most 16; 0: there are none. */
    uint32_t protection_keys;
    /* `true` if searches go from the bottom up. */
    bool bottom_up;
    /* The first address that is not user space's (`TASK_SIZE`). Only to be read. */
    uint64_t task_size;
    /* The page size. Only to be read. */
    uint64_t page_size;
};

/*
 * Returns the layout of x86-64 with 47-bit user space and no randomisation, for a stack of at most
 * `stack_limit` bytes (`UINT64_MAX`: unlimited).
 */
struct kvma_linux_layout kvma_linux_layout_x86_64(uint64_t stack_limit);

/*
 * Returns `layout` with both searches moved by a random number of pages, the low `bits` bits of
 * `random`: the base down, the bottom up. Linux takes 28 bits on x86-64, and at most 32 count
 * here.
 */
struct kvma_linux_layout kvma_linux_layout_randomised(struct kvma_linux_layout layout,
                                                      uint64_t random,
                                                      uint32_t bits);

/* == Making an address space and freeing it == */

/*
 * The address space of a program, as Linux keeps it. Opaque. It has no lock, as `kvma_vm` has
 * none.
 */
struct kvma_linux;

/*
 * Makes an empty address space with memory from `allocator` (NULL: malloc's), and writes its
 * handle to `mm`; NULL if the call fails.
 */
kvma_status kvma_linux_new(struct kvma_linux **mm,
                           const struct kvma_linux_layout *layout,
                           const struct kvma_allocator *allocator);

/*
 * Frees an address space: gives up its files and its memory. Calls no hooks; for that, call
 * `kvma_linux_clear` first. NULL is fine. All calls on it have been finished before. `KVMA_BUSY`
 * if it is in use, or is being freed already.
 */
kvma_status kvma_linux_free(struct kvma_linux *mm);

/* == Calls: the kernel's side goes in, owed work comes out == */

/*
 * Carries the kernel's callbacks into one or several calls on an address space, and out of them
 * the work that must wait until the caller's lock is released: the rest of the TLB flush,
 * references to files, memory. Opaque.
 */
struct kvma_linux_call;

/*
 * Begins calls on `mm` with `kernel` (NULL: none) and `nodes` preallocated nodes; a system call
 * needs at most 3 at a time. Writes the handle to `in_call`; NULL if this fails. Call it before
 * taking the lock that guards the address space. The table is copied.
 */
kvma_status kvma_linux_call_new(struct kvma_linux_call **in_call,
                                const struct kvma_linux *mm,
                                const struct kvma_kernel *kernel,
                                size_t nodes);

/* Returns the number of VMAs and parts of VMAs that the calls have removed so far. */
size_t kvma_linux_call_removed(const struct kvma_linux_call *in_call);

/*
 * Does the work that is owed and frees the call: waits for the flush, gives up files and memory.
 * Call it after releasing the lock. NULL is fine. `KVMA_BUSY` if the call is in use or is being
 * finished already.
 */
kvma_status kvma_linux_call_finish(struct kvma_linux_call *in_call);

/* == Setting up: limits, rules, the heap, the stack == */

/*
 * Changes where mappings go from now on. What is mapped stays. `KVMA_OUT_OF_RANGE` or
 * `KVMA_UNALIGNED` for a layout that makes no sense.
 */
kvma_status kvma_linux_set_layout(struct kvma_linux *mm, const struct kvma_linux_layout *layout);

/* Writes the layout of the address space to `layout`. */
kvma_status kvma_linux_get_layout(const struct kvma_linux *mm, struct kvma_linux_layout *layout);

enum kvma_limit {
    /* `RLIMIT_AS` */
    KVMA_LIMIT_ADDRESS_SPACE = 0,
    /* `RLIMIT_DATA` */
    KVMA_LIMIT_DATA = 1,
    /* `RLIMIT_MEMLOCK` */
    KVMA_LIMIT_MEM_LOCK = 2,
    /* `RLIMIT_STACK` */
    KVMA_LIMIT_STACK = 3,
    /* The hard limit of `RLIMIT_DATA`, which counts for mappings where the soft one is 0. */
    KVMA_LIMIT_DATA_MAX = 4
};

/*
 * Sets a resource limit, `KVMA_LIMIT_ADDRESS_SPACE` or the like, to `bytes` (`UINT64_MAX`: none).
 * What is in use already stays.
 */
kvma_status kvma_linux_set_limit(struct kvma_linux *mm, uint32_t limit, uint64_t bytes);

/* Returns a resource limit in bytes; `UINT64_MAX` if there is none, and for what is no limit. */
uint64_t kvma_linux_limit(const struct kvma_linux *mm, uint32_t limit);

enum kvma_write_exec {
    /* Memory may be writable and executable at once, as everywhere. */
    KVMA_WRITE_EXEC_ALLOWED = 0,
    /* Memory may not be writable and executable at once (`EACCES`). */
    KVMA_WRITE_EXEC_NOT_TOGETHER = 1,
    /* Memory may be writable and executable neither at once nor one after the other. */
    KVMA_WRITE_EXEC_NEVER = 2,
    /*
     * Memory may not be writable and executable at once, and what was not mapped executable never
     * becomes so: `prctl(PR_SET_MDWE)`.
     */
    KVMA_WRITE_EXEC_MDWE = 3
};

/*
 * Sets the kernel's own rules, all off to begin with: about memory that is writable and executable
 * (`KVMA_WRITE_EXEC_ALLOWED` or the like), and `guard` bytes, whole pages, that stay free on both
 * sides of what mmap and mremap find a place for. What is mapped already stays.
 */
kvma_status kvma_linux_set_policy(struct kvma_linux *mm, uint32_t write_exec, uint64_t guard);

/*
 * Writes the kernel's own rules, as `kvma_linux_set_policy` takes them, to `write_exec` and
 * `guard`.
 */
kvma_status kvma_linux_get_policy(const struct kvma_linux *mm,
                                  uint32_t *write_exec,
                                  uint64_t *guard);

enum kvma_gate {
    /* `[vsyscall]` is not listed. */
    KVMA_GATE_NONE = 0,
    /* `[vsyscall]` may be called. */
    KVMA_GATE_EXECUTE = 1,
    /* `[vsyscall]` may be called and read. */
    KVMA_GATE_READ_EXECUTE = 2
};

/* Lists `[vsyscall]` in `/proc/PID/maps`, or not: `KVMA_GATE_NONE` or the like. */
kvma_status kvma_linux_set_gate(struct kvma_linux *mm, uint32_t gate);

/* Returns how `[vsyscall]` is listed: `KVMA_GATE_NONE` or the like. */
uint32_t kvma_linux_gate(const struct kvma_linux *mm);

/* Sets how many VMAs there may be (`vm.max_map_count`). */
kvma_status kvma_linux_set_max_map_count(struct kvma_linux *mm, size_t max);

/*
 * Returns the version of Linux whose rules are followed: 1000 times the major number, and the
 * minor one. 0 for NULL.
 */
uint32_t kvma_linux_rules(const struct kvma_linux *mm);

/*
 * Says where the heap starts, and how many bytes of initialised data `RLIMIT_DATA` counts with it.
 */
kvma_status kvma_linux_set_start_brk(struct kvma_linux *mm, uint64_t start, uint64_t data_segment);

/* Returns where the heap starts. */
uint64_t kvma_linux_start_brk(const struct kvma_linux *mm);

/* Returns where the heap ends, to the byte. */
uint64_t kvma_linux_current_brk(const struct kvma_linux *mm);

/*
 * Says where the program's stack begins: `/proc/PID/maps` calls the VMA that holds this address
 * `[stack]`.
 */
kvma_status kvma_linux_set_start_stack(struct kvma_linux *mm, uint64_t addr);

/* Returns where the program's stack begins, or 0. */
uint64_t kvma_linux_start_stack(const struct kvma_linux *mm);

/* == exec: what the kernel itself maps == */

enum kvma_role {
    /* The file is what is mapped; without a file, the memory is plain anonymous memory. */
    KVMA_ROLE_OBJECT = 0,
    /* The file names anonymous memory (`PR_SET_VMA_ANON_NAME`). */
    KVMA_ROLE_NAME = 1,
    /*
     * The file names memory that the kernel itself put there, such as `[vdso]`. It cannot be split.
     */
    KVMA_ROLE_SPECIAL = 2
};

/* A VMA that the kernel itself puts into an address space, as `execve` does. */
struct kvma_linux_install_args {
    /* The first byte. */
    uint64_t start;
    /* The first byte behind. */
    uint64_t end;
    /* All its flags: Linux' `vm_flags`, bit for bit. */
    uint64_t vm_flags;
    /* The offset in the file, in bytes. */
    uint64_t offset;
    /* The file, or NULL. The VMA takes a reference of its own. */
    struct kvma_file *file;
    /* The role of the file: `KVMA_ROLE_OBJECT` or the like. */
    uint32_t role;
};

/*
 * Puts a VMA of the kernel's own into a free range. It does not merge with its neighbours, and no
 * limit is asked.
 */
kvma_status kvma_linux_install(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               const struct kvma_linux_install_args *args);

/*
 * Finds where mmap would put `len` bytes of memory without an object and without a hint, and
 * writes the address to `addr`: for what the kernel itself maps, and then installs there.
 * `-ENOMEM` if there is no free range.
 */
kvma_status kvma_linux_unmapped_area(const struct kvma_linux *mm, uint64_t len, uint64_t *addr);

/*
 * Removes everything and starts anew with `layout`: what `execve` does first, and a process that
 * ends does last. Limits stay.
 */
kvma_status kvma_linux_clear(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_layout *layout);

/* == System calls == */

/* The arguments of mmap(2). */
struct kvma_linux_mmap_args {
    /* A hint, or with `MAP_FIXED` the address. */
    uint64_t addr;
    /* The length in bytes. */
    uint64_t len;
    /* `PROT_*` */
    uint64_t prot;
    /* `MAP_*` */
    uint64_t flags;
    /* The offset in the file, in bytes. */
    uint64_t offset;
    /* The file behind the descriptor; NULL if it is bad. Not read with `MAP_ANONYMOUS`. */
    const struct kvma_open_file *file;
};

/* mmap(2): maps memory or a file, and writes the address to `addr`. */
kvma_status kvma_linux_mmap(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            const struct kvma_linux_mmap_args *args,
                            uint64_t *addr);

/* munmap(2): unmaps a range. */
kvma_status kvma_linux_munmap(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t addr,
                              uint64_t len);

/* The arguments of shmat(2). */
struct kvma_linux_shmat_args {
    /*
     * The segment behind the identifier, as a file of this attachment alone, whose `segment_size`
     * is set. The call takes references of its own. NULL if there is none.
     */
    struct kvma_file *segment;
    /* Why there is none: an errno of either sign (0: `EINVAL`). Not read if there is one. */
    int32_t error;
    /* The address; 0 to let one be chosen. */
    uint64_t addr;
    /* `SHM_*` */
    uint64_t flags;
};

/* shmat(2): attaches a segment of System V shared memory, and writes the address to `addr`. */
kvma_status kvma_linux_shmat(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_shmat_args *args,
                             uint64_t *addr);

/* shmdt(2): detaches the segment that was attached at `addr`. */
kvma_status kvma_linux_shmdt(struct kvma_linux *mm, struct kvma_linux_call *in_call, uint64_t addr);

/* mprotect(2): changes the protection of a range. */
kvma_status kvma_linux_mprotect(struct kvma_linux *mm,
                                struct kvma_linux_call *in_call,
                                uint64_t addr,
                                uint64_t len,
                                uint64_t prot);

/*
 * `pkey_mprotect(2)`: changes the protection of a range and its protection key. With -1 for `key`
 * it is mprotect(2).
 */
kvma_status kvma_linux_pkey_mprotect(struct kvma_linux *mm,
                                     struct kvma_linux_call *in_call,
                                     uint64_t addr,
                                     uint64_t len,
                                     uint64_t prot,
                                     uint64_t key);

/* `pkey_alloc(2)`: allocates a protection key and writes it to `key`. */
kvma_status kvma_linux_pkey_alloc(struct kvma_linux *mm,
                                  uint64_t flags,
                                  uint64_t rights,
                                  uint64_t *key);

/* `pkey_free(2)`: frees a protection key. */
kvma_status kvma_linux_pkey_free(struct kvma_linux *mm, uint64_t key);

/* mremap(2): resizes or moves a mapping, and writes its address to `addr`. */
kvma_status kvma_linux_mremap(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t old_addr,
                              uint64_t old_len,
                              uint64_t new_len,
                              uint64_t flags,
                              uint64_t new_addr,
                              uint64_t *addr);

/*
 * brk(2), the system call: moves the end of the heap, and writes where it ends then to `end`; that
 * is the old end if it could not be moved.
 */
kvma_status kvma_linux_brk(struct kvma_linux *mm,
                           struct kvma_linux_call *in_call,
                           uint64_t brk,
                           uint64_t *end);

/* sbrk(3): moves the end of the heap by `increment` bytes, and writes where it was to `old_end`. */
kvma_status kvma_linux_sbrk(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            int64_t increment,
                            uint64_t *old_end);

/* madvise(2): gives advice about a range. */
kvma_status kvma_linux_madvise(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len,
                               uint64_t advice);

/* A range in an I/O vector. */
struct kvma_iovec {
    /* The address. */
    uint64_t addr;
    /* The length in bytes. */
    uint64_t len;
};

/*
 * `process_madvise(2)`: gives advice about each of `count` ranges, and writes the number of bytes
 * that it reached to `advised`. `own` says whether the address space is the caller's; if not, the
 * kernel has checked the caller's rights.
 */
kvma_status kvma_linux_process_madvise(struct kvma_linux *mm,
                                       struct kvma_linux_call *in_call,
                                       bool own,
                                       const struct kvma_iovec *ranges,
                                       size_t count,
                                       uint64_t advice,
                                       uint64_t flags,
                                       uint64_t *advised);

/* mlock(2): locks a range in memory. */
kvma_status kvma_linux_mlock(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len);

/* mlock2(2): locks a range in memory, now or as its pages come in. */
kvma_status kvma_linux_mlock2(struct kvma_linux *mm,
                              struct kvma_linux_call *in_call,
                              uint64_t addr,
                              uint64_t len,
                              uint64_t flags);

/* munlock(2): unlocks a range. */
kvma_status kvma_linux_munlock(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len);

/* mlockall(2): locks everything in memory, what is mapped or what will be. */
kvma_status kvma_linux_mlockall(struct kvma_linux *mm,
                                struct kvma_linux_call *in_call,
                                uint64_t flags);

/* munlockall(2): unlocks everything. */
kvma_status kvma_linux_munlockall(struct kvma_linux *mm, struct kvma_linux_call *in_call);

/* mseal(2): seals a range against changes of its mapping. */
kvma_status kvma_linux_mseal(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len,
                             uint64_t flags);

/* msync(2): writes changes of mapped files back. */
kvma_status kvma_linux_msync(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             uint64_t addr,
                             uint64_t len,
                             uint64_t flags);

/*
 * mincore(2): asks which pages are in memory. The kernel's `page_op` hears
 * `KVMA_PAGE_OP_RESIDENCY` for each piece of the range, in order and without gaps between, and
 * fills in the vector.
 */
kvma_status kvma_linux_mincore(struct kvma_linux *mm,
                               struct kvma_linux_call *in_call,
                               uint64_t addr,
                               uint64_t len);

/*
 * `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`: gives the anonymous memory in a range the name
 * `name`, or takes its name away (NULL). The VMAs take references of their own.
 */
kvma_status kvma_linux_set_anon_name(struct kvma_linux *mm,
                                     struct kvma_linux_call *in_call,
                                     uint64_t addr,
                                     uint64_t len,
                                     struct kvma_file *name);

/*
 * Returns the answer to a memory call that is not served here, by its number on x86-64: a negative
 * errno, as from a Linux that is built without the call. 0 for all other numbers.
 */
kvma_status kvma_linux_unserved(uint32_t number);

/* == Page faults == */

enum kvma_access {
    /* A load. */
    KVMA_ACCESS_READ = 0,
    /* A store. */
    KVMA_ACCESS_WRITE = 1,
    /* An instruction fetch. */
    KVMA_ACCESS_EXECUTE = 2
};

enum kvma_fault_action {
    /*
     * Make the page present, with no more rights than the VMA has; a private page of an object
     * without write access, so that the first write faults.
     */
    KVMA_FAULT_MAP = 0,
    /*
     * Give the VMA a page of its own, with what is there now or with zeros: the fault is a write to
     * private memory.
     */
    KVMA_FAULT_COPY = 1,
    /* Send `SEGV_MAPERR`: nothing is mapped there. */
    KVMA_FAULT_MAPERR = 2,
    /* Send `SEGV_ACCERR`: what is mapped there does not allow the access. */
    KVMA_FAULT_ACCERR = 3,
    /*
     * Ask `kvma_linux_fault`: the VMA must take note of the access, or a stack may have to grow.
     * Only `kvma_linux_check_access` answers so.
     */
    KVMA_FAULT_UNDECIDED = 4
};

/* A page fault at an address of user space. */
struct kvma_linux_fault_args {
    /* The address. */
    uint64_t addr;
    /* The access that the processor made: `KVMA_ACCESS_READ` or the like. */
    uint32_t access;
    /* `true` if the kernel was copying from or to the program's memory. */
    bool by_kernel;
    /*
     * The program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes below
     * it, as up to Linux 4.20. 0: it does not count.
     */
    uint64_t stack_pointer;
};

/*
 * Checks a page fault against what is mapped now: writes what is to be done to `action`. Changes
 * nothing, so that any number of threads may ask at once. Most faults are answered so;
 * `KVMA_FAULT_UNDECIDED` sends the others to `kvma_linux_fault`.
 */
kvma_status kvma_linux_check_access(const struct kvma_linux *mm,
                                    const struct kvma_linux_fault_args *fault,
                                    uint64_t *action);

/*
 * Handles a page fault: writes what is to be done to `action`, `KVMA_FAULT_MAP` or the like.
 * Extends the stack if the fault lies right below it and the limits allow.
 */
kvma_status kvma_linux_fault(struct kvma_linux *mm,
                             struct kvma_linux_call *in_call,
                             const struct kvma_linux_fault_args *fault,
                             uint64_t *action);

/*
 * Handles a page fault at `addr` below a stack: extends the stack if it may grow that far.
 * `-EFAULT` if what lies above is no stack, and else the errno that says why it may not.
 */
kvma_status kvma_linux_grow_stack(struct kvma_linux *mm,
                                  struct kvma_linux_call *in_call,
                                  uint64_t addr);

/* Takes note that a private page of the VMA at `addr` has been written. */
kvma_status kvma_linux_note_write(struct kvma_linux *mm, uint64_t addr);

/* == Forking == */

/*
 * Copies an address space for a child, with memory from the same allocator, and writes its handle
 * to `child`; NULL if the call fails. VMAs keep their boundaries; those that are not to be copied
 * are left out, and locks are not inherited.
 *
 * The kernel's `inherit` hears of each VMA, then its `flush_begin`, even if it refused one; its
 * `flush_wait` when the call is finished.
 */
kvma_status kvma_linux_fork(struct kvma_linux *mm,
                            struct kvma_linux_call *in_call,
                            struct kvma_linux **child);

/* == Finding and walking == */

/*
 * Finds the VMA that holds the byte at `addr` and writes it to `vma` (NULL: not wanted): its
 * `user_bits` are Linux' `vm_flags`, its `data` is the file that is mapped or names it.
 * `KVMA_NOT_MAPPED` if there is none. O(log n).
 */
kvma_status kvma_linux_find(const struct kvma_linux *mm, uint64_t addr, struct kvma_vma *vma);

/* Finds the first VMA that ends behind the byte at `addr`. Otherwise as `kvma_linux_find`. */
kvma_status kvma_linux_find_from(const struct kvma_linux *mm, uint64_t addr, struct kvma_vma *vma);

/*
 * Writes what the file of the VMA at `addr` stands for to `role`: `KVMA_ROLE_OBJECT` or the like.
 * `KVMA_NOT_MAPPED` if there is no VMA.
 */
kvma_status kvma_linux_role(const struct kvma_linux *mm, uint64_t addr, uint32_t *role);

/* Writes the next VMA of the walk from below, whole, to `vma`. False at the end. O(log n). */
bool kvma_linux_next(const struct kvma_linux *mm, struct kvma_walk *walk, struct kvma_vma *vma);

/* Writes the next VMA of the walk from above, whole, to `vma`. False at the end. O(log n). */
bool kvma_linux_prev(const struct kvma_linux *mm, struct kvma_walk *walk, struct kvma_vma *vma);

/*
 * Writes the next gap of the walk from below to `gap`: the part of a free range that lies in the
 * walk. False at the end. O(log n).
 */
bool kvma_linux_next_gap(const struct kvma_linux *mm,
                         struct kvma_walk *walk,
                         struct kvma_range *gap);

/* == Counting == */

/* Memory in use, in bytes, as `/proc/PID/status` counts it. */
struct kvma_linux_usage {
    /* All mappings (`VmSize`). */
    uint64_t total;
    /* Locked memory (`VmLck`). */
    uint64_t locked;
    /* Private writable mappings (`VmData`). */
    uint64_t data;
    /* Stacks (`VmStk`). */
    uint64_t stack;
    /* Code (`VmExe` and `VmLib`). */
    uint64_t exec;
    /* Mappings made with `MAP_SHARED`. */
    uint64_t shared;
    /* Memory that is charged. */
    uint64_t committed;
};

/* Writes what is in use to `usage`. */
kvma_status kvma_linux_get_usage(const struct kvma_linux *mm, struct kvma_linux_usage *usage);

/* Returns the number of VMAs (`map_count`). */
size_t kvma_linux_map_count(const struct kvma_linux *mm);

/* == Text == */

/* Takes `len` bytes of text and answers whether it wants more. */
typedef bool (*kvma_write_fn)(void *udata, const char *text, size_t len);

/*
 * Writes `/proc/PID/maps`, byte for byte as Linux does, in parts to `write`. `KVMA_STOPPED` if
 * that wants no more.
 */
kvma_status kvma_linux_maps(const struct kvma_linux *mm, kvma_write_fn write, void *udata);

/*
 * Returns the flag of Linux' `vm_flags` that smaps calls by these two letters, such as "gd"; 0 if
 * there is none.
 */
uint64_t kvma_linux_vm_flag(const char *two);

/*
 * Writes `vm_flags` as smaps does, each mnemonic followed by one space. `KVMA_STOPPED` if `write`
 * wants no more.
 */
kvma_status kvma_linux_vm_flags_text(uint64_t vm_flags, kvma_write_fn write, void *udata);

/*
 * Reads the `VmFlags:` line of a `/proc/PID/smaps` file, `len` bytes, and writes the flags to
 * `vm_flags`. `KVMA_BAD_ARGUMENT` for another line, or a flag that Linux does not have.
 */
kvma_status kvma_maps_parse_vm_flags(const char *start, size_t len, uint64_t *vm_flags);

/*
 * Writes the name of such a call and why it is not served. `KVMA_BAD_ARGUMENT` for all other
 * numbers, `KVMA_STOPPED` if `write` wants no more.
 */
kvma_status kvma_linux_unserved_text(uint32_t number, kvma_write_fn write, void *udata);

/* == Checking == */

/*
 * Checks every invariant, and the counts against the VMAs: `KVMA_OK`, or `KVMA_INTERNAL`. For
 * tests.
 */
kvma_status kvma_linux_check(const struct kvma_linux *mm);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KVMA_LINUX_H */
