/* Mistakes of the generation of mm_init, by its documentation. Page size 1, as its own tests have
 * it. */
#include "test.h"

#include <errno.h>

#include "mmap.h"

struct heard {
    int calls;
    uint64_t start[8];
    size_t len[8];
    MMInfo info[8];
};

static void hear(uint64_t start, size_t len, MMInfo info, void *udata) {
    struct heard *heard = udata;
    CHECK(heard->calls < 8);
    heard->start[heard->calls] = start;
    heard->len[heard->calls] = len;
    heard->info[heard->calls++] = info;
}

static MMAddrSpace space(void) {
    MMAddrSpace mm;
    CHECK(mm_init(&mm, 0, 16, 1));
    return mm;
}

TEST(a_split_advances_the_file_offset) {
    MMAddrSpace mm = space();
    struct heard heard = {0};
    MMInfo info;
    CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 0, 5, 0), 0);
    CHECK_EQ(mm_unmap_cb(&mm, 2, 2, hear, &heard), 0);
    CHECK_EQ(heard.calls, 1);
    CHECK_EQ(heard.info[0].offset, 2);
    CHECK_EQ(heard.info[0].base, 0);
    CHECK_EQ(heard.info[0].len, 8);
    CHECK(mm_querypage(&mm, 4, &info));
    CHECK_EQ(info.offset, 4);
    CHECK_EQ(info.base, 0);
    CHECK_EQ(info.len, 8);
    mm_free(&mm);
}

TEST(a_split_advances_the_file_offset_in_bytes) {
    MMAddrSpace mm;
    MMInfo info;
    CHECK(mm_init(&mm, 0x10000, 0x100000, 4096));
    CHECK_EQ(mm_mapat(&mm, 0x10000, 8 * 4096, 1, 0, 5, 0x3000), 0x10000);
    CHECK_EQ(mm_unmap(&mm, 0x12000, 2 * 4096), 0);
    CHECK(mm_querypage(&mm, 0x14000, &info));
    CHECK_EQ(info.offset, 0x3000 + 4 * 4096);
    mm_free(&mm);
}

TEST(a_split_of_anonymous_memory_has_no_offset_to_advance) {
    MMAddrSpace mm = space();
    MMInfo info;
    CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 0, -1, 0), 0);
    CHECK_EQ(mm_unmap(&mm, 2, 2), 0);
    CHECK(mm_querypage(&mm, 4, &info));
    CHECK_EQ(info.offset, 0);
    mm_free(&mm);
}

TEST(mappings_are_kept_apart_and_know_their_base) {
    MMAddrSpace mm = space();
    struct heard heard = {0};
    CHECK_EQ(mm_mapat(&mm, 0, 4, 1, 0, 5, 0), 0);
    CHECK_EQ(mm_mapat(&mm, 4, 4, 1, 0, 5, 4), 4);
    CHECK_EQ(mm_unmap_cb(&mm, 0, 8, hear, &heard), 0);
    CHECK_EQ(heard.calls, 2);
    CHECK_EQ(heard.info[1].base, 4);
    CHECK_EQ(heard.info[1].len, 4);
    mm_free(&mm);
}

TEST(unmap_of_a_gap_is_fine) {
    MMAddrSpace mm = space();
    CHECK_EQ(mm_unmap(&mm, 3, 4), 0);
    CHECK_EQ(mm_mapat(&mm, 4, 2, 1, 0, 0, 0), 4);
    CHECK_EQ(mm_unmap(&mm, 0, 16), 0);
    CHECK_EQ(mm_mapany(&mm, 16, 0, 0, 0, 0), 0);
    mm_free(&mm);
}

TEST(zero_length_is_refused) {
    MMAddrSpace mm = space();
    CHECK_EQ(mm_mapany(&mm, 0, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapat(&mm, 3, 0, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_unmap(&mm, 3, 0), -EINVAL);
    CHECK_EQ(mm_protect(&mm, 3, 0, 1), -EINVAL);
    CHECK_EQ(mm_mapany(&mm, 16, 0, 0, 0, 0), 0);
    mm_free(&mm);
}

TEST(a_length_near_2_to_the_64_is_refused) {
    MMAddrSpace mm;
    CHECK(mm_init(&mm, 0x10000, 0x100000, 4096));
    CHECK_EQ(mm_mapany(&mm, SIZE_MAX, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapany(&mm, SIZE_MAX - 4094, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapat(&mm, 0x10000, SIZE_MAX, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_unmap(&mm, 0x10000, SIZE_MAX), -EINVAL);
    CHECK_EQ(mm_protect(&mm, 0x10000, SIZE_MAX - 4094, 1), -EINVAL);
    CHECK(!mm_querypage(&mm, 0x10000, NULL));
    mm_free(&mm);
}

TEST(addresses_beyond_the_space_are_refused) {
    MMAddrSpace mm;
    CHECK(mm_init(&mm, 0x10000, 0x100000, 4096));
    /* "The address is returned, or -1 if an error occurred." */
    CHECK_EQ(mm_mapat(&mm, 0, 4096, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapat(&mm, 0x110000, 4096, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapat(&mm, UINT64_MAX - 4095, 4096, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapat(&mm, 0x10001, 4096, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_unmap(&mm, 0x200000, 4096), -EINVAL);
    mm_free(&mm);
}

TEST(callbacks_get_bytes) {
    MMAddrSpace mm;
    struct heard heard = {0};
    CHECK(mm_init(&mm, 0x10000, 0x100000, 4096));
    CHECK_EQ(mm_mapat(&mm, 0x10000, 4 * 4096, 1, 0, 0, 0), 0x10000);
    CHECK_EQ(mm_protect_cb(&mm, 0x10000, 4 * 4096, 3, hear, &heard), 0);
    CHECK_EQ(mm_protect_cb(&mm, 0x11000, 4096, 1, hear, &heard), 0);
    CHECK_EQ(heard.calls, 2);
    CHECK_EQ(heard.start[0], 0x10000);
    CHECK_EQ(heard.len[0], 4 * 4096);
    CHECK_EQ(heard.start[1], 0x11000);
    CHECK_EQ(heard.len[1], 4096);
    mm_free(&mm);
}

TEST(callbacks_get_the_old_state) {
    MMAddrSpace mm = space();
    struct heard heard = {0};
    CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 2, 3, 0), 0);
    CHECK_EQ(mm_protect_cb(&mm, 0, 4, 7, hear, &heard), 0);
    CHECK_EQ(heard.info[0].prot, 1);
    CHECK_EQ(mm_mapat_cb(&mm, 2, 4, 5, 6, 7, 0, hear, &heard), 2);
    CHECK_EQ(heard.calls, 3);
    CHECK_EQ(heard.info[1].prot, 7);
    CHECK_EQ(heard.info[1].fd, 3);
    CHECK_EQ(heard.info[2].prot, 1);
    mm_free(&mm);
}

TEST(replacing_the_middle_of_a_mapping_is_told) {
    MMAddrSpace mm = space();
    struct heard heard = {0};
    MMInfo info;
    CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 0, 5, 0), 0);
    CHECK_EQ(mm_mapat_cb(&mm, 3, 2, 2, 0, 6, 0, hear, &heard), 3);
    CHECK_EQ(heard.calls, 1);
    CHECK_EQ(heard.start[0], 3);
    CHECK_EQ(heard.len[0], 2);
    CHECK_EQ(heard.info[0].fd, 5);
    CHECK_EQ(heard.info[0].offset, 3);
    CHECK(mm_querypage(&mm, 4, &info) && info.fd == 6 && info.base == 3);
    CHECK(mm_querypage(&mm, 5, &info) && info.fd == 5 && info.offset == 5);
    mm_free(&mm);
}

TEST(overlapping_a_gap_maps_the_gap_too) {
    MMAddrSpace mm = space();
    CHECK_EQ(mm_mapat(&mm, 4, 2, 1, 0, 0, 0), 4);
    CHECK_EQ(mm_mapat(&mm, 2, 8, 2, 0, 0, 0), 2);
    for (uint64_t page = 2; page < 10; page++) {
        MMInfo info;
        CHECK(mm_querypage(&mm, page, &info) && info.prot == 2);
    }
    mm_free(&mm);
}

TEST(protect_over_a_gap_changes_nothing) {
    MMAddrSpace mm = space();
    struct heard heard = {0};
    MMInfo info;
    CHECK_EQ(mm_mapat(&mm, 3, 8, 0, 0, 0, 0), 3);
    CHECK_EQ(mm_protect_cb(&mm, 0, 5, 1, hear, &heard), -EINVAL);
    CHECK_EQ(heard.calls, 0);
    CHECK(mm_querypage(&mm, 4, &info) && info.prot == 0);
    mm_free(&mm);
}

TEST(protect_and_back_leaves_one_region) {
    MMAddrSpace mm = space();
    struct heard heard = {0};
    CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 0, 5, 0), 0);
    CHECK_EQ(mm_protect(&mm, 2, 2, 3), 0);
    CHECK_EQ(mm_protect(&mm, 2, 2, 1), 0);
    CHECK_EQ(mm_unmap_cb(&mm, 0, 8, hear, &heard), 0);
    CHECK_EQ(heard.calls, 1);
    mm_free(&mm);
}

TEST(placement_is_first_fit) {
    MMAddrSpace mm = space();
    CHECK_EQ(mm_mapat(&mm, 2, 2, 1, 0, 0, 0), 2);
    CHECK_EQ(mm_mapany(&mm, 3, 1, 0, 0, 0), 4);
    CHECK_EQ(mm_mapany(&mm, 2, 1, 0, 0, 0), 0);
    CHECK_EQ(mm_mapany(&mm, 10, 1, 0, 0, 0), MM_MAPERR);
    CHECK_EQ(mm_mapany(&mm, 9, 1, 0, 0, 0), 7);
    CHECK_EQ(mm_mapany(&mm, 1, 1, 0, 0, 0), MM_MAPERR);
    mm_free(&mm);
}

/* Blocks that aligned_alloc still gives; below zero: all that are asked for. */
static long blocks_left = -1;

/* This file is compiled as C++, too. */
#ifdef __cplusplus
#define C_LINKAGE extern "C"
#else
#define C_LINKAGE
#endif

C_LINKAGE void *__real_aligned_alloc(size_t align, size_t size);
C_LINKAGE void *__wrap_aligned_alloc(size_t align, size_t size);

void *__wrap_aligned_alloc(size_t align, size_t size) {
    if (blocks_left == 0)
        return NULL;
    if (blocks_left > 0)
        blocks_left--;
    return __real_aligned_alloc(align, size);
}

TEST(without_memory_nothing_changes) {
    for (int operation = 0; operation < 3; operation++) {
        MMAddrSpace mm = space();
        MMInfo info;
        int status = 0;
        CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 0, 5, 0), 0);
        blocks_left = 0;
        if (operation == 0)
            CHECK_EQ(mm_mapat(&mm, 2, 2, 3, 0, 5, 0), MM_MAPERR);
        else if (operation == 1)
            status = mm_unmap(&mm, 2, 2);
        else
            status = mm_protect(&mm, 2, 2, 3);
        blocks_left = -1;
        CHECK_EQ(status, operation == 0 ? 0 : -ENOMEM);
        CHECK(mm_query(&mm, 0, 8, &info) && info.prot == 1);
        mm_free(&mm);
    }
    MMAddrSpace mm;
    blocks_left = 0;
    CHECK(!mm_init(&mm, 0, 16, 1));
    blocks_left = -1;
}

struct file {
    int references;
};

TEST(files_may_be_pointers) {
    MMAddrSpace mm;
    MMInfo info;
    struct heard heard = {0};
    struct file file = {1};
    const int as_int = 7;
    CHECK(mm_init(&mm, 0x10000, 0x100000, 4096));
    CHECK_EQ(mm_mapany(&mm, 4 * 4096, 1, 0, &file, 0x3000), 0x10000);
    CHECK_EQ(mm_mapat(&mm, 0x20000, 4096, 1, 0, NULL, 0), 0x20000);
    CHECK_EQ(mm_mapat(&mm, 0x30000, 4096, 1, 0, as_int, 0), 0x30000);
    CHECK(mm_querypage(&mm, 0x12000, &info));
    CHECK(info.file == &file);
    CHECK_EQ(info.offset, 0x5000);
    CHECK(mm_querypage(&mm, 0x20000, &info) && info.file == NULL);
    CHECK(mm_querypage(&mm, 0x30000, &info) && info.fd == 7);
    CHECK_EQ(mm_mapat_cb(&mm, 0x11000, 4096, 1, 0, (void *)&mm, 0, hear, &heard), 0x11000);
    CHECK_EQ(heard.calls, 1);
    CHECK(heard.info[0].file == &file);
    CHECK_EQ(heard.info[0].offset, 0x4000);
    CHECK_EQ(heard.info[0].base, 0x10000);
    mm_free(&mm);
}

TEST(without_a_file_there_is_no_offset_to_advance) {
    MMAddrSpace mm = space();
    MMInfo info;
    void *none = NULL;
    CHECK_EQ(mm_mapat(&mm, 0, 8, 1, 0, none, 0), 0);
    CHECK_EQ(mm_unmap(&mm, 2, 2), 0);
    CHECK(mm_querypage(&mm, 4, &info) && info.file == NULL && info.offset == 0);
    mm_free(&mm);
}

TEST(the_names_are_still_functions) {
    uint64_t (*mapany)(MMAddrSpace *, size_t, int, int, int, off_t) = mm_mapany;
    MMAddrSpace mm = space();
    CHECK_EQ(mapany(&mm, 2, 1, 0, -1, 0), 0);
    CHECK_EQ((mm_mapat)(&mm, 4, 2, 1, 0, -1, 0), 4);
    mm_free(&mm);
}

TEST(query_of_a_range_as_before_querypage) {
    MMAddrSpace mm = space();
    MMInfo info;
    CHECK_EQ(mm_mapat(&mm, 3, 8, 1, 0, 5, 0), 3);
    CHECK(mm_query(&mm, 3, 8, &info) && info.prot == 1);
    CHECK(mm_query(&mm, 5, 6, &info) && info.offset == 2);
    CHECK(mm_query(&mm, 3, 8, NULL));
    CHECK(!mm_query(&mm, 3, 9, &info));
    CHECK(!mm_query(&mm, 2, 2, &info));
    CHECK(!mm_query(&mm, 3, 0, &info));
    CHECK(!mm_query(&mm, 3, SIZE_MAX, &info));
    CHECK_EQ(mm_protect(&mm, 4, 2, 3), 0);
    CHECK(!mm_query(&mm, 3, 8, &info));
    mm_free(&mm);
}

TEST(the_marked_state_comes_back) {
    MMAddrSpace mm = space();
    MMInfo info;
    struct heard heard = {0};
    CHECK_EQ(mm_mapat(&mm, 0, 4, 5, 0, 3, 0), 0);
    CHECK_EQ(mm_mapat(&mm, 4, 4, 3, 0, -1, 0), 4);
    CHECK(mm_querypage(&mm, 0, &info) && !info.original);
    mm_mark_original(&mm);
    CHECK(mm_querypage(&mm, 0, &info) && info.original);
    CHECK_EQ(mm_protect(&mm, 1, 1, 7), 0);
    CHECK_EQ(mm_unmap(&mm, 4, 4), 0);
    CHECK_EQ(mm_mapat(&mm, 12, 2, 1, 0, -1, 0), 12);
    mm_unmap_non_original(&mm, hear, &heard);
    CHECK_EQ(heard.calls, 2);
    CHECK(heard.start[0] == 1 && heard.info[0].prot == 7 && heard.info[0].original);
    CHECK(heard.start[1] == 12 && heard.len[1] == 2 && !heard.info[1].original);
    CHECK(mm_querypage(&mm, 1, &info) && info.prot == 5 && info.base == 0 && info.offset == 1);
    CHECK(mm_querypage(&mm, 7, &info) && info.prot == 3 && info.original);
    CHECK(!mm_querypage(&mm, 12, &info));
    mm_unmap_non_original(&mm, NULL, NULL);
    mm_free(&mm);
}

TESTS(RUN(the_marked_state_comes_back), RUN(without_memory_nothing_changes),
      RUN(files_may_be_pointers),
      RUN(without_a_file_there_is_no_offset_to_advance), RUN(the_names_are_still_functions),
      RUN(query_of_a_range_as_before_querypage), RUN(a_split_advances_the_file_offset),
      RUN(a_split_advances_the_file_offset_in_bytes),
      RUN(a_split_of_anonymous_memory_has_no_offset_to_advance),
      RUN(mappings_are_kept_apart_and_know_their_base), RUN(unmap_of_a_gap_is_fine),
      RUN(zero_length_is_refused), RUN(a_length_near_2_to_the_64_is_refused),
      RUN(addresses_beyond_the_space_are_refused), RUN(callbacks_get_bytes),
      RUN(callbacks_get_the_old_state), RUN(replacing_the_middle_of_a_mapping_is_told),
      RUN(overlapping_a_gap_maps_the_gap_too), RUN(protect_over_a_gap_changes_nothing),
      RUN(protect_and_back_leaves_one_region), RUN(placement_is_first_fit))
