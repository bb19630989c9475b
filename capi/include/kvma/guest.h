/*
 * kvma/guest.h: guest-physical memory, for hypervisors.
 * Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate or header.outline, then
 *     KVMA_BLESS=1 cargo test -p kvma-capi --test header
 *
 * In the order of a life cycle:
 *
 *     Kinds, states, backings
 *     Making a guest and freeing it
 *     Updates: several changes, one flush, nothing slow under the caller's lock
 *     Memory slots
 *     Parts of slots
 *     Faults and addresses
 *     Finding and walking
 *     The other direction: what the host's memory is used for
 *     Dirty logging
 *     Checking
 */

#ifndef KVMA_GUEST_H
#define KVMA_GUEST_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif


/* == Kinds, states, backings == */

enum kvma_guest_kind {
    /* Memory of the guest's own. */
    KVMA_GUEST_RAM = 0,
    /* Memory that the guest cannot write to, such as firmware. */
    KVMA_GUEST_ROM = 1,
    /* Registers of a device that the hypervisor emulates: every access traps. */
    KVMA_GUEST_MMIO = 2,
    /* Registers or memory of a real device, which the guest reaches itself. */
    KVMA_GUEST_PASSTHROUGH = 3,
    /* Nothing may be here. An access is an error. */
    KVMA_GUEST_RESERVED = 4,
    /* Memory that other guests or the hypervisor see too. */
    KVMA_GUEST_SHARED = 5
};

enum kvma_guest_state {
    /* The guest cannot write here, whatever the kind. */
    KVMA_GUEST_READ_ONLY = (1 << 6),
    /* Writes are noted in a bitmap. Pages are mapped one by one. */
    KVMA_GUEST_LOG_DIRTY = (1 << 7),
    /* The pages are the guest's alone; the hypervisor cannot read them. */
    KVMA_GUEST_PRIVATE = (1 << 8),
    /* The block is not plugged in: the slot keeps its addresses, but there is no memory. */
    KVMA_GUEST_UNPLUGGED = (1 << 9),
    /* The contents have yet to arrive from where the guest came from. */
    KVMA_GUEST_AWAITED = (1 << 10)
};

enum kvma_guest_backing_kind {
    /* Nothing: reserved ranges. */
    KVMA_GUEST_BACKING_NONE = 0,
    /* Contiguous memory of the host: `offset` is its address. */
    KVMA_GUEST_BACKING_HOST = 1,
    /* Frames that the hypervisor takes from the source `id` when they are needed. */
    KVMA_GUEST_BACKING_FRAMES = 2,
    /* The file `id`. */
    KVMA_GUEST_BACKING_FILE = 3,
    /* The registers of the device `id`. */
    KVMA_GUEST_BACKING_DEVICE = 4
};

/* The source of guest memory, as the hypervisor names it. All zero: none. */
struct kvma_guest_backing {
    /* `KVMA_GUEST_BACKING_HOST` or the like. */
    uint32_t kind;
    /* The number of the source of frames, the file or the device; else 0. */
    uint64_t id;
    /* The address, or the offset, of the first byte. */
    uint64_t offset;
};

/*
 * A range of guest-physical memory of which every page is treated alike, or a part of one. A copy.
 */
struct kvma_guest_region {
    /* The range of guest-physical addresses. */
    struct kvma_range range;
    /* The number of the slot that it belongs to. */
    uint32_t slot;
    /* `KVMA_GUEST_RAM` or the like. */
    uint32_t kind;
    /* The states that are special: `KVMA_GUEST_LOG_DIRTY` and the like. */
    uint32_t state;
    /*
     * The accesses that the guest may make now, `KVMA_READ` and the like: none where every access
     * traps.
     */
    uint32_t prot;
    /* The memory type: `KVMA_WRITE_COMBINING`, `KVMA_UNCACHED`, `KVMA_DEVICE`, or 0. */
    uint32_t mem_type;
    /* The size in bytes of the largest leaf that the backing allows; 0: there is no limit. */
    uint64_t max_leaf;
    /* The backing of the first byte. */
    struct kvma_guest_backing backing;
};

/*
 * Writes the region that a hook is told of to `region`. With `old`, the attributes before a
 * change, that is what the region was; NULL: what it is.
 */
kvma_status kvma_guest_region_of_piece(const struct kvma_piece *piece,
                                       const struct kvma_attrs *old,
                                       struct kvma_guest_region *region);

/* == Making a guest and freeing it == */

/*
 * The guest-physical memory of one guest. Opaque. It has no lock, as `kvma_vm` has none.
 *
 * It is built of memory slots, each with a number, a kind, a backing and a pointer of the
 * hypervisor's. What is done to a part of a slot divides it into regions, which merge again when
 * they have become alike. Hooks are told of regions: see `kvma_guest_region_of_piece`.
 */
struct kvma_guest;

/*
 * Makes a guest without memory, whose guest-physical addresses are the bytes from `first` to
 * `last`: whole pages of `page_size` bytes, those of the second stage. Writes its handle to
 * `guest`; NULL if the call fails. `allocator` may be NULL: malloc's memory.
 */
kvma_status kvma_guest_new(struct kvma_guest **guest,
                           uint64_t first,
                           uint64_t last,
                           uint64_t page_size,
                           const struct kvma_allocator *allocator);

/*
 * Frees a guest. Calls no hooks, and does not tell of the slots' pointers; for that, call
 * `kvma_guest_clear` first. NULL is fine. All updates of the guest have been finished before.
 * `KVMA_BUSY` if it is in use, or is being freed already.
 */
kvma_status kvma_guest_free(struct kvma_guest *guest);

/* == Updates: several changes, one flush, nothing slow under the caller's lock == */

/*
 * Carries nodes and hooks into one or several changes of a guest, which are one change with one
 * flush, and out of them the work that must wait until the caller's lock is released: the rest of
 * the TLB flush, and giving memory back. Opaque.
 */
struct kvma_guest_update;

/*
 * Begins an update of `guest` with `hooks` (NULL: none; the table is copied) and `nodes`
 * preallocated nodes, so that calls which need no more do not allocate: a new slot needs 3, a
 * change of a part of one at most 2. Writes the handle to `update`; NULL if the call fails. Call
 * it before taking the lock that guards the guest.
 */
kvma_status kvma_guest_update_new(struct kvma_guest_update **update,
                                  const struct kvma_guest *guest,
                                  const struct kvma_hooks *hooks,
                                  size_t nodes);

/*
 * Does the work that is owed and frees the update: waits for the flush, gives memory back. Call it
 * after releasing the lock: pages that were taken from the guest may be used otherwise from then
 * on. NULL is fine. `KVMA_BUSY` if the update is in use or is being finished already.
 */
kvma_status kvma_guest_update_finish(struct kvma_guest_update *update);

/* == Memory slots == */

/*
 * A request for a new memory slot. All zero but `len` and `backing`: RAM at address 0 that the
 * guest may use in every way.
 */
struct kvma_guest_slot_request {
    /* The guest-physical address of the first byte. */
    uint64_t start;
    /* The length in bytes. */
    uint64_t len;
    /* `KVMA_GUEST_RAM` or the like. */
    uint32_t kind;
    /*
     * The states that the whole slot begins with, such as `KVMA_GUEST_UNPLUGGED` for memory that
     * comes later, block by block.
     */
    uint32_t state;
    /* The source of the memory. */
    struct kvma_guest_backing backing;
    /*
     * The accesses that the guest may make, `KVMA_READ` and the like; 0: all, as far as the kind
     * goes.
     */
    uint32_t prot;
    /*
     * The memory type (`KVMA_DEVICE` or the like) and the split granularity (`KVMA_SPLIT_2M` or
     * the like), or 0.
     */
    uint32_t flags;
    /*
     * The size in bytes of the largest leaf that the backing allows, such as the size of the
     * host's huge pages: a power of two. 0: there is no limit.
     */
    uint64_t max_leaf;
    /* `true` for a slot that has to have the number `number`; else it gets the lowest free one. */
    bool numbered;
    /* The number, if the slot is `numbered`. */
    uint32_t number;
    /* The hypervisor's pointer. It comes back when the slot is removed. */
    void *data;
};

/*
 * Adds a memory slot, and writes its number to `slot` (NULL: not wanted). O(log n). Needs up to 3
 * nodes. Hooks: `prepare`, `on_map`.
 *
 * `KVMA_SLOT_IN_THE_WAY` if another slot lies there, `KVMA_SLOT_SHOWS_IT` if a slot that keeps
 * memory to the hypervisor shows it: `slot` is the number of that one then. `KVMA_HOST_MEMORY`,
 * `KVMA_SLOT_NUMBER_TAKEN`, `KVMA_TOO_MANY_ALIASES`; `KVMA_BACKING_DIFFERS` if the backing does
 * not suit the kind.
 */
kvma_status kvma_guest_add_slot(struct kvma_guest_update *update,
                                struct kvma_guest *guest,
                                const struct kvma_guest_slot_request *request,
                                uint32_t *slot);

/* Moves a memory slot, or changes its flags, or both. */
struct kvma_guest_slot_change {
    /* `true` to move the slot to `to`. */
    bool moves;
    /* The guest-physical address to move to, if the slot `moves`. */
    uint64_t to;
    /* `KVMA_GUEST_READ_ONLY` and `KVMA_GUEST_LOG_DIRTY`, as far as they are to be set. */
    uint32_t set;
    /* `KVMA_GUEST_READ_ONLY` and `KVMA_GUEST_LOG_DIRTY`, as far as they are to be cleared. */
    uint32_t clear;
};

/*
 * Moves a memory slot, or changes its flags, or both, as one change with one flush. The new place
 * may overlap the old one; what is special about parts of the slot moves with them. O(regions of
 * the slot x log n). Needs no node.
 *
 * Hooks of a move: `prepare` for each region, gone and come; `on_unmap` for each, `flush_begin`,
 * `on_map` for each. Without a move: `prepare` and `on_protect` for each region that changes,
 * `flush_begin` if there was any. `KVMA_NO_SLOT`; `KVMA_SLOT_IN_THE_WAY`, with its number in
 * `in_the_way` (NULL: not wanted).
 */
kvma_status kvma_guest_modify_slot(struct kvma_guest_update *update,
                                   struct kvma_guest *guest,
                                   uint32_t slot,
                                   const struct kvma_guest_slot_change *change,
                                   uint32_t *in_the_way);

/*
 * Removes a memory slot, all of it, and writes what it was to `region` and its pointer to `data`
 * (each NULL: not wanted). O(log n + regions). Needs no node. Hooks: `prepare` and `on_unmap` for
 * each region, then `flush_begin`. `KVMA_NO_SLOT`.
 */
kvma_status kvma_guest_remove_slot(struct kvma_guest_update *update,
                                   struct kvma_guest *guest,
                                   uint32_t slot,
                                   struct kvma_guest_region *region,
                                   void **data);

/*
 * Removes the memory slot whose range is exactly `len` bytes from `gpa`. Otherwise as
 * `kvma_guest_remove_slot`. `KVMA_NOT_MAPPED` if nothing is there, `KVMA_SLOT_NOT_WHOLE` if the
 * range is a part of a slot, or holds more than one.
 */
kvma_status kvma_guest_remove_range(struct kvma_guest_update *update,
                                    struct kvma_guest *guest,
                                    uint64_t gpa,
                                    uint64_t len,
                                    struct kvma_guest_region *region,
                                    void **data);

/*
 * Hears of a slot that has been removed: what it was, and its pointer. Must not call into the
 * guest.
 */
typedef void (*kvma_guest_take_fn)(void *udata, const struct kvma_guest_region *region, void *data);

/*
 * Removes all slots, and tells `take` (NULL: nobody) of each, by address. What is kept from guests
 * stays so. O(n log n). Needs no node. Hooks: `prepare` and `on_unmap` for each region, then
 * `flush_begin` if there was any.
 */
kvma_status kvma_guest_clear(struct kvma_guest_update *update,
                             struct kvma_guest *guest,
                             kvma_guest_take_fn take,
                             void *udata);

/* == Parts of slots == */

/*
 * Plugs in blocks of a slot that were unplugged (virtio-mem, ACPI hot-plug): `len` bytes from
 * `gpa`, whole pages. `KVMA_NO_SLOT`; `KVMA_SLOT_NOT_WHOLE` if the range leaves the slot,
 * `KVMA_WRONG_STATE` if a part of it is plugged in.
 *
 * Needs at most 2 nodes. Hooks: `prepare` and `on_protect` for each region that changes, then
 * `flush_begin` if there was any. The slot that a refusal names is written to `named` (NULL: not
 * wanted).
 */
kvma_status kvma_guest_plug(struct kvma_guest_update *update,
                            struct kvma_guest *guest,
                            uint32_t slot,
                            uint64_t gpa,
                            uint64_t len,
                            uint32_t *named);

/*
 * Unplugs blocks of a slot: `on_protect` tells that nothing is allowed there any more. Frames may
 * be used otherwise when the update is finished. Otherwise as `kvma_guest_plug`.
 */
kvma_status kvma_guest_unplug(struct kvma_guest_update *update,
                              struct kvma_guest *guest,
                              uint32_t slot,
                              uint64_t gpa,
                              uint64_t len,
                              uint32_t *named);

/*
 * Writes the bytes of a slot that are plugged in to `bytes`. `KVMA_NO_SLOT`. O(log n + regions of
 * the slot).
 */
kvma_status kvma_guest_plugged_bytes(const struct kvma_guest *guest,
                                     uint32_t slot,
                                     uint64_t *bytes);

/*
 * Says that the contents of memory have yet to arrive (post-copy migration): accesses are answered
 * with `KVMA_GUEST_FAULT_FETCH`. `KVMA_NOT_MAPPED` if there is a gap, `KVMA_WRONG_STATE` if a part
 * is no memory.
 *
 * Needs at most 2 nodes. Hooks: `prepare` and `on_protect` for each region that changes, then
 * `flush_begin` if there was any. The slot that a refusal names is written to `named` (NULL: not
 * wanted).
 */
kvma_status kvma_guest_await_contents(struct kvma_guest_update *update,
                                      struct kvma_guest *guest,
                                      uint64_t gpa,
                                      uint64_t len,
                                      uint32_t *named);

/*
 * Says that the contents have arrived. What has arrived already is passed over, so that pages may
 * be pushed and fetched at once. Otherwise as `kvma_guest_await_contents`.
 */
kvma_status kvma_guest_arrived(struct kvma_guest_update *update,
                               struct kvma_guest *guest,
                               uint64_t gpa,
                               uint64_t len,
                               uint32_t *named);

/*
 * Makes memory private (confidential guests). What is private is passed over. The range may lie in
 * several slots. Otherwise as `kvma_guest_await_contents`.
 */
kvma_status kvma_guest_make_private(struct kvma_guest_update *update,
                                    struct kvma_guest *guest,
                                    uint64_t gpa,
                                    uint64_t len,
                                    uint32_t *named);

/* Makes memory shared with the hypervisor again. Otherwise as `kvma_guest_make_private`. */
kvma_status kvma_guest_make_shared(struct kvma_guest_update *update,
                                   struct kvma_guest *guest,
                                   uint64_t gpa,
                                   uint64_t len,
                                   uint32_t *named);

/*
 * Takes pages that the guest has given up (a balloon, free page reporting). The map stays as it
 * is: the next access finds fresh pages. Needs no node. Hooks: `on_advise` with
 * `KVMA_ADVISE_DONT_NEED` for each region, then `flush_begin`. Otherwise as
 * `kvma_guest_await_contents`.
 */
kvma_status kvma_guest_balloon(struct kvma_guest_update *update,
                               struct kvma_guest *guest,
                               uint64_t gpa,
                               uint64_t len,
                               uint32_t *named);

/* == Faults and addresses == */

enum kvma_guest_page {
    /* The guest knows no private pages. */
    KVMA_GUEST_ANY_PAGE = 0,
    /* The access is to a page that the guest takes for private. */
    KVMA_GUEST_PRIVATE_PAGE = 1,
    /* The access is to a page that the guest takes for shared with the hypervisor. */
    KVMA_GUEST_SHARED_PAGE = 2
};

enum kvma_guest_fault_action {
    /* Make a page-table entry: `leaf_size` bytes from `gpa`, at `backing`, that allow `prot`. */
    KVMA_GUEST_FAULT_MAP = 0,
    /* Emulate the access to a device: `backing` is its key and the offset in its registers. */
    KVMA_GUEST_FAULT_EMULATE = 1,
    /*
     * Fetch the contents of the page at `gpa` from where the guest came from into `backing`, then
     * call `kvma_guest_arrived`.
     */
    KVMA_GUEST_FAULT_FETCH = 2,
    /*
     * The guest takes the page at `gpa` for private and it is shared, or the other way round: ask
     * whoever decides, then call `kvma_guest_make_private` or `kvma_guest_make_shared`.
     */
    KVMA_GUEST_FAULT_CONVERT = 3,
    /* The guest has made an error: no slot is there. */
    KVMA_GUEST_FAULT_NOTHING_THERE = 4,
    /* The guest has made an error: the slot is a reserved one. */
    KVMA_GUEST_FAULT_RESERVED = 5,
    /* The guest has made an error: the block is not plugged in. */
    KVMA_GUEST_FAULT_UNPLUGGED = 6,
    /*
     * The guest has made an error: a store to memory that can only be read. The hypervisor may take
     * it for a command to a flash chip.
     */
    KVMA_GUEST_FAULT_READ_ONLY = 7,
    /* The guest has made an error: the slot does not allow accesses of this sort. */
    KVMA_GUEST_FAULT_DENIED = 8
};

/* The answer to a fault. */
struct kvma_guest_fault_answer {
    /* The thing to do: `KVMA_GUEST_FAULT_MAP` or the like. */
    uint32_t action;
    /* The number of the slot, if there is one; else `UINT32_MAX`. */
    uint32_t slot;
    /* The guest-physical address of the leaf or page. */
    uint64_t gpa;
    /*
     * The size of the leaf in bytes: the largest that both sides' alignment, the region and the
     * slot allow. Where writes are noted, a page.
     */
    uint64_t leaf_size;
    /*
     * The accesses that the entry is to allow. Where writes are noted, a store has to fault before
     * it is allowed.
     */
    uint32_t prot;
    /* The memory type of the entry: `KVMA_DEVICE` or the like, or 0. */
    uint32_t mem_type;
    /*
     * `true` if the page must be marked in the dirty bitmap before the entry is written: the guest
     * may write from then on.
     */
    bool dirties;
    /* The backing of the byte at `gpa`, or of the access to a device. */
    struct kvma_guest_backing backing;
};

/*
 * Says what to do about a fault at `gpa`, and writes it to `answer`. `prot` is the access,
 * `KVMA_READ`, `KVMA_WRITE` or `KVMA_EXEC`, to `page`, one of `KVMA_GUEST_ANY_PAGE` and the like.
 * `leaf_sizes` is the sum of the sizes of leaves that the page table can hold, such as
 * `0x1000 + 0x200000 + 0x40000000`; the size of a page is always one. O(log n).
 */
kvma_status kvma_guest_fault(const struct kvma_guest *guest,
                             uint64_t gpa,
                             uint32_t prot,
                             uint32_t page,
                             uint64_t leaf_sizes,
                             struct kvma_guest_fault_answer *answer);

/* The place of a byte of guest-physical memory, and how much more lies behind it. */
struct kvma_guest_translation {
    /* The backing of the byte: with `KVMA_GUEST_BACKING_HOST`, `offset` is the host's address. */
    struct kvma_guest_backing backing;
    /*
     * The number of bytes from this one on that lie together, with the same permissions: what is
     * left of the region, never its size. At least 1; `UINT64_MAX` for 2^64.
     */
    uint64_t remaining;
    /* The accesses that the guest may make. */
    uint32_t prot;
    /* The kind of the region. */
    uint32_t kind;
    /* The number of the slot. */
    uint32_t slot;
};

/*
 * Translates a guest-physical address, if there is memory that the guest can reach: not a trapped
 * device, a reserved range, a block that is not plugged in, or a page that has yet to arrive.
 * `KVMA_NOT_MAPPED` for those. O(log n).
 */
kvma_status kvma_guest_translate(const struct kvma_guest *guest,
                                 uint64_t gpa,
                                 struct kvma_guest_translation *translation);

/*
 * Hears of a block of memory that one leaf can map: `size` bytes from `gpa`, at `backing`. Returns
 * `false` to stop. May look into the guest, and not change it.
 */
typedef bool (*kvma_guest_block_fn)(void *udata,
                                    uint64_t gpa,
                                    uint64_t size,
                                    const struct kvma_guest_backing *backing);

/*
 * Tells `each` of the largest blocks of the memory in `len` bytes from `gpa` that the guest can
 * reach, ascending: for filling page tables ahead. Blocks do not leave the range. `leaf_sizes` is
 * that of `kvma_guest_fault`. `KVMA_STOPPED` if `each` did not want to go on. O(log n), then O(1)
 * for each.
 */
kvma_status kvma_guest_blocks(const struct kvma_guest *guest,
                              uint64_t gpa,
                              uint64_t len,
                              uint64_t leaf_sizes,
                              kvma_guest_block_fn each,
                              void *udata);

/* == Finding and walking == */

/*
 * Writes the region that holds the byte at `gpa` to `region` (NULL: not wanted).
 * `KVMA_NOT_MAPPED` if no slot is there. O(log n).
 */
kvma_status kvma_guest_region_at(const struct kvma_guest *guest,
                                 uint64_t gpa,
                                 struct kvma_guest_region *region);

/*
 * Writes the next region of the walk from below, as far as it lies in the walk, to `region`. False
 * at the end. O(log n).
 */
bool kvma_guest_next_region(const struct kvma_guest *guest,
                            struct kvma_walk *walk,
                            struct kvma_guest_region *region);

/*
 * Writes the next region of the walk from above to `region`. Otherwise as
 * `kvma_guest_next_region`.
 */
bool kvma_guest_prev_region(const struct kvma_guest *guest,
                            struct kvma_walk *walk,
                            struct kvma_guest_region *region);

/*
 * Hears of a slot and its pointer. Returns `false` to stop. May look into the guest, and not
 * change it.
 */
typedef bool (*kvma_guest_slot_fn)(void *udata, const struct kvma_guest_region *region, void *data);

/*
 * Writes a slot, as it was asked for and with what has been changed for all of it since, to
 * `region`, and its pointer to `data` (each NULL: not wanted). `KVMA_NO_SLOT`. O(log n).
 */
kvma_status kvma_guest_slot(const struct kvma_guest *guest,
                            uint32_t slot,
                            struct kvma_guest_region *region,
                            void **data);

/* Tells `each` of all slots, by number. `KVMA_STOPPED` if it did not want to go on. O(n log n). */
kvma_status kvma_guest_slots(const struct kvma_guest *guest, kvma_guest_slot_fn each, void *udata);

/*
 * Exchanges the pointer of a slot, and writes the former one to `former` (NULL: not wanted). Calls
 * no hook. `KVMA_NO_SLOT`. O(log n).
 */
kvma_status kvma_guest_set_slot_data(struct kvma_guest *guest,
                                     uint32_t slot,
                                     void *data,
                                     void **former);

/* Returns the number of slots. O(1). */
size_t kvma_guest_slot_count(const struct kvma_guest *guest);

/*
 * Returns the number of regions: one for each slot, and one more for each part of a slot that
 * differs from what lies before it. O(1).
 */
size_t kvma_guest_region_count(const struct kvma_guest *guest);

/* Returns the number of bytes in a page. */
uint64_t kvma_guest_page_size(const struct kvma_guest *guest);

/* Writes the range of guest-physical addresses to `range`. */
kvma_status kvma_guest_space(const struct kvma_guest *guest, struct kvma_range *range);

/* == The other direction: what the host's memory is used for == */

/*
 * Hears of a part of a slot that shows the memory: where the guest sees it, and the host's address
 * or the offset in the file of its first byte. Returns `false` to stop. May look into the guest,
 * and not change it.
 */
typedef bool (*kvma_guest_use_fn)(void *udata,
                                  uint32_t slot,
                                  const struct kvma_range *range,
                                  uint64_t offset);

/*
 * Tells `each` of the parts of slots that show any of `len` bytes of the host's memory from
 * `addr`, in no order. Whole pages are given, even for parts of them. For a host that takes memory
 * back, moves it, or wants to use it for itself. Slots count as they were added: blocks that are
 * not plugged are in there too. `KVMA_STOPPED` if `each` did not want to go on.
 *
 * O(k log n) and O(1) for each, where k is how many slots show the same memory.
 */
kvma_status kvma_guest_host_uses(const struct kvma_guest *guest,
                                 uint64_t addr,
                                 uint64_t len,
                                 kvma_guest_use_fn each,
                                 void *udata);

/*
 * Tells `each` of the parts of slots that show any of `len` bytes of a file from `offset`, as for
 * files that are truncated. Otherwise as `kvma_guest_host_uses`.
 */
kvma_status kvma_guest_file_uses(const struct kvma_guest *guest,
                                 uint64_t file,
                                 uint64_t offset,
                                 uint64_t len,
                                 kvma_guest_use_fn each,
                                 void *udata);

/*
 * Keeps `len` bytes of the host's memory from `addr` out of the guest: no slot may show any of
 * them from now on. For the hypervisor's own code, data and page tables. O(k log n). Needs 1 node.
 * Calls no hook. `KVMA_SLOT_SHOWS_IT` if a slot shows some of it, with its number in `named`
 * (NULL: not wanted); `KVMA_TOO_MANY_ALIASES`.
 */
kvma_status kvma_guest_keep_from_guest(struct kvma_guest_update *update,
                                       struct kvma_guest *guest,
                                       uint64_t addr,
                                       uint64_t len,
                                       uint32_t *named);

/*
 * Ends what `kvma_guest_keep_from_guest` began with exactly these numbers. `KVMA_NOT_MAPPED` if
 * there was no such call.
 */
kvma_status kvma_guest_leave_to_guest(struct kvma_guest_update *update,
                                      struct kvma_guest *guest,
                                      uint64_t addr,
                                      uint64_t len);

/* == Dirty logging == */

/*
 * One bit for each page of a slot: bit 0 of the first word is the slot's first page. Bits are set
 * by fault handlers on any processor, without a lock, and taken by `kvma_guest_fetch_dirty`.
 */
struct kvma_dirty_bitmap {
    /*
     * The words. While they are in use, they are accessed by these functions only, or atomically.
     */
    size_t *words;
    /* The number of words. */
    size_t count;
    /* The range of the slot. */
    struct kvma_range slot;
    /* The size of a page in bytes. */
    uint64_t page_size;
};

/*
 * Notes a write to the page that holds `gpa`. True if it was not noted yet; false also if the page
 * is not in the slot, or has no bit, or for a bitmap that makes no sense.
 */
bool kvma_dirty_mark(const struct kvma_dirty_bitmap *bitmap, uint64_t gpa);

/*
 * Notes writes to `len` bytes from `gpa`, as far as they lie in the slot: those of devices, and of
 * whoever maps a large leaf for writing. Returns how many pages were not noted yet.
 */
uint64_t kvma_dirty_mark_range(const struct kvma_dirty_bitmap *bitmap, uint64_t gpa, uint64_t len);

/* Answers whether a write to the page that holds `gpa` is noted. */
bool kvma_dirty_is_marked(const struct kvma_dirty_bitmap *bitmap, uint64_t gpa);

/*
 * Takes a chunk of a slot's dirty bits, from the page numbered `first`, a multiple of 64, into
 * `out`, which has `count` words of 64 bits, and has the next writes to those pages noticed.
 * Writes the number of the page to go on with to `next`: 0 at the end of the slot. Bits past the
 * end of the slot are zero.
 *
 * The pages may be copied when the update is finished. Pages that were not written to cost
 * nothing. O(words + log n + regions in the chunk). Needs no node. Hooks: `watch_writes` for each
 * run of pages, `flush_begin` if there was any. `KVMA_NO_SLOT`; `KVMA_WRONG_STATE` if the slot's
 * writes are not noted; `KVMA_OUT_OF_RANGE` if `first` lies behind the slot or the bitmap is too
 * small for it. No bit has been taken then.
 */
kvma_status kvma_guest_fetch_dirty(struct kvma_guest_update *update,
                                   struct kvma_guest *guest,
                                   uint32_t slot,
                                   const struct kvma_dirty_bitmap *bitmap,
                                   uint64_t first,
                                   uint64_t *out,
                                   size_t count,
                                   uint64_t *next);

/* == Checking == */

/*
 * Checks every invariant of the structure from scratch: `KVMA_OK`, or `KVMA_INTERNAL`. For tests.
 * O(n log n).
 */
kvma_status kvma_guest_check(const struct kvma_guest *guest);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KVMA_GUEST_H */
