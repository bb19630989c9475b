/*
 * kvma/libmmap.h: an address space as libmmap has it, of which its headers are made.
 * Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate or header.outline, then
 *     KVMA_BLESS=1 cargo test -p kvma-capi --test header
 *
 * In the order of a life cycle:
 *
 *     What calls answer
 *     What is known of a page
 *     Making a space and freeing it
 *     Mapping and unmapping
 *     Going back to a mark
 */

#ifndef KVMA_LIBMMAP_H
#define KVMA_LIBMMAP_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif


/* == What calls answer == */

enum kvma_space_status {
    /* Success. */
    KVMA_SPACE_OK = 0,
    /* The arguments make no sense, or the range leaves the space. */
    KVMA_SPACE_INVALID = 1,
    /* There is no memory, or no free range that is long enough. Nothing has changed. */
    KVMA_SPACE_NO_MEMORY = 2,
    /* Not all of the range is mapped; the parts that are have been changed. */
    KVMA_SPACE_NOT_MAPPED = 3,
    /* The callback asked to stop. Nothing has changed. */
    KVMA_SPACE_STOPPED = 4
};

/* == What is known of a page == */

/* Facts about a page, in the words of all generations of libmmap. */
struct kvma_space_info {
    /* The protection, as given. */
    int32_t prot;
    /* The flags, as given. */
    int32_t flags;
    /* The file descriptor, as given. Below zero there is no file, and the offset means nothing. */
    int32_t fd;
    /* `true` if the page was there at the last `mark_original`. */
    bool original;
    /* `true` if the file was given as a pointer, `file`. `fd` is then 0, or -1 if that is NULL. */
    bool by_pointer;
    /* The offset in the file of the page that the information is about, in bytes. */
    int64_t offset;
    /*
     * The address of the mapping, which is what was asked for at once, not of the region. 0 in a
     * space that does not keep mappings apart.
     */
    uint64_t base;
    /* The length of the mapping in bytes, or 0. */
    uint64_t len;
    /* The file pointer, as given. 0 unless `by_pointer`. */
    size_t file;
};

/*
 * Hears of a piece that is about to change: its first byte, its length, and what it was. Answers
 * whether to go on.
 */
typedef bool (*kvma_space_fn)(size_t start,
                              size_t len,
                              const struct kvma_space_info *was,
                              void *udata);

/* == Making a space and freeing it == */

/*
 * An address space as libmmap has it. Opaque. Any number of threads may look at it at once, one
 * may change it; the caller keeps them apart. Callbacks may use it, but not free it.
 */
struct kvma_space;

/*
 * Makes a space of `len` bytes (rounded up to whole pages) from `start` (rounded down to a page).
 * NULL if `page_size` is not a power of two, if the space reaches beyond the last address, or
 * without memory.
 */
struct kvma_space *kvma_space_new(size_t start,
                                  size_t len,
                                  size_t page_size,
                                  const struct kvma_allocator *allocator);

/* Copies a space, marks and all. NULL without memory. */
struct kvma_space *kvma_space_copy(const struct kvma_space *space);

/* Frees a space. NULL is fine. A callback that frees the space which calls it changes nothing. */
void kvma_space_free(struct kvma_space *space);

/* Forgets all mappings, and the marks. */
int32_t kvma_space_reset(struct kvma_space *space);

/* == Mapping and unmapping == */

/*
 * Makes `kvma_space_map_any` place at random: every address that fits is as likely as every other.
 * All placements follow from `seed`, which comes from a source that programs cannot predict.
 * `kvma_space_reset` leaves this as it is.
 */
int32_t kvma_space_enable_aslr(struct kvma_space *space, uint64_t seed);

/*
 * Maps at `hint`, if that is not 0 and is free, else in the lowest free range, or in a random one
 * after `kvma_space_enable_aslr`. Returns the address, or `UINTPTR_MAX`. Of `info`, `prot`,
 * `flags`, `fd` and `offset` count.
 */
size_t kvma_space_map_any(struct kvma_space *space,
                          size_t hint,
                          size_t len,
                          const struct kvma_space_info *info);

/*
 * Maps at `addr`, replacing what is there, of which `function` hears. Returns the address, or
 * `UINTPTR_MAX`.
 */
size_t kvma_space_map_at(struct kvma_space *space,
                         size_t addr,
                         size_t len,
                         const struct kvma_space_info *info,
                         kvma_space_fn function,
                         void *udata);

/* Unmaps a range; `function` hears of what was there. Gaps are fine. */
int32_t kvma_space_unmap(struct kvma_space *space,
                         size_t addr,
                         size_t len,
                         kvma_space_fn function,
                         void *udata);

/*
 * Changes the protection of a range; `function` hears of what was there. Gaps are passed over, and
 * answered with `KVMA_SPACE_NOT_MAPPED`.
 */
int32_t kvma_space_protect(struct kvma_space *space,
                           size_t addr,
                           size_t len,
                           int32_t prot,
                           kvma_space_fn function,
                           void *udata);

/*
 * Answers whether the page of `addr` is mapped, and writes what is known of it to `info` (NULL:
 * not wanted).
 */
bool kvma_space_query(const struct kvma_space *space, size_t addr, struct kvma_space_info *info);

/* == Going back to a mark == */

/*
 * Marks what is mapped as original. `KVMA_SPACE_NO_MEMORY`: it is marked, but a later
 * `kvma_space_unmap_non_original` cannot bring back what is unmapped or protected until then.
 */
int32_t kvma_space_mark_original(struct kvma_space *space);

/*
 * Brings back what was marked: unmaps the rest, gives original VMAs their protection again, and
 * maps those that are gone. `function` hears of everything that is unmapped or protected.
 * `KVMA_SPACE_NO_MEMORY`: the rest is unmapped, but nothing is brought back.
 */
int32_t kvma_space_unmap_non_original(struct kvma_space *space,
                                      kvma_space_fn function,
                                      void *udata);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KVMA_LIBMMAP_H */
