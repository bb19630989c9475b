/*
 * Drop-in for libmmap's mmap_c.h, on kvma. Link with -lkvma, or with -lmmap as before.
 *
 * Where libmmap's code and its documentation differ, this does what the documentation says; the
 * README has the list. Allocation failure never changes a mapping.
 */
#ifndef LIBMMAP_C_H
#define LIBMMAP_C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct MMapAddrSpace;

struct MMapInfo {
    int prot;
    int flags;
    int fd;
    /* Of the page or region that the information is about: advanced past what was split off before
     * it. */
    int64_t offset;
    bool original;
};

enum MMapError {
    MMAP_OK = 0,
    MMAP_INVAL = 1,
    /* Out of memory, and nothing has changed; or mmap_protect over a gap, which is ENOMEM in POSIX:
     * what is mapped in the range has the new protection. */
    MMAP_NOMEM = 2,
};

/* Called before the change, with the byte address, the length and what the region was. */
typedef void (*MMapUpdateFn)(uintptr_t start, size_t len, struct MMapInfo info, void *udata);

struct MMapAddrSpace *mmap_create(uintptr_t start, size_t len, size_t pagesize);
void mmap_destroy(struct MMapAddrSpace *mm);
void mmap_reset(struct MMapAddrSpace *mm);

/* Not libmmap's: with the caller's allocator (kvma.h), NULL for malloc. */
struct kvma_allocator;
struct MMapAddrSpace *mmap_create_with(uintptr_t start, size_t len, size_t pagesize,
                                       const struct kvma_allocator *allocator);

/* Makes mmap_map_any place at random: every address that fits is as likely as every other. All
 * placements follow from the seed, which should come from a secure source. mmap_reset leaves this
 * as it is. */
void mmap_enable_aslr(struct MMapAddrSpace *mm, uint64_t seed);

/* At hint if that is not 0 and is free, else at the lowest free range, or at a random one after
 * mmap_enable_aslr. (uintptr_t)-1 if there is none. Programs of before the hint leave it out: see
 * the end of this file. */
uintptr_t mmap_map_any(struct MMapAddrSpace *mm, uintptr_t hint, size_t len, int prot, int flags,
                       int fd, int64_t offset);
uintptr_t mmap_map_at(struct MMapAddrSpace *mm, uintptr_t addr, size_t len, int prot, int flags,
                      int fd, int64_t offset, MMapUpdateFn ufn, void *udata);

enum MMapError mmap_unmap(struct MMapAddrSpace *mm, uintptr_t addr, size_t len, MMapUpdateFn ufn,
                          void *udata);
bool mmap_query_page(const struct MMapAddrSpace *mm, uintptr_t addr, struct MMapInfo *info);
enum MMapError mmap_protect(struct MMapAddrSpace *mm, uintptr_t addr, size_t len, int prot,
                            MMapUpdateFn ufn, void *udata);

void mmap_mark_original(struct MMapAddrSpace *mm);
/* Brings back what was marked: unmaps the rest, gives original regions their protection again (ufn
 * hears of both; info.original says which it is), and maps originals that are gone. */
void mmap_unmap_non_original(struct MMapAddrSpace *mm, MMapUpdateFn ufn, void *udata);

#ifdef __cplusplus
}

/* Without a hint. Also for those who include this within extern "C". */
extern "C++" inline uintptr_t mmap_map_any(struct MMapAddrSpace *mm, size_t len, int prot,
                                           int flags, int fd, int64_t offset) {
    return mmap_map_any(mm, static_cast<uintptr_t>(0), len, prot, flags, fd, offset);
}

#else

/* Without a hint. */
static inline uintptr_t mmap_map_any_unhinted(struct MMapAddrSpace *mm, size_t len, int prot,
                                              int flags, int fd, int64_t offset) {
    return (mmap_map_any)(mm, 0, len, prot, flags, fd, offset);
}

/* Six arguments or seven. The name of the eighth is the function; its own address is still to be
 * had. */
#define MMAP_MAP_ANY_EIGHTH(a, b, c, d, e, f, g, name, ...) name
#define mmap_map_any(...)                                                                          \
    MMAP_MAP_ANY_EIGHTH(__VA_ARGS__, mmap_map_any, mmap_map_any_unhinted, mmap_map_any,            \
                        mmap_map_any, mmap_map_any, mmap_map_any, mmap_map_any, mmap_map_any)      \
    (__VA_ARGS__)

#endif

#endif /* LIBMMAP_C_H */
