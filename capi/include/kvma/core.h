/*
 * kvma/core.h: the map of VMAs.
 * Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate or header.outline, then
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
 *
 * In the order of a life cycle:
 *
 *     Version
 *     What calls answer
 *     Memory
 *     VMAs and their attributes
 *     User data
 *     Hooks
 *     Making a map and freeing it
 *     Updates: several changes, one flush, nothing slow under the caller's lock
 *     Mapping
 *     Claims: a range held without being mapped
 *     Finding
 *     Walking
 *     Changing attributes
 *     Changing user data
 *     Splitting and merging by hand
 *     Moving
 *     Unmapping
 *     Forking and restoring
 *     Taking over what is mapped already
 *     Checking
 *     What a kernel provides
 */

#ifndef KVMA_CORE_H
#define KVMA_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define KVMA_NORETURN __attribute__((noreturn))
#else
#define KVMA_NORETURN
#endif

#ifdef __cplusplus
extern "C" {
#endif


/* == Version == */

/* The version of this header, as kvma_version() has that of the library. */
#define KVMA_VERSION_MAJOR 0
#define KVMA_VERSION_MINOR 1
#define KVMA_VERSION_PATCH 0
#define KVMA_VERSION \
    (KVMA_VERSION_MAJOR * 1000000 + KVMA_VERSION_MINOR * 1000 + KVMA_VERSION_PATCH)

/*
 * Returns the version of the library that the program runs with, as `KVMA_VERSION` has that of the
 * header: 1000000 times the major number, 1000 times the minor number, and the patch number. While
 * the major number is 0, libraries of different minor versions do not fit each other.
 */
uint32_t kvma_version(void);

/* == What calls answer == */

enum kvma_status_code {
    /* Success. */
    KVMA_OK = 0,
    /* The allocator had no memory to give. */
    KVMA_OUT_OF_MEMORY = 1,
    /* No free range of that length and alignment lies in the window. */
    KVMA_NO_SPACE = 2,
    /*
     * An address, length, alignment or offset is not a multiple of the page size, or a page size or
     * alignment is not a power of two.
     */
    KVMA_UNALIGNED = 3,
    /* The length is zero. */
    KVMA_ZERO_LENGTH = 4,
    /* The range wraps around, or reaches beyond the address space. */
    KVMA_OUT_OF_RANGE = 5,
    /* The range is in use, or a part of it is. */
    KVMA_OVERLAP = 6,
    /* The range has a gap, or nothing is mapped there. */
    KVMA_NOT_MAPPED = 7,
    /* A VMA would be split below its split granularity. */
    KVMA_SPLIT_REFUSED = 8,
    /* No two VMAs meet at this address. */
    KVMA_NOT_ADJACENT = 9,
    /* The VMAs differ in protection, flags, user bits or user data. */
    KVMA_ATTRIBUTES_DIFFER = 10,
    /* The VMAs are backed by different objects, or their offsets are not contiguous. */
    KVMA_BACKING_DIFFERS = 11,
    /* A claim holds the range, or a part of it. */
    KVMA_CLAIMED = 12,
    /* The claim is gone: something was mapped over it at a fixed address. */
    KVMA_CLAIM_LOST = 13,
    /* The map is not empty, and has to be. */
    KVMA_NOT_EMPTY = 14,
    /* The two maps cover different ranges, or have pages of different sizes. */
    KVMA_SPACE_MISMATCH = 15,
    /* The two maps are one and the same. */
    KVMA_SAME_SPACE = 16,
    /* Memory would be writable and executable, at once or one after the other. */
    KVMA_WRITE_XOR_EXEC = 17,
    /* The two handles have different allocators. */
    KVMA_FOREIGN_MEMORY = 18,
    /* The handle is in use, by another thread or by the call whose callback made this one. */
    KVMA_BUSY = 19,
    /* A pointer is NULL that must not be. */
    KVMA_NULL_POINTER = 20,
    /* An argument is none of its `KVMA_…` constants. */
    KVMA_BAD_ARGUMENT = 21,
    /* A callback asked to stop. */
    KVMA_STOPPED = 22,
    /* This library has a bug. The handle cannot be used or freed from here on. */
    KVMA_INTERNAL = 23,
    /* Another memory slot lies in the range. */
    KVMA_SLOT_IN_THE_WAY = 24,
    /* The memory behind the slot is the hypervisor's. */
    KVMA_HOST_MEMORY = 25,
    /* A slot shows the memory that is to be kept from the guest. */
    KVMA_SLOT_SHOWS_IT = 26,
    /* The slot's number is taken, or there is none left. */
    KVMA_SLOT_NUMBER_TAKEN = 27,
    /* There is no slot with this number. */
    KVMA_NO_SLOT = 28,
    /* The range is not all of a slot, or leaves it. */
    KVMA_SLOT_NOT_WHOLE = 29,
    /* A part of the range is not in the state that the operation begins with. */
    KVMA_WRONG_STATE = 30,
    /* Too many slots would show the same memory. */
    KVMA_TOO_MANY_ALIASES = 31
};

/*
 * The answer of a call: `KVMA_OK`, a positive `KVMA_…` code, or, where a callback of the kernel's
 * refused, the callback's errno as a negative number. A call that does not answer `KVMA_OK` has
 * changed nothing, except where its comment says otherwise.
 */
typedef int32_t kvma_status;

/* Describes a status in a few English words. Never NULL; the string is the library's own. */
const char *kvma_strerror(kvma_status status);

/*
 * Returns the errno (a positive Linux error number) that the matching POSIX call gives: `ENOMEM`
 * for a gap under mprotect(2), `EEXIST` for an overlap, the callback's own where one refused. 0
 * for `KVMA_OK`.
 */
int32_t kvma_errno(kvma_status status);

/* == Memory == */

/*
 * An allocator. Both functions are needed. NULL where an allocator is asked for means
 * `aligned_alloc` and `free` of the C library; a library built for kernels has none, and answers
 * `KVMA_NULL_POINTER`.
 *
 * The table is copied; `ctx` must live as long as what was made with it. Two tables with the same
 * functions and `ctx` are the same allocator.
 */
struct kvma_allocator {
    /* The size of this table in bytes. Later versions of it may have more fields at its end. */
    size_t size;
    /*
     * Returns `size` bytes at a multiple of `align`, or NULL if there is no memory. `align` is a
     * power of two of at most 64, and `size` a multiple of it. Memory that is not aligned so is
     * given back at once and counts as none.
     */
    void *(*alloc)(void *ctx, size_t size, size_t align);
    /* Takes back what `alloc` returned, with the same numbers. */
    void (*free)(void *ctx, void *memory, size_t size, size_t align);
    /* Passed to both. */
    void *ctx;
};

/* == VMAs and their attributes == */

enum kvma_flag {
    /* Pages may be read. */
    KVMA_READ = 1,
    /* Pages may be written. */
    KVMA_WRITE = 2,
    /* Pages may be executed. */
    KVMA_EXEC = 4,
    /* Writes are seen by everybody who maps the same object. */
    KVMA_SHARED = (1 << 3),
    /* The VMA is a stack: a fault below may extend it downwards. */
    KVMA_GROWS_DOWN = (1 << 4),
    /* Pages stay in memory. */
    KVMA_LOCKED = (1 << 5),
    /* The VMA never merges with a neighbour. */
    KVMA_NO_MERGE = (1 << 7),
    /*
     * Memory type of frame buffers: writes are combined, reads are not cached. None of the three
     * types is ordinary memory, cached and written back.
     */
    KVMA_WRITE_COMBINING = (1 << 8),
    /* Memory type: not cached, ordered as ordinary memory. */
    KVMA_UNCACHED = (2 << 8),
    /* Memory type of device registers: not cached, not reordered, not speculated. */
    KVMA_DEVICE = (3 << 8),
    /*
     * The VMA is never split. Of the split granularities, `KVMA_SPLIT_…`, a VMA has one or none;
     * with none it may be split at every page.
     */
    KVMA_SPLIT_NEVER = (3 << 10),
    /* The VMA may be split at multiples of 64 KiB only. */
    KVMA_SPLIT_64K = (4 << 10),
    /* The VMA may be split at multiples of 512 KiB only. */
    KVMA_SPLIT_512K = (8 << 10),
    /* The VMA may be split at multiples of 1 MiB only. */
    KVMA_SPLIT_1M = (9 << 10),
    /* The VMA may be split at multiples of 2 MiB only. */
    KVMA_SPLIT_2M = (1 << 10),
    /* The VMA may be split at multiples of 4 MiB only. */
    KVMA_SPLIT_4M = (10 << 10),
    /* The VMA may be split at multiples of 8 MiB only. */
    KVMA_SPLIT_8M = (11 << 10),
    /* The VMA may be split at multiples of 16 MiB only. */
    KVMA_SPLIT_16M = (12 << 10),
    /* The VMA may be split at multiples of 32 MiB only. */
    KVMA_SPLIT_32M = (5 << 10),
    /* The VMA may be split at multiples of 256 MiB only. */
    KVMA_SPLIT_256M = (13 << 10),
    /* The VMA may be split at multiples of 512 MiB only. */
    KVMA_SPLIT_512M = (6 << 10),
    /* The VMA may be split at multiples of 1 GiB only. */
    KVMA_SPLIT_1G = (2 << 10),
    /* The VMA may be split at multiples of 2 GiB only. */
    KVMA_SPLIT_2G = (14 << 10),
    /* The VMA may be split at multiples of 16 GiB only. */
    KVMA_SPLIT_16G = (7 << 10),
    /* The VMA may be split at multiples of 512 GiB only. */
    KVMA_SPLIT_512G = (15 << 10),
    /* The lowest of sixteen flags that are the kernel's own. */
    KVMA_USER_FLAG = (1 << 16)
};

enum kvma_user_bit {
    /* In `user_bits`: only the addresses are taken, no memory, until `kvma_vm_commit`. */
    KVMA_UNCOMMITTED = (1 << 0),
    /* In `user_bits`: a stack (`MAP_STACK`). */
    KVMA_STACK = (1 << 1),
    /* In `user_bits`: left out of core dumps (`MADV_DONTDUMP`). */
    KVMA_NO_CORE_DUMP = (1 << 2),
    /* In `user_bits`: will be read in order (`MADV_SEQUENTIAL`). */
    KVMA_SEQUENTIAL = (1 << 3),
    /* In `user_bits`: will be read at random (`MADV_RANDOM`). */
    KVMA_RANDOM = (1 << 4),
    /* In `user_bits`: may be writable now and executable later, or both at once. */
    KVMA_JIT = (1 << 5),
    /*
     * In `user_bits`: page tables are populated when memory is mapped or committed
     * (`MAP_POPULATE`).
     */
    KVMA_POPULATE = (1 << 6),
    /* In `user_bits`: no swap space is set aside (`MAP_NORESERVE`). */
    KVMA_NO_RESERVE = (1 << 7),
    /* In `user_bits`: huge pages are welcome where they fit (`MADV_HUGEPAGE`). */
    KVMA_TRANSPARENT_HUGE = (1 << 8)
};

/* A range of addresses. */
struct kvma_range {
    /* The first byte. */
    uint64_t start;
    /* The last byte. The one behind it may be 2^64. */
    uint64_t last;
    /* The length in bytes; 0 stands for 2^64. */
    uint64_t len;
};

/*
 * The attributes of a VMA. All zero: anonymous memory without access. Two neighbours merge only if
 * all of them are equal and the offsets contiguous.
 */
struct kvma_attrs {
    /* `KVMA_READ` and the like. */
    uint32_t flags;
    /* `true` if there is an object (a file, shared memory, a device) behind the VMA. */
    bool backed;
    /* 64 bits that are the kernel's own. */
    uint64_t user_bits;
    /* The number of the object, if the VMA is `backed`. */
    uint64_t object;
    /* The offset in the object at which the VMA begins, in bytes, if the VMA is `backed`. */
    uint64_t offset;
};

/* The part of a VMA that a change concerns; often all of it. */
struct kvma_piece {
    /* The range in which the part lies. */
    struct kvma_range range;
    /* The attributes of the part: the offset is where the part begins. */
    struct kvma_attrs attrs;
    /* The user data. In `prepare`, and where the VMA lives on, it is that of the whole VMA. */
    void *data;
};

/* A VMA as it was when it was asked for. */
struct kvma_vma {
    /* The range in which it lies. */
    struct kvma_range range;
    /* The free bytes right below it, down to the next VMA or the start of the space. */
    uint64_t gap_before;
    /* Its attributes. */
    struct kvma_attrs attrs;
    /* The user data. */
    void *data;
};

/* == User data == */

/*
 * Says what becomes of the user data, the pointers that the kernel hangs on VMAs, when VMAs are
 * split, merged, copied, moved and removed. Every function may be NULL. All but `drop` run in the
 * middle of a change: they cannot fail, and calls into the map are answered `KVMA_BUSY`.
 *
 * A kernel that keeps a list of the VMAs which show an object (a reverse map) edits it in the
 * hooks `on_map` and `on_unmap` and in `split`, `merge` and `relocate`. `drop` is too late for
 * that.
 *
 * The table is not copied. It must live as long as the maps that use it, and must not change.
 */
struct kvma_data_ops {
    /* The size of this table in bytes. Later versions of it may have more fields at its end. */
    size_t size;
    /*
     * Called when the VMA over `range` is split: `data` keeps what lies below `at`, and the
     * pointer for the rest is returned. NULL: both have the same pointer.
     */
    void *(*split)(void *udata, void *data, const struct kvma_range *range, uint64_t at);
    /*
     * Answers whether two neighbours may merge as far as the kernel is concerned. Their attributes
     * are equal and their offsets contiguous. NULL: they may if the pointers are equal.
     */
    bool (*can_merge)(void *udata,
                      void *left,
                      const struct kvma_range *left_range,
                      void *right,
                      const struct kvma_range *right_range);
    /*
     * Called when two neighbours merge: `left` takes in what `right` stands for. `right` is
     * dropped later, as the pointer of a VMA that is gone. NULL: nothing is to be done.
     */
    void (*merge)(void *udata,
                  void *left,
                  const struct kvma_range *left_range,
                  void *right,
                  const struct kvma_range *right_range);
    /*
     * Returns the pointer for a copy of the VMA over `range`, in another map or elsewhere in this
     * one. NULL: the same pointer.
     */
    void *(*fork)(void *udata, void *data, const struct kvma_range *range);
    /*
     * Returns the pointer for a VMA whose pages move from the range `from` to the address `to`.
     * Called before the VMA meets its new neighbours. NULL: the same pointer.
     */
    void *(*relocate)(void *udata, void *data, const struct kvma_range *from, uint64_t to);
    /*
     * Called for the pointer of a VMA that is gone, when the map can be used again and after the
     * TLB flush. Something else may be mapped in its place by then. NULL: nothing is to be done.
     */
    void (*drop)(void *udata, void *data);
    /* Passed to all of them. */
    void *udata;
};

/* == Hooks == */

enum kvma_event_kind {
    /* The piece is going to be mapped. */
    KVMA_EVENT_MAP = 0,
    /* The piece is going to be unmapped. */
    KVMA_EVENT_UNMAP = 1,
    /* The piece is going to have new attributes. */
    KVMA_EVENT_PROTECT = 2,
    /* The piece's contents are going to move. */
    KVMA_EVENT_RELOCATE = 3
};

/* A step of a change that is about to happen. */
struct kvma_event {
    /* `KVMA_EVENT_MAP` or the like. */
    uint32_t kind;
    /*
     * The piece that the step concerns: with the new attributes where it is protected, at its old
     * place where it is relocated.
     */
    struct kvma_piece piece;
    /* The attributes before, where the piece is protected; else those of the piece. */
    struct kvma_attrs old;
    /* The new address, where the piece is relocated; else 0. */
    uint64_t to;
};

/*
 * Answers whether memory can be executed after a step that could not be before, so that the
 * instruction cache must be made to see what was written there. Writes where to `range` (NULL: not
 * wanted).
 */
bool kvma_event_gains_exec(const struct kvma_event *event, struct kvma_range *range);

enum kvma_advice {
    /* Advice: the pages will be needed soon (`MADV_WILLNEED`). */
    KVMA_ADVISE_WILL_NEED = 0,
    /*
     * Advice: what the pages hold is not needed; the next access finds zeros or the object
     * (`MADV_DONTNEED`).
     */
    KVMA_ADVISE_DONT_NEED = 1,
    /* Advice: the pages may go when memory runs short (`MADV_FREE`). */
    KVMA_ADVISE_FREE = 2,
    /* Advice: populate the page tables now (`MADV_POPULATE_READ`). */
    KVMA_ADVISE_POPULATE = 3,
    /* Advice: write back what was changed, and wait (`MS_SYNC`). */
    KVMA_ADVISE_FLUSH = 4,
    /* Advice: start to write back what was changed (`MS_ASYNC`). */
    KVMA_ADVISE_FLUSH_ASYNC = 5,
    /* Advice: make the instruction cache see what was written. */
    KVMA_ADVISE_FLUSH_INSTRUCTIONS = 6
};

/*
 * The callbacks through which the kernel edits its page tables in step with the map. Every
 * function may be NULL, as may a pointer to the whole table.
 *
 *     prepare ... prepare     may refuse: then cancel ... cancel, and nothing has happened
 *     -- the map changes --   from here on nothing can fail
 *     on_unmap, on_protect, on_relocate, on_map     for each piece of a VMA, ascending
 *     flush_begin             the kernel's lock is still held: start the TLB flush, do not wait
 *     -- kvma_update_finish, or the end of a call without an update --
 *     flush_wait              wait for the other processors
 *     release ... release     removed VMAs in order: frames may be reused from here on
 *
 * Down to `flush_begin` the map is in use: calls into it are answered `KVMA_BUSY`. From
 * `flush_wait` on it can be read, and after `kvma_update_finish` also changed.
 *
 * The table is copied; what `udata` points to must live as long as the call or the update.
 */
struct kvma_hooks {
    /* The size of this table in bytes. Later versions of it may have more fields at its end. */
    size_t size;
    /*
     * Gets ready for a step: page-table pages, limits. Returns 0, or an errno of either sign to
     * refuse the change; the call then answers with that errno as a negative status.
     */
    int32_t (*prepare)(void *udata, const struct kvma_event *event);
    /* Undoes a `prepare` that succeeded, because a later one refused. */
    void (*cancel)(void *udata, const struct kvma_event *event);
    /* The piece is mapped from now on. Page tables may be filled at once or on demand. */
    void (*on_map)(void *udata, const struct kvma_piece *piece);
    /* The piece is no longer mapped: its page-table entries must go. */
    void (*on_unmap)(void *udata, const struct kvma_piece *piece);
    /* The piece has new attributes: entries that allow more than they do must be narrowed. */
    void (*on_protect)(void *udata, const struct kvma_piece *piece, const struct kvma_attrs *old);
    /* The piece's contents move: entries go from its range to the range of that length at `to`. */
    void (*on_relocate)(void *udata, const struct kvma_piece *piece, uint64_t to);
    /*
     * There is advice about a piece, `KVMA_ADVISE_WILL_NEED` or the like. It changes nothing in
     * the map.
     */
    void (*on_advise)(void *udata, const struct kvma_piece *piece, uint32_t advice);
    /*
     * Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others. May
     * be called several times before one `flush_wait`.
     */
    void (*flush_begin)(void *udata);
    /* Waits until the flushes that have begun have ended everywhere. May sleep. */
    void (*flush_wait)(void *udata);
    /*
     * Hears of a VMA, or a part of one, that was removed, after `flush_wait` and in the order of
     * removal: its frames may be freed, its file notified. Then its user data is dropped.
     */
    void (*release)(void *udata, const struct kvma_piece *removed);
    /*
     * For `kvma_guest_fetch_dirty` alone: makes the next write to each page of `range` noticed.
     * Entries lose the right to write, or their dirty bits are cleared where the processor logs.
     * `flush_begin` follows.
     */
    void (*watch_writes)(void *udata, const struct kvma_range *range);
    /* Passed to all of them. */
    void *udata;
    /*
     * `true` to refuse, with `KVMA_WRITE_XOR_EXEC`, what lets code be written and run: a VMA that
     * is writable and executable at once, and one that becomes executable while it is writable,
     * unless it is marked `KVMA_JIT`. Asked before `prepare`.
     */
    bool write_xor_exec;
};

/* == Making a map and freeing it == */

/*
 * The VMAs of one address space. Opaque.
 *
 * It has no lock. The caller keeps calls that change it apart from all others; where that fails,
 * the later call is answered `KVMA_BUSY`.
 */
struct kvma_vm;

/*
 * Makes an empty map over the bytes from `first` to `last`, whole pages of `page_size` bytes (any
 * power of two), and writes its handle to `vm`; NULL if the call fails. `allocator` may be NULL:
 * malloc's memory. `ops` may be NULL: user data are plain pointers, and neighbours merge if they
 * are equal.
 */
kvma_status kvma_vm_new(struct kvma_vm **vm,
                        uint64_t first,
                        uint64_t last,
                        uint64_t page_size,
                        const struct kvma_allocator *allocator,
                        const struct kvma_data_ops *ops);

/*
 * Frees a map: drops the user data and gives all memory back. Calls no hooks; for that, call
 * `kvma_vm_clear` first. NULL is fine.
 *
 * All updates of the map have been finished before. `KVMA_BUSY` if the map is in use, as by the
 * call whose callback calls this, or is being freed already; then it is not freed by this call.
 */
kvma_status kvma_vm_free(struct kvma_vm *vm);

/* == Updates: several changes, one flush, nothing slow under the caller's lock == */

/*
 * Carries nodes and hooks into one or several calls on a map, and out of them the work that must
 * wait until the caller's lock is released: the rest of the TLB flush, then dropping what was
 * removed, then giving memory back. Opaque.
 */
struct kvma_update;

/*
 * Begins an update of `vm` with `hooks` (NULL: none) and `nodes` preallocated nodes, so that calls
 * which need no more do not allocate; a call on a range needs at most 3. Writes the handle to
 * `update`; NULL if the call fails. Call it before taking the lock that guards the map.
 */
kvma_status kvma_update_new(struct kvma_update **update,
                            const struct kvma_vm *vm,
                            const struct kvma_hooks *hooks,
                            size_t nodes);

/* Preallocates nodes until the update has `nodes`. */
kvma_status kvma_update_preallocate(struct kvma_update *update, size_t nodes);

/* Returns the number of VMAs and parts of VMAs that the update has removed so far. */
size_t kvma_update_removed(const struct kvma_update *update);

/*
 * Does the work that is owed and frees the update: waits for the flush, drops what was removed,
 * gives memory back. Call it after releasing the lock. NULL is fine. `KVMA_BUSY` if the update is
 * in use or is being finished already.
 */
kvma_status kvma_update_finish(struct kvma_update *update);

/* == Mapping == */

enum kvma_search_flag {
    /* Searches from the top: the highest free range is taken. */
    KVMA_TOP_DOWN = 1,
    /* `hint` counts. */
    KVMA_HINTED = 2,
    /*
     * A random free range is taken, which follows from `random`: every start that fits is as likely
     * as every other.
     */
    KVMA_RANDOMISED = 4
};

/* Conditions on a free range, in bytes. All zero: the lowest free range anywhere. */
struct kvma_search {
    /* `KVMA_TOP_DOWN`, `KVMA_HINTED` and `KVMA_RANDOMISED`, or 0. */
    uint32_t flags;
    /* The lowest address that may be used. */
    uint64_t first;
    /* The last byte that may be used. 0: there is no end. */
    uint64_t last;
    /* The start is a multiple of this power of two. 0: of the page size. */
    uint64_t align;
    /* The start is at this offset modulo `align`, such as a file's offset for huge pages. */
    uint64_t align_offset;
    /*
     * With `KVMA_HINTED`: the start, rounded down to a page as mmap(2) does, if the range there is
     * free and in the window, whatever `align` says.
     */
    uint64_t hint;
    /* The number of bytes that stay free on both sides. */
    uint64_t guard;
    /*
     * With `KVMA_RANDOMISED`: another number for each search, from a source that programs cannot
     * predict.
     */
    uint64_t random;
};

enum kvma_placement_kind {
    /* Placement: wherever `search` finds a free range. */
    KVMA_ANYWHERE = 0,
    /* Placement: at `addr`, replacing what is mapped there (`MAP_FIXED`). */
    KVMA_FIXED = 1,
    /* Placement: at `addr` if the range is free (`MAP_FIXED_NOREPLACE`). */
    KVMA_FIXED_NOREPLACE = 2
};

/* The place of a new VMA. All zero: the lowest free range. */
struct kvma_placement {
    /* `KVMA_ANYWHERE`, `KVMA_FIXED` or `KVMA_FIXED_NOREPLACE`. */
    uint32_t kind;
    /* The address, for the two fixed placements. */
    uint64_t addr;
    /* The search, for `KVMA_ANYWHERE`. */
    struct kvma_search search;
};

enum kvma_merge {
    /* A new VMA merges with both neighbours where it can. */
    KVMA_MERGE_BOTH = 0,
    /* A new VMA merges with the neighbour below only. */
    KVMA_MERGE_LEFT = 1,
    /* A new VMA merges with the neighbour above only. */
    KVMA_MERGE_RIGHT = 2,
    /* A new VMA does not merge. */
    KVMA_MERGE_NEVER = 3
};

/*
 * A request for a new VMA. All zero but `len`: anonymous memory without access in the lowest free
 * range.
 */
struct kvma_request {
    /* The place of the VMA. */
    struct kvma_placement placement;
    /* The length in bytes, a multiple of the page size. */
    uint64_t len;
    /* The attributes of the VMA. */
    struct kvma_attrs attrs;
    /* `KVMA_MERGE_BOTH` or the like. */
    uint32_t merge;
    /* The user data. It is the map's if the call succeeds, and else still the caller's. */
    void *data;
};

/*
 * Maps what `request` asks for, and writes the address to `addr` (NULL: not wanted). The new VMA
 * merges with its neighbours where attributes, offsets and user data allow. O(log n + VMAs
 * replaced).
 */
kvma_status kvma_vm_map(struct kvma_vm *vm,
                        const struct kvma_request *request,
                        const struct kvma_hooks *hooks,
                        uint64_t *addr);

/* Does what `kvma_vm_map` does, within an update. */
kvma_status kvma_update_map(struct kvma_update *update,
                            struct kvma_vm *vm,
                            const struct kvma_request *request,
                            uint64_t *addr);

/* Makes the user data of a VMA for the range that was chosen for it. */
typedef void *(*kvma_make_data_fn)(void *udata, const struct kvma_range *range);

/*
 * Maps as `kvma_vm_map` does, with user data that `make` makes once the range is known, in place
 * of the request's. If the call fails after that, the data is dropped.
 */
kvma_status kvma_vm_map_with(struct kvma_vm *vm,
                             const struct kvma_request *request,
                             kvma_make_data_fn make,
                             void *udata,
                             const struct kvma_hooks *hooks,
                             uint64_t *addr);

/* Does what `kvma_vm_map_with` does, within an update. */
kvma_status kvma_update_map_with(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 const struct kvma_request *request,
                                 kvma_make_data_fn make,
                                 void *udata,
                                 uint64_t *addr);

/*
 * Finds the free range that a mapping of `len` bytes would get and writes its address to `addr`.
 * `search` may be NULL: the lowest free range. `KVMA_NO_SPACE` if there is none. O(log n).
 */
kvma_status kvma_vm_find_gap(const struct kvma_vm *vm,
                             uint64_t len,
                             const struct kvma_search *search,
                             uint64_t *addr);

/* == Claims: a range held without being mapped == */

/*
 * A claim on a range. Opaque. In the end it is given to `kvma_vm_release_claim`, committed or not.
 */
struct kvma_claim;

/*
 * Chooses a range of `len` bytes and claims it, for work that is done without the lock. When that
 * went well, `kvma_vm_commit_claim` makes a VMA of it; `kvma_vm_release_claim` comes last in any
 * case. Writes the handle to `claim`; NULL if the call fails.
 *
 * A claim is not a VMA: lookups and iterators do not show it, and operations on ranges pass over
 * it. But nobody else is given the range. A mapping at a fixed address takes the whole claim away.
 * What `KVMA_FIXED` replaces is unmapped now, and the hooks hear of it. O(log n + VMAs replaced).
 */
kvma_status kvma_vm_claim(struct kvma_vm *vm,
                          const struct kvma_placement *placement,
                          uint64_t len,
                          const struct kvma_hooks *hooks,
                          struct kvma_claim **claim);

/* Does what `kvma_vm_claim` does, within an update. */
kvma_status kvma_update_claim(struct kvma_update *update,
                              struct kvma_vm *vm,
                              const struct kvma_placement *placement,
                              uint64_t len,
                              struct kvma_claim **claim);

/* Writes the range of a claim to `range`. */
kvma_status kvma_claim_range(const struct kvma_claim *claim, struct kvma_range *range);

/*
 * Makes a VMA of a claimed range, with `attrs` and the user data `data`. It merges with its
 * neighbours as `merge` says. `KVMA_CLAIM_LOST` if a mapping at a fixed address has taken the
 * claim away, or it was committed already. If the call fails, nothing has changed, and `data` is
 * still the caller's. Needs no memory. O(log n).
 */
kvma_status kvma_vm_commit_claim(struct kvma_vm *vm,
                                 const struct kvma_claim *claim,
                                 const struct kvma_attrs *attrs,
                                 void *data,
                                 uint32_t merge,
                                 const struct kvma_hooks *hooks);

/* Does what `kvma_vm_commit_claim` does, within an update. */
kvma_status kvma_update_commit_claim(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     const struct kvma_claim *claim,
                                     const struct kvma_attrs *attrs,
                                     void *data,
                                     uint32_t merge);

/*
 * Gives up what is still claimed, if anything is, and frees the claim. Needs no memory and calls
 * no hook. NULL is fine. If the call fails, the claim is not freed. O(log n).
 */
kvma_status kvma_vm_release_claim(struct kvma_vm *vm, struct kvma_claim *claim);

/* Does what `kvma_vm_release_claim` does, within an update. */
kvma_status kvma_update_release_claim(struct kvma_update *update,
                                      struct kvma_vm *vm,
                                      struct kvma_claim *claim);

/* == Finding == */

/*
 * Finds the VMA that holds the byte at `addr` and writes it to `vma` (NULL: not wanted).
 * `KVMA_NOT_MAPPED` if there is none. O(log n).
 */
kvma_status kvma_vm_find(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

/*
 * Finds the VMA that holds the byte at `addr`, or else the next one above (Linux' `find_vma`).
 * Otherwise as `kvma_vm_find`.
 */
kvma_status kvma_vm_find_from(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

/* Finds the last VMA that begins below the page of `addr`. Otherwise as `kvma_vm_find`. */
kvma_status kvma_vm_find_before(const struct kvma_vm *vm, uint64_t addr, struct kvma_vma *vma);

/*
 * Answers whether `len` bytes from `start` lie in the space and are free, also of claims. O(log
 * n).
 */
bool kvma_vm_is_free(const struct kvma_vm *vm, uint64_t start, uint64_t len);

/* Answers whether `len` bytes from `start` lie in the space and are all mapped. O(log n + VMAs). */
bool kvma_vm_covers(const struct kvma_vm *vm, uint64_t start, uint64_t len);

/* Returns the number of VMAs. Claims are none. O(1). */
size_t kvma_vm_len(const struct kvma_vm *vm);

/* Answers whether nothing is mapped. O(1). */
bool kvma_vm_is_empty(const struct kvma_vm *vm);

/* Returns the number of bytes in all VMAs together; 2^64 is `UINT64_MAX`. O(1). */
uint64_t kvma_vm_mapped_bytes(const struct kvma_vm *vm);

/* Returns the number of bytes in a page. */
uint64_t kvma_vm_page_size(const struct kvma_vm *vm);

/* Writes the range that the map covers to `range`. */
kvma_status kvma_vm_space(const struct kvma_vm *vm, struct kvma_range *range);

/* == Walking == */

/*
 * The rest of a walk over a range of bytes, which gets smaller from both ends. It refers to no
 * map, so the map may change between two steps; the walk then goes on in what is there.
 */
struct kvma_walk {
    /* The first byte that is left. */
    uint64_t first;
    /* The last byte that is left. */
    uint64_t last;
    /* `true` if nothing is left. */
    bool done;
};

/*
 * Returns a walk over what shares a byte with `len` bytes from `start`. For the whole map: 0 and
 * `UINT64_MAX`.
 */
struct kvma_walk kvma_walk_over(uint64_t start, uint64_t len);

/* Writes the next VMA of the walk from below, whole, to `vma`. False at the end. O(log n). */
bool kvma_vm_next(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_vma *vma);

/* Writes the next VMA of the walk from above, whole, to `vma`. False at the end. O(log n). */
bool kvma_vm_prev(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_vma *vma);

/*
 * Writes the next piece of the walk from below to `piece`: the part of a VMA that lies in the
 * walk, with its own offset in the object. False at the end. O(log n).
 */
bool kvma_vm_next_piece(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_piece *piece);

/* Writes the next piece of the walk from above to `piece`. Otherwise as `kvma_vm_next_piece`. */
bool kvma_vm_prev_piece(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_piece *piece);

/*
 * Writes the next gap of the walk from below to `gap`: the part of a free range that lies in the
 * walk. False at the end. O(log n).
 */
bool kvma_vm_next_gap(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_range *gap);

/* Writes the next gap of the walk from above to `gap`. Otherwise as `kvma_vm_next_gap`. */
bool kvma_vm_prev_gap(const struct kvma_vm *vm, struct kvma_walk *walk, struct kvma_range *gap);

/* == Changing attributes == */

/*
 * Changes the protection of `len` bytes from `start` to `prot` (`KVMA_READ`, `KVMA_WRITE`,
 * `KVMA_EXEC`). All of them must be mapped, as for mprotect(2): else `KVMA_NOT_MAPPED`. O(log n +
 * VMAs).
 */
kvma_status kvma_vm_protect(struct kvma_vm *vm,
                            uint64_t start,
                            uint64_t len,
                            uint32_t prot,
                            const struct kvma_hooks *hooks);

/* Does what `kvma_vm_protect` does, within an update. */
kvma_status kvma_update_protect(struct kvma_update *update,
                                struct kvma_vm *vm,
                                uint64_t start,
                                uint64_t len,
                                uint32_t prot);

/*
 * Returns the attributes that a VMA is to have. Gets the whole VMA and answers for all of it; is
 * called several times, and must always return the same for the same VMA.
 */
typedef struct kvma_attrs (*kvma_attrs_fn)(void *udata, const struct kvma_vma *vma);

/*
 * Gives each VMA in `len` bytes from `start` the attributes that `attrs` returns for it. Gaps are
 * passed over. VMAs whose attributes stay are neither split nor merged. O(log n + VMAs).
 */
kvma_status kvma_vm_update_attrs(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 kvma_attrs_fn attrs,
                                 void *udata,
                                 const struct kvma_hooks *hooks);

/* Does what `kvma_vm_update_attrs` does, within an update. */
kvma_status kvma_update_attrs(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t start,
                              uint64_t len,
                              kvma_attrs_fn attrs,
                              void *udata);

/* Keeps the pages of `len` bytes from `start` in memory, as mlock(2). All must be mapped. */
kvma_status kvma_vm_lock_pages(struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               const struct kvma_hooks *hooks);

/* Does what `kvma_vm_lock_pages` does, within an update. */
kvma_status kvma_update_lock_pages(struct kvma_update *update,
                                   struct kvma_vm *vm,
                                   uint64_t start,
                                   uint64_t len);

/*
 * Lets the pages of `len` bytes from `start` go when memory is short, as munlock(2). All must be
 * mapped.
 */
kvma_status kvma_vm_unlock_pages(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 const struct kvma_hooks *hooks);

/* Does what `kvma_vm_unlock_pages` does, within an update. */
kvma_status kvma_update_unlock_pages(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     uint64_t start,
                                     uint64_t len);

/*
 * Clears the flags `clear` in the `user_bits` of `len` bytes from `start`, then sets the flags
 * `set`: access patterns, core dumps, as madvise(2). All must be mapped. `KVMA_UNCOMMITTED` is
 * left alone.
 */
kvma_status kvma_vm_change_flags(struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len,
                                 uint64_t set,
                                 uint64_t clear,
                                 const struct kvma_hooks *hooks);

/* Does what `kvma_vm_change_flags` does, within an update. */
kvma_status kvma_update_change_flags(struct kvma_update *update,
                                     struct kvma_vm *vm,
                                     uint64_t start,
                                     uint64_t len,
                                     uint64_t set,
                                     uint64_t clear);

/*
 * Commits what is reserved (`KVMA_UNCOMMITTED`) in `len` bytes from `start`: makes it usable, with
 * the protection `prot`. All must be mapped; parts that are committed already stay as they are.
 * `KVMA_WRITE_XOR_EXEC` if memory would be writable and executable at once without `KVMA_JIT`.
 */
kvma_status kvma_vm_commit(struct kvma_vm *vm,
                           uint64_t start,
                           uint64_t len,
                           uint32_t prot,
                           const struct kvma_hooks *hooks);

/* Does what `kvma_vm_commit` does, within an update. */
kvma_status kvma_update_commit(struct kvma_update *update,
                               struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               uint32_t prot);

/*
 * Gives the memory of `len` bytes from `start` back and keeps the addresses. All must be mapped.
 * The hooks hear `on_protect`, with `KVMA_UNCOMMITTED` in the new `user_bits` only.
 */
kvma_status kvma_vm_decommit(struct kvma_vm *vm,
                             uint64_t start,
                             uint64_t len,
                             const struct kvma_hooks *hooks);

/* Does what `kvma_vm_decommit` does, within an update. */
kvma_status kvma_update_decommit(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t start,
                                 uint64_t len);

/*
 * Tells the hooks' `on_advise` about each piece in `len` bytes from `start`, ascending; nothing
 * changes in the map. All must be mapped: else `KVMA_NOT_MAPPED`. `advice` is
 * `KVMA_ADVISE_WILL_NEED` or the like; advice that takes pages away is followed by a flush. O(log
 * n + VMAs).
 */
kvma_status kvma_vm_advise(struct kvma_vm *vm,
                           uint64_t start,
                           uint64_t len,
                           uint32_t advice,
                           const struct kvma_hooks *hooks);

/* Does what `kvma_vm_advise` does, within an update. */
kvma_status kvma_update_advise(struct kvma_update *update,
                               struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               uint32_t advice);

/* Changes the page tables of a VMA. */
typedef void (*kvma_vma_fn)(void *udata, const struct kvma_vma *vma);

/*
 * Makes a change of page tables that no VMA shows: pages become copy-on-write, pages are given
 * back. Calls `edit` with each VMA that shares a byte with `len` bytes from `start`, whole and
 * ascending. A flush follows if there was any. O(log n + VMAs).
 */
kvma_status kvma_vm_invalidate(struct kvma_vm *vm,
                               uint64_t start,
                               uint64_t len,
                               kvma_vma_fn edit,
                               void *udata,
                               const struct kvma_hooks *hooks);

/* Does what `kvma_vm_invalidate` does, within an update. */
kvma_status kvma_update_invalidate(struct kvma_update *update,
                                   struct kvma_vm *vm,
                                   uint64_t start,
                                   uint64_t len,
                                   kvma_vma_fn edit,
                                   void *udata);

/* == Changing user data == */

/* Returns the pointer that takes the place of `data`. */
typedef void *(*kvma_data_fn)(void *udata, void *data);

/*
 * Replaces the user data of the VMA that holds `addr` by what `change` returns. Splits and merges
 * nothing, and calls no hook and none of the `kvma_data_ops`. `KVMA_NOT_MAPPED` if there is no
 * VMA. O(log n).
 */
kvma_status kvma_vm_update_data(struct kvma_vm *vm,
                                uint64_t addr,
                                kvma_data_fn change,
                                void *udata);

/*
 * Replaces the user data of the VMA that holds `addr` by `data`, and writes what was there to
 * `old` (NULL: not wanted). Otherwise as `kvma_vm_update_data`.
 */
kvma_status kvma_vm_set_data(struct kvma_vm *vm, uint64_t addr, void *data, void **old);

/* == Splitting and merging by hand == */

/*
 * Splits the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a gap.
 * Calls no hook. O(log n).
 */
kvma_status kvma_vm_split_at(struct kvma_vm *vm, uint64_t addr);

/* Does what `kvma_vm_split_at` does, with a node of an update. */
kvma_status kvma_update_split_at(struct kvma_update *update, struct kvma_vm *vm, uint64_t addr);

/*
 * Merges the two VMAs that meet at `addr`, or answers why that is impossible: `KVMA_NOT_ADJACENT`,
 * `KVMA_ATTRIBUTES_DIFFER`, `KVMA_BACKING_DIFFERS`. Calls no hook and needs no memory. O(log n).
 */
kvma_status kvma_vm_merge_at(struct kvma_vm *vm, uint64_t addr);

/* Does what `kvma_vm_merge_at` does, within an update, which keeps the node and the user data. */
kvma_status kvma_update_merge_at(struct kvma_update *update, struct kvma_vm *vm, uint64_t addr);

/* Answers what `kvma_vm_merge_at` would, and changes nothing. O(log n). */
kvma_status kvma_vm_can_merge_at(const struct kvma_vm *vm, uint64_t addr);

/* == Moving == */

enum kvma_source {
    /* The range that VMAs move from is unmapped. */
    KVMA_SOURCE_UNMAP = 0,
    /* The range that VMAs move from stays mapped, without its contents (`MREMAP_DONTUNMAP`). */
    KVMA_SOURCE_KEEP = 1
};

/*
 * Moves the VMAs in `len` bytes from `from` to `to`, contents and all; gaps stay gaps. The target
 * must be free and must not overlap the source, of which no part may be claimed (`KVMA_CLAIMED`).
 * `source` is `KVMA_SOURCE_UNMAP` or `KVMA_SOURCE_KEEP`, and `merge` is `KVMA_MERGE_BOTH` or the
 * like. O((VMAs + 1) log n).
 */
kvma_status kvma_vm_relocate(struct kvma_vm *vm,
                             uint64_t from,
                             uint64_t len,
                             uint64_t to,
                             uint32_t source,
                             uint32_t merge,
                             const struct kvma_hooks *hooks);

/* Does what `kvma_vm_relocate` does, within an update. */
kvma_status kvma_update_relocate(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t from,
                                 uint64_t len,
                                 uint64_t to,
                                 uint32_t source,
                                 uint32_t merge);

/*
 * Returns the attributes that a piece is to have where it comes to lie, from those that it has.
 * Called several times, and must always return the same for the same attributes.
 */
typedef struct kvma_attrs (*kvma_remap_fn)(void *udata, const struct kvma_attrs *attrs);

/*
 * Moves the VMAs in `len` bytes from `from` to `to` without their page-table entries: hooks hear
 * that the pieces are unmapped where they were and mapped where they come to lie, as one change
 * with one flush. For what is mapped again on demand, such as the memory slots of a guest.
 *
 * The target may overlap the source, of which no part may be claimed (`KVMA_CLAIMED`); what is
 * left of the target must be free. Gaps stay gaps. `attrs` gives each piece its attributes (NULL:
 * they stay as they are). `merge` is `KVMA_MERGE_BOTH` or the like. O((VMAs + 1) log n).
 */
kvma_status kvma_vm_remap(struct kvma_vm *vm,
                          uint64_t from,
                          uint64_t len,
                          uint64_t to,
                          kvma_remap_fn attrs,
                          void *udata,
                          uint32_t merge,
                          const struct kvma_hooks *hooks);

/* Does what `kvma_vm_remap` does, within an update. */
kvma_status kvma_update_remap(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t from,
                              uint64_t len,
                              uint64_t to,
                              kvma_remap_fn attrs,
                              void *udata,
                              uint32_t merge);

/*
 * Moves the VMAs in `len` bytes from `from` into the map `target`, to `to`, with their attributes,
 * offsets and user data; the functions for the data stay those of `vm`. Gaps stay gaps. The range
 * in the target must be free, and its pages of the same size. Each map has hooks of its own:
 * `on_unmap` here, `on_map` there. `merge` is `KVMA_MERGE_BOTH` or the like. `KVMA_SAME_SPACE`
 * if both maps are the same. O((VMAs + 1) log n).
 */
kvma_status kvma_vm_transfer(struct kvma_vm *vm,
                             uint64_t from,
                             uint64_t len,
                             const struct kvma_hooks *hooks,
                             struct kvma_vm *target,
                             uint64_t to,
                             uint32_t merge,
                             const struct kvma_hooks *target_hooks);

/* Does what `kvma_vm_transfer` does, within an update of each map. */
kvma_status kvma_update_transfer(struct kvma_update *update,
                                 struct kvma_vm *vm,
                                 uint64_t from,
                                 uint64_t len,
                                 struct kvma_update *target_update,
                                 struct kvma_vm *target,
                                 uint64_t to,
                                 uint32_t merge);

/* == Unmapping == */

/*
 * Unmaps `len` bytes from `start`; gaps in the range are fine, as for munmap(2). Writes the number
 * of bytes unmapped to `bytes` (NULL: not wanted); 2^64 is `UINT64_MAX`. Claims stay.
 * O(log n + VMAs removed).
 */
kvma_status kvma_vm_unmap(struct kvma_vm *vm,
                          uint64_t start,
                          uint64_t len,
                          const struct kvma_hooks *hooks,
                          uint64_t *bytes);

/* Does what `kvma_vm_unmap` does, within an update. */
kvma_status kvma_update_unmap(struct kvma_update *update,
                              struct kvma_vm *vm,
                              uint64_t start,
                              uint64_t len,
                              uint64_t *bytes);

/* Unmaps everything, as `kvma_vm_unmap`, but needs no memory. */
kvma_status kvma_vm_clear(struct kvma_vm *vm, const struct kvma_hooks *hooks, uint64_t *bytes);

/* Does what `kvma_vm_clear` does, within an update. */
kvma_status kvma_update_clear(struct kvma_update *update, struct kvma_vm *vm, uint64_t *bytes);

/* Answers whether a VMA stays. Must always answer the same for the same VMA. */
typedef bool (*kvma_keep_fn)(void *udata, const struct kvma_vma *vma);

/*
 * Unmaps every VMA that `keep` does not keep, each whole, and writes the number of bytes unmapped
 * to `bytes` (NULL: not wanted). Needs no memory. O(n + removed log n).
 */
kvma_status kvma_vm_retain(struct kvma_vm *vm,
                           kvma_keep_fn keep,
                           void *udata,
                           const struct kvma_hooks *hooks,
                           uint64_t *bytes);

/* Does what `kvma_vm_retain` does, within an update. */
kvma_status kvma_update_retain(struct kvma_update *update,
                               struct kvma_vm *vm,
                               kvma_keep_fn keep,
                               void *udata,
                               uint64_t *bytes);

/* == Forking and restoring == */

/* The VMA is left out of the copy. */
#define KVMA_FORK_SKIP 1

/*
 * Makes the attributes and the user data of a VMA's copy. `attrs` and `data` hold the VMA's own
 * when it is called. Returns 0, `KVMA_FORK_SKIP`, or an errno as a negative number, which ends the
 * fork; the call then answers with that number.
 *
 * The data is the copy's if this returns 0: a kernel that counts takes a reference here, since the
 * `fork` of its `kvma_data_ops` is not called. It is dropped if a later VMA ends the fork.
 */
typedef int32_t (*kvma_copy_fn)(void *udata,
                                const struct kvma_vma *vma,
                                struct kvma_attrs *attrs,
                                void **data);

/*
 * Copies the map, VMA by VMA, into a new one of the same space, and writes its handle to `child`;
 * NULL if the call fails. VMAs keep their boundaries; claims are not copied. The child's memory
 * comes from `allocator` (NULL: malloc's), and its user data has the same `kvma_data_ops`.
 *
 * `copy` decides on each VMA, and may make its pages copy-on-write as it goes (NULL: all VMAs are
 * copied as they are, and their data is `fork`ed). All memory is taken before the first VMA is
 * copied. O(n log n).
 */
kvma_status kvma_vm_fork(const struct kvma_vm *vm,
                         const struct kvma_allocator *allocator,
                         kvma_copy_fn copy,
                         void *udata,
                         struct kvma_vm **child);

/*
 * Does what `kvma_vm_fork` does, for a map whose program runs on: `flush_begin` and `flush_wait`
 * follow what `copy` does to page tables, also where it ends the fork.
 */
kvma_status kvma_vm_fork_live(struct kvma_vm *vm,
                              const struct kvma_allocator *allocator,
                              kvma_copy_fn copy,
                              void *udata,
                              const struct kvma_hooks *hooks,
                              struct kvma_vm **child);

/* Does what `kvma_vm_fork_live` does, within an update. */
kvma_status kvma_update_fork_live(struct kvma_update *update,
                                  struct kvma_vm *vm,
                                  const struct kvma_allocator *allocator,
                                  kvma_copy_fn copy,
                                  void *udata,
                                  struct kvma_vm **child);

/*
 * Answers whether a VMA of now and a saved one, which overlap, are of the same mapping, so that
 * the pages which are there may stay. Must always answer the same for the same VMAs.
 */
typedef bool (*kvma_same_fn)(void *udata, const struct kvma_vma *now, const struct kvma_vma *saved);

/*
 * Makes `vm` equal to `saved`, an earlier `kvma_vm_fork` of it: boundaries and attributes of all
 * VMAs, including those that were unmapped or replaced since. What comes back has a `fork` of the
 * saved user data, and what stays keeps its own. `same` may be NULL: mappings are the same where
 * the user data is the same pointer.
 *
 * The hooks hear what is to be undone: first `on_unmap` for what must go, then `on_protect` for
 * what stays with other attributes, then `on_map` for what comes back, each ascending. The
 * contents are the kernel's. `KVMA_SPACE_MISMATCH` if the maps cover different ranges or differ in
 * page size, `KVMA_CLAIMED` if a claim lies where a VMA is to come back. O(n + m + steps log n)
 * for n VMAs now and m saved ones.
 */
kvma_status kvma_vm_restore(struct kvma_vm *vm,
                            const struct kvma_vm *saved,
                            kvma_same_fn same,
                            void *udata,
                            const struct kvma_hooks *hooks);

/* Does what `kvma_vm_restore` does, within an update. */
kvma_status kvma_update_restore(struct kvma_update *update,
                                struct kvma_vm *vm,
                                const struct kvma_vm *saved,
                                kvma_same_fn same,
                                void *udata);

/* Writes the number of nodes that `kvma_vm_restore` may need to `nodes`. O(n + m). */
kvma_status kvma_vm_restore_cost(const struct kvma_vm *vm,
                                 const struct kvma_vm *saved,
                                 kvma_same_fn same,
                                 void *udata,
                                 size_t *nodes);

/* == Taking over what is mapped already == */

/* A line of a `/proc/PID/maps` file. */
struct kvma_maps_line {
    /* The first byte. */
    uint64_t start;
    /* The first byte behind. */
    uint64_t end;
    /* `KVMA_READ`, `KVMA_WRITE`, `KVMA_EXEC` and `KVMA_SHARED`. */
    uint32_t flags;
    /* The major device number. */
    uint32_t major;
    /* The minor device number. */
    uint32_t minor;
    /* The inode number; 0 without a file. */
    uint64_t inode;
    /* The offset in the file, in bytes. */
    uint64_t offset;
    /* The path or name as written, not terminated. It points into the text. */
    const char *name;
    /* The length of the name. */
    size_t name_len;
};

/*
 * Reads one line of a `/proc/PID/maps` file, `len` bytes without its newline, and writes it to
 * `line`. `KVMA_BAD_ARGUMENT` for what Linux does not write.
 */
kvma_status kvma_maps_parse_line(const char *start, size_t len, struct kvma_maps_line *line);

/*
 * Returns the user data for a line. May change `attrs`, which hold what the line says: protection,
 * `KVMA_SHARED`, and where there is an inode the object of that number.
 */
typedef void *(*kvma_adopt_fn)(void *udata,
                               const struct kvma_maps_line *line,
                               struct kvma_attrs *attrs);

/*
 * Takes over a range that is mapped already: as `kvma_vm_map`, but without hooks, and with
 * `KVMA_FIXED` nothing is replaced (`KVMA_OVERLAP`).
 */
kvma_status kvma_vm_adopt(struct kvma_vm *vm, const struct kvma_request *request, uint64_t *addr);

/*
 * Fills the empty map with the VMAs of a `/proc/PID/maps` file, `text`, boundary for boundary and
 * without hooks. VMAs wholly outside the space are passed over. `adopt` may be NULL: attributes as
 * the lines say, and no user data.
 *
 * If the call fails the map is still empty, `adopt` has not been called, and `line` (NULL: not
 * wanted) is the number of the line that is wrong, counted from 1, or 0 if it was none.
 * `KVMA_NOT_EMPTY` for a map that is not empty.
 */
kvma_status kvma_vm_adopt_maps(struct kvma_vm *vm,
                               const char *text,
                               kvma_adopt_fn adopt,
                               void *udata,
                               size_t *line);

/* == Checking == */

/*
 * Checks every invariant of the structure from scratch: `KVMA_OK`, or `KVMA_INTERNAL`. For tests,
 * and for kernels that suspect memory corruption. O(n log n).
 */
kvma_status kvma_vm_check(const struct kvma_vm *vm);

/* == What a kernel provides == */

/*
 * Reports a bug in kvma, at line `line` of the file whose name has `len` bytes, and must
 * not return. Not the library's: a kernel that links the library without std defines it.
 */
extern void kvma_panic(const char *file, size_t len, uint32_t line) KVMA_NORETURN;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KVMA_CORE_H */
