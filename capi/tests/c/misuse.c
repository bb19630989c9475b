/* NULL and nonsense are answered, not followed. */
#include "test.h"

#include <kvma.h>
#include <mmap.h>

#define PAGE ((uint64_t)0x1000)
#define BASE ((uint64_t)0x10000)

TEST(null_is_a_status) {
    struct kvma_vm *vm = NULL;
    struct kvma_update *update = NULL;
    struct kvma_claim *claim = NULL;
    struct kvma_request request = {0};
    struct kvma_vma vma;
    struct kvma_walk walk = kvma_walk_over(0, UINT64_MAX);
    struct kvma_range range;
    struct kvma_piece piece;
    size_t nodes;
    request.len = PAGE;
    CHECK_EQ(kvma_vm_new(NULL, 0, PAGE - 1, PAGE, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_free(NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(NULL, &request, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_unmap(NULL, 0, PAGE, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_clear(NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_protect(NULL, 0, PAGE, 0, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_update_attrs(NULL, 0, PAGE, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_relocate(NULL, 0, PAGE, PAGE, 0, 0, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_remap(NULL, 0, PAGE, PAGE, NULL, NULL, 0, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_update_data(NULL, 0, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_set_data(NULL, 0, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_split_at(NULL, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_merge_at(NULL, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_can_merge_at(NULL, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_find(NULL, 0, &vma), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_find_from(NULL, 0, &vma), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_find_before(NULL, 0, &vma), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_find_gap(NULL, PAGE, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_space(NULL, &range), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_check(NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_fork(NULL, NULL, NULL, NULL, &vm), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_map_with(NULL, &request, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_claim(NULL, &request.placement, PAGE, NULL, &claim), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_release_claim(NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_claim_range(NULL, &range), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_split_at(NULL, NULL, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_merge_at(NULL, NULL, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_restore(NULL, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_restore_cost(NULL, NULL, NULL, NULL, &nodes), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_retain(NULL, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_commit(NULL, 0, PAGE, 0, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_decommit(NULL, 0, PAGE, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_lock_pages(NULL, 0, PAGE, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_unlock_pages(NULL, 0, PAGE, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_change_flags(NULL, 0, PAGE, 0, 0, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_advise(NULL, 0, PAGE, 0, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_adopt(NULL, &request, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_adopt_maps(NULL, "", NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_new(&update, NULL, NULL, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_preallocate(NULL, 1), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_map(NULL, NULL, &request, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_unmap(NULL, NULL, 0, PAGE, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_update_removed(NULL), 0);
    CHECK_EQ(kvma_vm_len(NULL), 0);
    CHECK_EQ(kvma_vm_mapped_bytes(NULL), 0);
    CHECK_EQ(kvma_vm_page_size(NULL), 0);
    CHECK(kvma_vm_is_empty(NULL));
    CHECK(!kvma_vm_is_free(NULL, 0, PAGE));
    CHECK(!kvma_vm_covers(NULL, 0, PAGE));
    CHECK(!kvma_vm_next(NULL, &walk, &vma));
    CHECK(!kvma_vm_prev(NULL, &walk, &vma));
    CHECK(!kvma_vm_next_gap(NULL, &walk, &range));
    CHECK(!kvma_vm_prev_gap(NULL, &walk, &range));
    CHECK(!kvma_vm_next_piece(NULL, &walk, &piece));
    CHECK(!kvma_vm_prev_piece(NULL, &walk, &piece));

    struct kvma_allocator half = {sizeof half, NULL, NULL, NULL};
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 16 * PAGE - 1, PAGE, &half, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 16 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_update_attrs(vm, BASE, PAGE, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_adopt_maps(vm, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_fork(vm, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK(!kvma_vm_next(vm, NULL, &vma));
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

static int given, taken_back;
static char arena[1 << 16];

/* One byte off. */
static void *misaligned(void *ctx, size_t size, size_t align) {
    (void)align;
    given++;
    return size <= sizeof arena - 64 ? (char *)ctx + 1 : NULL;
}

static void take_back(void *ctx, void *memory, size_t size, size_t align) {
    (void)size, (void)align;
    CHECK(memory == (char *)ctx + 1);
    taken_back++;
}

TEST(misaligned_memory_is_no_memory) {
    const struct kvma_allocator allocator = {sizeof allocator, misaligned, take_back, arena};
    const struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    struct kvma_vm *vm;
    struct kvma_linux *mm;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 16 * PAGE - 1, PAGE, &allocator, NULL),
             KVMA_OUT_OF_MEMORY);
    CHECK(vm == NULL);
    CHECK_EQ(kvma_linux_new(&mm, &layout, &allocator), KVMA_OUT_OF_MEMORY);
    CHECK(mmap_create_with(BASE, 16 * PAGE, PAGE, &allocator) == NULL);
    CHECK(given >= 3);
    CHECK_EQ(given, taken_back);
}

static void *heap_alloc(void *ctx, size_t size, size_t align) {
    (void)ctx;
    return aligned_alloc(align, size);
}

static void heap_free(void *ctx, void *memory, size_t size, size_t align) {
    (void)ctx, (void)size, (void)align;
    free(memory);
}

/* An update of a map with another allocator cannot be used; the claim is still to be released. */
TEST(a_release_that_fails_keeps_the_claim) {
    const struct kvma_allocator allocator = {sizeof allocator, heap_alloc, heap_free, NULL};
    struct kvma_vm *vm, *other;
    struct kvma_update *update;
    struct kvma_claim *claim;
    struct kvma_range range;
    const struct kvma_placement anywhere = {0};
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 16 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_new(&other, BASE, BASE + 16 * PAGE - 1, PAGE, &allocator, NULL), KVMA_OK);
    CHECK_EQ(kvma_update_new(&update, other, NULL, 0), KVMA_OK);
    CHECK_EQ(kvma_vm_claim(vm, &anywhere, PAGE, NULL, &claim), KVMA_OK);
    CHECK_EQ(kvma_update_release_claim(update, vm, claim), KVMA_FOREIGN_MEMORY);
    CHECK_EQ(kvma_claim_range(claim, &range), KVMA_OK);
    CHECK_EQ(range.start, BASE);
    CHECK(!kvma_vm_is_free(vm, BASE, PAGE));
    CHECK_EQ(kvma_vm_release_claim(vm, claim), KVMA_OK);
    CHECK(kvma_vm_is_free(vm, BASE, PAGE));
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(kvma_vm_free(other), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

/* Every call with every mixture of numbers at the edges: an answer, and the map stays whole. */
TEST(numbers_at_the_edges) {
    static const uint64_t edge[] = {0,
                                    1,
                                    PAGE - 1,
                                    PAGE,
                                    BASE - PAGE,
                                    BASE,
                                    BASE + 1,
                                    BASE + PAGE,
                                    BASE + 15 * PAGE,
                                    BASE + 16 * PAGE,
                                    UINT64_MAX,
                                    INT64_MAX,
                                    UINT64_MAX - PAGE + 1,
                                    (uint64_t)1 << 63};
    const size_t count = sizeof edge / sizeof *edge;
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 16 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            uint64_t a = edge[i], b = edge[j];
            struct kvma_vm *other = NULL;
            if (kvma_vm_new(&other, a, b, PAGE, NULL, NULL) == KVMA_OK)
                CHECK_EQ(kvma_vm_free(other), KVMA_OK);
            struct kvma_request request = {0};
            request.len = b;
            request.placement.addr = a;
            request.placement.search.first = a;
            request.placement.search.last = b;
            request.placement.search.hint = b;
            request.placement.search.align = a;
            request.placement.search.guard = b;
            for (uint32_t number = 0; number < 5; number++) {
                request.placement.kind = number;
                request.placement.search.flags = number;
                request.merge = number;
                (void)kvma_vm_map(vm, &request, NULL, NULL);
            }
            (void)kvma_vm_protect(vm, a, b, KVMA_READ, NULL);
            (void)kvma_vm_relocate(vm, a, PAGE, b, KVMA_SOURCE_KEEP, KVMA_MERGE_BOTH, NULL);
            (void)kvma_vm_split_at(vm, a);
            (void)kvma_vm_merge_at(vm, a);
            (void)kvma_vm_lock_pages(vm, a, b, NULL);
            struct kvma_walk walk = kvma_walk_over(a, b);
            struct kvma_vma vma;
            struct kvma_range gap;
            while (kvma_vm_next(vm, &walk, &vma)) {
            }
            walk = kvma_walk_over(a, b);
            while (kvma_vm_prev_gap(vm, &walk, &gap)) {
            }
            (void)kvma_vm_unmap(vm, a, b, NULL, NULL);
            CHECK_EQ(kvma_vm_check(vm), KVMA_OK);
        }
    }
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TEST(libmmap_numbers_at_the_edges) {
    static const uint64_t edge[] = {0,
                                    1,
                                    PAGE,
                                    BASE,
                                    BASE + PAGE,
                                    BASE + 15 * PAGE,
                                    BASE + 16 * PAGE,
                                    UINT64_MAX,
                                    INT64_MAX,
                                    UINT64_MAX - PAGE + 1};
    const size_t count = sizeof edge / sizeof *edge;
    MMAddrSpace mm;
    struct MMapAddrSpace *space = mmap_create(BASE, 16 * PAGE, PAGE);
    CHECK(mm_init(&mm, BASE, 16 * PAGE, PAGE));
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            uint64_t a = edge[i], b = edge[j];
            MMAddrSpace other;
            if (mm_init(&other, a, b, PAGE))
                mm_free(&other);
            mmap_destroy(mmap_create(a, b, PAGE));
            mmap_destroy(mmap_create(a, b, 1));
            mmap_destroy(mmap_create(a, b, (uint64_t)1 << 63));
            (void)mm_mapany(&mm, b, 1, 0, 3, (off_t)a);
            (void)mm_mapat(&mm, a, b, 1, 0, 3, (off_t)a);
            (void)mm_protect(&mm, a, b, 2);
            (void)mm_unmap(&mm, a, b);
            (void)mmap_map_any(space, a, b, 1, 0, 3, (int64_t)b);
            (void)mmap_map_at(space, a, b, 1, 0, 3, (int64_t)a, NULL, NULL);
            (void)mmap_protect(space, a, b, 2, NULL, NULL);
            (void)mmap_unmap(space, a, b, NULL, NULL);
        }
    }
    mm_free(&mm);
    mm_free(&mm);
    mmap_destroy(space);
}

TEST(libmmap_null_is_an_error) {
    struct MMapInfo info;
    MMInfo mm_info;
    MMAddrSpace mm = {NULL};
    CHECK(mmap_create(BASE, PAGE, 3000) == NULL);
    CHECK(mmap_create(BASE, PAGE, 0) == NULL);
    mmap_destroy(NULL);
    mmap_reset(NULL);
    mmap_mark_original(NULL);
    mmap_unmap_non_original(NULL, NULL, NULL);
    CHECK_EQ(mmap_map_any(NULL, PAGE, 1, 0, -1, 0), (uintptr_t)-1);
    CHECK_EQ(mmap_map_at(NULL, BASE, PAGE, 1, 0, -1, 0, NULL, NULL), (uintptr_t)-1);
    CHECK_EQ(mmap_unmap(NULL, BASE, PAGE, NULL, NULL), MMAP_INVAL);
    CHECK_EQ(mmap_protect(NULL, BASE, PAGE, 1, NULL, NULL), MMAP_INVAL);
    CHECK(!mmap_query_page(NULL, BASE, &info));
    CHECK(!mm_init(NULL, BASE, PAGE, PAGE));
    CHECK(!mm_init(&mm, BASE, PAGE, 3000));
    CHECK_EQ(mm_mapany(&mm, PAGE, 1, 0, -1, 0), MM_MAPERR);
    CHECK_EQ(mm_unmap(NULL, BASE, PAGE), -22);
    CHECK(!mm_querypage(&mm, BASE, &mm_info));
    mm_free(NULL);
    /* A space without pages is one where everything fails. */
    struct MMapAddrSpace *empty = mmap_create(BASE, 0, PAGE);
    CHECK(empty);
    CHECK_EQ(mmap_map_any(empty, PAGE, 1, 0, -1, 0), (uintptr_t)-1);
    CHECK_EQ(mmap_unmap(empty, BASE, PAGE, NULL, NULL), MMAP_INVAL);
    mmap_mark_original(empty);
    mmap_unmap_non_original(empty, NULL, NULL);
    mmap_reset(empty);
    mmap_destroy(empty);
}

TESTS(RUN(misaligned_memory_is_no_memory), RUN(a_release_that_fails_keeps_the_claim),
      RUN(null_is_a_status), RUN(numbers_at_the_edges), RUN(libmmap_numbers_at_the_edges),
      RUN(libmmap_null_is_an_error))
