/*
 * Drop-in for libmmap's mmap.h, on kvma. Link with -lkvma, or with -lmmap as before.
 *
 * The comments are what libmmap documents; where its code did otherwise, this does what is
 * documented. For a time libmmap had its later interface (mmap_create) in a header of this name: it
 * is here, too.
 */
#ifndef LIBMMAP_MMAP_H
#define LIBMMAP_MMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "mmap_c.h"

#ifdef __cplusplus
/* Also for those who include this within extern "C". */
extern "C++" {
#include <type_traits>
}
#endif

#if defined(__GNUC__)
#define MM_EXTENSION __extension__
#else
#define MM_EXTENSION
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Else compile with -D_FILE_OFFSET_BITS=64. */
extern char kvma_off_t_must_have_64_bits[sizeof(off_t) == 8 ? 1 : -1];

struct kvma_space;

/* With a tag and a typedef: libmmap had now the one, now the other. */
typedef struct MMAddrSpace {
    /* For internal use only. */
    struct kvma_space *space;
} MMAddrSpace;

#define MM_MAPERR ((uint64_t)-1)

typedef struct MMInfo {
    /* Base address of the mapping (not the region). */
    uint64_t base;
    /* Length of the mapping. */
    size_t len;
    int prot;
    int flags;
    /* As given: libmmap's branch for kernels had a pointer here. */
    MM_EXTENSION union {
        int fd;
        void *file;
    };
    /* Of the page or region that the information is about. */
    off_t offset;
    /* Was there at the last mm_mark_original. */
    bool original;
} MMInfo;

/* Called before the change, with the byte address, the length and what the region was. */
typedef void (*UpdateFn)(uint64_t start, size_t len, MMInfo info, void *udata);

/* There is a distinction between 'mappings' and 'regions'. A mapping is a set of pages originally
 * created with 'mapany' or 'mapat'. A region is a subset of pages from a mapping. */

/* What the functions below are made of. The library itself has no mm_ symbols, so that a program
 * may bring an older libmmap along. */
bool kvma_mm_init(MMAddrSpace *mm, uint64_t start, size_t len, size_t pagesize);
void kvma_mm_free(MMAddrSpace *mm);
uint64_t kvma_mm_mapany(MMAddrSpace *mm, size_t len, int prot, int flags, int fd, off_t offset);
uint64_t kvma_mm_mapat(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags, int fd,
                       off_t offset, UpdateFn ufn, void *udata);
uint64_t kvma_mm_mapany_file(MMAddrSpace *mm, size_t len, int prot, int flags, void *file,
                             off_t offset);
uint64_t kvma_mm_mapat_file(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags,
                            void *file, off_t offset, UpdateFn ufn, void *udata);
int kvma_mm_unmap(MMAddrSpace *mm, uint64_t addr, size_t len, UpdateFn ufn, void *udata);
bool kvma_mm_query(MMAddrSpace *mm, uint64_t addr, size_t len, MMInfo *info);
bool kvma_mm_querypage(MMAddrSpace *mm, uint64_t addr, MMInfo *info);
int kvma_mm_protect(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, UpdateFn ufn,
                    void *udata);
void kvma_mm_mark_original(MMAddrSpace *mm);
void kvma_mm_unmap_non_original(MMAddrSpace *mm, UpdateFn ufn, void *udata);

/* Initializes the memory mapper for the given virtual address region and page size, a power of 2.
 * False if it was unable to initialize (no memory). */
static inline bool mm_init(MMAddrSpace *mm, uint64_t start, size_t len, size_t pagesize) {
    return kvma_mm_init(mm, start, len, pagesize);
}

/* Deallocates the address space and frees all associated memory. */
static inline void mm_free(MMAddrSpace *mm) {
    kvma_mm_free(mm);
}

/* Creates a new mapping, where the mapper may choose the location: the lowest free range. Returns
 * the location, or -1 if an error occurred. */
#ifndef __cplusplus
static inline uint64_t mm_mapany(MMAddrSpace *mm, size_t len, int prot, int flags, int fd,
                                 off_t offset) {
    return kvma_mm_mapany(mm, len, prot, flags, fd, offset);
}
#endif

/* Creates a new mapping at a specific address. Returns the address, or -1 if an error occurred. The
 * range may overlap with existing regions, in which case the overlapping portions of the existing
 * regions are unmapped and overwritten. */
#ifndef __cplusplus
static inline uint64_t mm_mapat(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags,
                                int fd, off_t offset) {
    return kvma_mm_mapat(mm, addr, len, prot, flags, fd, offset, NULL, NULL);
}
#endif

/* The same, and calls 'ufn' when it unmaps regions. */
#ifndef __cplusplus
static inline uint64_t mm_mapat_cb(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags,
                                   int fd, off_t offset, UpdateFn ufn, void *udata) {
    return kvma_mm_mapat(mm, addr, len, prot, flags, fd, offset, ufn, udata);
}
#endif

/* These three for programs whose files are pointers, NULL for none; they call them by the names
 * above: see the end of this file. */
static inline uint64_t mm_mapany_file(MMAddrSpace *mm, size_t len, int prot, int flags, void *file,
                                      off_t offset) {
    return kvma_mm_mapany_file(mm, len, prot, flags, file, offset);
}

static inline uint64_t mm_mapat_file(MMAddrSpace *mm, uint64_t addr, size_t len, int prot,
                                     int flags, void *file, off_t offset) {
    return kvma_mm_mapat_file(mm, addr, len, prot, flags, file, offset, NULL, NULL);
}

static inline uint64_t mm_mapat_file_cb(MMAddrSpace *mm, uint64_t addr, size_t len, int prot,
                                        int flags, void *file, off_t offset, UpdateFn ufn,
                                        void *udata) {
    return kvma_mm_mapat_file(mm, addr, len, prot, flags, file, offset, ufn, udata);
}

/* Unmaps pages from mapped regions, or returns < 0 if an error occurred. The range may include
 * unmapped pages. */
static inline int mm_unmap(MMAddrSpace *mm, uint64_t addr, size_t len) {
    return kvma_mm_unmap(mm, addr, len, NULL, NULL);
}

/* The same, and calls 'ufn' when it unmaps regions. */
static inline int mm_unmap_cb(MMAddrSpace *mm, uint64_t addr, size_t len, UpdateFn ufn,
                              void *udata) {
    return kvma_mm_unmap(mm, addr, len, ufn, udata);
}

/* Looks up information about a page and places it in 'info', which may be NULL. False if the page
 * is not mapped. */
static inline bool mm_querypage(MMAddrSpace *mm, uint64_t addr, MMInfo *info) {
    return kvma_mm_querypage(mm, addr, info);
}

/* The name and arguments of before mm_querypage: false also if the range is not all of one region,
 * or if 'addr' is not the start of a page. */
static inline bool mm_query(MMAddrSpace *mm, uint64_t addr, size_t len, MMInfo *info) {
    return kvma_mm_query(mm, addr, len, info);
}

/* Updates the 'prot' info associated with a region. All pages affected by the new protections must
 * be in a mapped region. Returns 0 on success or a negative error code on failure. */
static inline int mm_protect(MMAddrSpace *mm, uint64_t addr, size_t len, int prot) {
    return kvma_mm_protect(mm, addr, len, prot, NULL, NULL);
}

/* The same, and calls 'ufn' for regions that it updates. */
static inline int mm_protect_cb(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, UpdateFn ufn,
                                void *udata) {
    return kvma_mm_protect(mm, addr, len, prot, ufn, udata);
}

/* Marks all current mappings as original. Of LFI's copy of libmmap, as the next one. */
static inline void mm_mark_original(MMAddrSpace *mm) {
    kvma_mm_mark_original(mm);
}

/* Brings back what was marked: unmaps the rest, gives original regions their protection again
 * ('ufn' hears of both; info.original says which it is), and maps originals that are gone. */
static inline void mm_unmap_non_original(MMAddrSpace *mm, UpdateFn ufn, void *udata) {
    kvma_mm_unmap_non_original(mm, ufn, udata);
}

#ifdef __cplusplus
}

extern "C++" {

/* A descriptor: any integer but a long, which is what NULL is. */
template <class Fd>
using MMIfFd = typename std::enable_if<(std::is_integral<Fd>::value || std::is_enum<Fd>::value) &&
                                           !std::is_same<Fd, long>::value,
                                       uint64_t>::type;

template <class Fd>
inline MMIfFd<Fd> mm_mapany(MMAddrSpace *mm, size_t len, int prot, int flags, Fd fd, off_t offset) {
    return kvma_mm_mapany(mm, len, prot, flags, static_cast<int>(fd), offset);
}

template <class Fd>
inline MMIfFd<Fd> mm_mapat(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags, Fd fd,
                           off_t offset) {
    return kvma_mm_mapat(mm, addr, len, prot, flags, static_cast<int>(fd), offset, NULL, NULL);
}

template <class Fd>
inline MMIfFd<Fd> mm_mapat_cb(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags,
                              Fd fd, off_t offset, UpdateFn ufn, void *udata) {
    return kvma_mm_mapat(mm, addr, len, prot, flags, static_cast<int>(fd), offset, ufn, udata);
}

/* A pointer. */
inline uint64_t mm_mapany(MMAddrSpace *mm, size_t len, int prot, int flags, void *file,
                          off_t offset) {
    return mm_mapany_file(mm, len, prot, flags, file, offset);
}

inline uint64_t mm_mapat(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags,
                         void *file, off_t offset) {
    return mm_mapat_file(mm, addr, len, prot, flags, file, offset);
}

inline uint64_t mm_mapat_cb(MMAddrSpace *mm, uint64_t addr, size_t len, int prot, int flags,
                            void *file, off_t offset, UpdateFn ufn, void *udata) {
    return mm_mapat_file_cb(mm, addr, len, prot, flags, file, offset, ufn, udata);
}
}

#elif defined(__GNUC__) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L)

/* A descriptor or a pointer. The names without arguments are still the functions that take a
 * descriptor. */
#define MM_BY_FILE(file, by_fd, by_pointer)                                                        \
    MM_EXTENSION _Generic((file),                                                                  \
        _Bool: by_fd,                                                                              \
        char: by_fd,                                                                               \
        signed char: by_fd,                                                                        \
        unsigned char: by_fd,                                                                      \
        short: by_fd,                                                                              \
        unsigned short: by_fd,                                                                     \
        int: by_fd,                                                                                \
        unsigned: by_fd,                                                                           \
        long: by_fd,                                                                               \
        unsigned long: by_fd,                                                                      \
        long long: by_fd,                                                                          \
        unsigned long long: by_fd,                                                                 \
        default: by_pointer)
#define mm_mapany(mm, len, prot, flags, file, offset)                                              \
    (MM_BY_FILE(file, mm_mapany, mm_mapany_file)(mm, len, prot, flags, file, offset))
#define mm_mapat(mm, addr, len, prot, flags, file, offset)                                         \
    (MM_BY_FILE(file, mm_mapat, mm_mapat_file)(mm, addr, len, prot, flags, file, offset))
#define mm_mapat_cb(mm, addr, len, prot, flags, file, offset, ufn, udata)                          \
    (MM_BY_FILE(file, mm_mapat_cb, mm_mapat_file_cb)(mm, addr, len, prot, flags, file, offset,     \
                                                     ufn, udata))

#endif

#endif /* LIBMMAP_MMAP_H */
