/* The snippets on libmmap's page, as they stand there, before and after the hint came. */
#include "test.h"

#include <sys/mman.h>

#include "mmap_c.h"

TEST(c_api_without_a_hint) {
    struct MMapAddrSpace *mm = mmap_create(0x10000, 0x100000, 4096);
    uintptr_t p = mmap_map_any(mm, 4096, PROT_READ, 0, -1, 0);
    CHECK_EQ(p, 0x10000);
    mmap_unmap(mm, p, 4096, NULL, NULL);
    struct MMapInfo info;
    CHECK(!mmap_query_page(mm, p, &info));
    mmap_destroy(mm);
}

TEST(c_api_with_a_hint) {
    struct MMapAddrSpace *mm = mmap_create(0x10000, 0x100000, 4096);
    uintptr_t p = mmap_map_any(mm, 0, 4096, PROT_READ, 0, -1, 0);
    CHECK_EQ(p, 0x10000);
    CHECK_EQ(mmap_map_any(mm, 0x20000, 4096, PROT_READ, 0, -1, 0), 0x20000);
    mmap_unmap(mm, p, 4096, NULL, NULL);
    mmap_destroy(mm);
}

TEST(the_name_is_still_a_function) {
    uintptr_t (*map_any)(struct MMapAddrSpace *, uintptr_t, size_t, int, int, int, int64_t) =
        mmap_map_any;
    struct MMapAddrSpace *mm = mmap_create(0x10000, 0x100000, 4096);
    CHECK_EQ(map_any(mm, 0x30000, 4096, PROT_READ, 0, -1, 0), 0x30000);
    CHECK_EQ((mmap_map_any)(mm, 0, 4096, PROT_READ, 0, -1, 0), 0x10000);
    mmap_destroy(mm);
}

TESTS(RUN(c_api_without_a_hint), RUN(c_api_with_a_hint), RUN(the_name_is_still_a_function))
