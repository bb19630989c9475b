/* The caller's allocator, and what happens when it has nothing to give: nothing. */
#include "test.h"

#include <kvma.h>
#include <mmap_c.h>
#include <pthread.h>

#define PAGE ((uint64_t)0x1000)
#define BASE ((uint64_t)0x10000)

/* Gives 'left' more blocks, and knows how many are out. */
struct heap {
    long left;
    long out;
};

static void *take(void *ctx, size_t size, size_t align) {
    struct heap *heap = ctx;
    CHECK(size > 0 && size % align == 0 && align <= 64 && (align & (align - 1)) == 0);
    if (heap->left <= 0)
        return NULL;
    void *memory = aligned_alloc(align, size);
    CHECK(memory && (uintptr_t)memory % align == 0);
    heap->left--;
    heap->out++;
    return memory;
}

static void give(void *ctx, void *memory, size_t size, size_t align) {
    struct heap *heap = ctx;
    CHECK(memory && size > 0 && align > 0);
    heap->out--;
    free(memory);
}

static struct kvma_allocator allocator(struct heap *heap) {
    struct kvma_allocator table = {sizeof table, take, give, heap};
    return table;
}

static struct kvma_request fixed(uint64_t addr, uint64_t pages, uint32_t flags) {
    struct kvma_request request = {0};
    request.placement.kind = KVMA_FIXED;
    request.placement.addr = addr;
    request.len = pages * PAGE;
    request.attrs.flags = flags;
    return request;
}

/* The state of a map as a string of flags, a page each. */
static void picture(struct kvma_vm *vm, char *text) {
    struct kvma_vma vma;
    for (uint64_t page = 0; page < 32; page++)
        *text++ = kvma_vm_find(vm, BASE + page * PAGE, &vma) ? '.' : (char)('0' + vma.attrs.flags);
    *text = '\0';
}

static struct kvma_attrs executable(void *udata, const struct kvma_vma *vma) {
    struct kvma_attrs attrs = vma->attrs;
    (void)udata;
    attrs.flags |= KVMA_EXEC;
    return attrs;
}

static int32_t operation(int number, struct kvma_vm *vm, struct kvma_vm *saved,
                         const struct kvma_allocator *table) {
    struct kvma_request inside = fixed(BASE + 2 * PAGE, 2, KVMA_WRITE), any = {0};
    struct kvma_vm *child = NULL;
    struct kvma_update *update = NULL;
    int32_t status;
    any.len = PAGE;
    any.attrs.flags = KVMA_EXEC;
    switch (number) {
    case 0:
        return kvma_vm_map(vm, &inside, NULL, NULL);
    case 1:
        return kvma_vm_map(vm, &any, NULL, NULL);
    case 2:
        return kvma_vm_unmap(vm, BASE + PAGE, PAGE, NULL, NULL);
    case 3:
        return kvma_vm_protect(vm, BASE + PAGE, 6 * PAGE, KVMA_EXEC, NULL);
    case 4:
        return kvma_vm_update_attrs(vm, BASE + PAGE, PAGE, executable, NULL, NULL);
    case 5:
        return kvma_vm_relocate(vm, BASE + PAGE, PAGE, BASE + 20 * PAGE, KVMA_SOURCE_UNMAP,
                                KVMA_MERGE_BOTH, NULL);
    case 6:
        return kvma_vm_relocate(vm, BASE + PAGE, PAGE, BASE + 20 * PAGE, KVMA_SOURCE_KEEP,
                                KVMA_MERGE_BOTH, NULL);
    case 7:
        return kvma_vm_split_at(vm, BASE + PAGE);
    case 8:
        status = kvma_vm_fork(vm, table, NULL, NULL, &child);
        CHECK((status == KVMA_OK) == (child != NULL));
        CHECK_EQ(kvma_vm_free(child), KVMA_OK);
        return status;
    case 9:
        return kvma_vm_restore(vm, saved, NULL, NULL, NULL);
    case 10:
        status = kvma_update_new(&update, vm, NULL, 3);
        CHECK((status == KVMA_OK) == (update != NULL));
        CHECK_EQ(kvma_update_finish(update), KVMA_OK);
        return status;
    case 11:
        return kvma_vm_lock_pages(vm, BASE + PAGE, PAGE, NULL);
    case 12:
        return kvma_vm_decommit(vm, BASE + PAGE, PAGE, NULL);
    default:
        return INT32_MAX;
    }
}

TEST(no_operation_changes_anything_without_memory) {
    char before[64], after[64];
    for (int number = 0;; number++) {
        /* With one block more each time, until it succeeds. */
        for (long blocks = 0;; blocks++) {
            struct heap heap = {100, 0};
            struct kvma_allocator table = allocator(&heap);
            struct kvma_vm *vm = NULL, *saved = NULL;
            struct kvma_request one = fixed(BASE, 6, KVMA_READ),
                                two = fixed(BASE + 6 * PAGE, 4, KVMA_WRITE),
                                lost = fixed(BASE + 12 * PAGE, 1, KVMA_READ),
                                last = fixed(BASE + 30 * PAGE, 1, KVMA_READ);
            CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, &table, NULL), KVMA_OK);
            CHECK_EQ(kvma_vm_map(vm, &one, NULL, NULL), KVMA_OK);
            CHECK_EQ(kvma_vm_map(vm, &two, NULL, NULL), KVMA_OK);
            CHECK_EQ(kvma_vm_map(vm, &lost, NULL, NULL), KVMA_OK);
            CHECK_EQ(kvma_vm_fork(vm, &table, NULL, NULL, &saved), KVMA_OK);
            CHECK_EQ(kvma_vm_unmap(vm, BASE + 12 * PAGE, PAGE, NULL, NULL), KVMA_OK);
            /* Takes the node that the handle has kept of the lost one. */
            CHECK_EQ(kvma_vm_map(vm, &last, NULL, NULL), KVMA_OK);
            picture(vm, before);
            size_t vmas = kvma_vm_len(vm);
            heap.left = blocks;
            int32_t status = operation(number, vm, saved, &table);
            CHECK_EQ(kvma_vm_check(vm), KVMA_OK);
            if (status == KVMA_OUT_OF_MEMORY) {
                picture(vm, after);
                CHECK(strcmp(before, after) == 0);
                CHECK_EQ(kvma_vm_len(vm), vmas);
            }
            heap.left = 0;
            CHECK_EQ(kvma_vm_free(saved), KVMA_OK);
            CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
            CHECK_EQ(heap.out, 0);
            if (status == INT32_MAX)
                return;
            if (status == KVMA_OK) {
                CHECK(blocks > 0);
                break;
            }
            CHECK_EQ(status, KVMA_OUT_OF_MEMORY);
            CHECK(blocks < 20);
        }
    }
}

static int32_t note_copy(void *udata, const struct kvma_vma *vma, struct kvma_attrs *attrs,
                         void **data) {
    (void)vma, (void)attrs, (void)data;
    ++*(int *)udata;
    return 0;
}

/* Its changes of page tables could not be taken back. */
TEST(a_fork_without_memory_has_copied_nothing) {
    for (long blocks = 0;; blocks++) {
        struct heap heap = {100, 0};
        struct kvma_allocator table = allocator(&heap);
        struct kvma_vm *vm = NULL, *child = NULL;
        struct kvma_request one = fixed(BASE, 6, KVMA_READ),
                            two = fixed(BASE + 8 * PAGE, 4, KVMA_WRITE);
        int copied = 0;
        CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, &table, NULL), KVMA_OK);
        CHECK_EQ(kvma_vm_map(vm, &one, NULL, NULL), KVMA_OK);
        CHECK_EQ(kvma_vm_map(vm, &two, NULL, NULL), KVMA_OK);
        heap.left = blocks;
        int32_t status = blocks % 2
                             ? kvma_vm_fork(vm, &table, note_copy, &copied, &child)
                             : kvma_vm_fork_live(vm, &table, note_copy, &copied, NULL, &child);
        CHECK_EQ(copied, status == KVMA_OK ? 2 : 0);
        CHECK((status == KVMA_OK) == (child != NULL));
        CHECK_EQ(kvma_vm_free(child), KVMA_OK);
        CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
        CHECK_EQ(heap.out, 0);
        if (status == KVMA_OK)
            return;
        CHECK_EQ(status, KVMA_OUT_OF_MEMORY);
    }
}

TEST(making_a_map_fails_cleanly) {
    for (long blocks = 0; blocks < 3; blocks++) {
        struct heap heap = {blocks, 0};
        struct kvma_allocator table = allocator(&heap);
        struct kvma_vm *vm = (struct kvma_vm *)&heap;
        CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, &table, NULL),
                 KVMA_OUT_OF_MEMORY);
        CHECK(vm == NULL);
        CHECK_EQ(heap.out, 0);
    }
}

/* Nodes that calls have given up are there for the next ones, and go with the handle. */
TEST(a_handle_keeps_nodes_from_one_call_to_the_next) {
    struct heap heap = {100, 0};
    struct kvma_allocator table = allocator(&heap);
    struct kvma_vm *vm = NULL;
    struct kvma_request request = fixed(BASE + 4 * PAGE, 3, KVMA_READ);
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, &table, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_protect(vm, BASE + 5 * PAGE, PAGE, KVMA_WRITE, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_unmap(vm, BASE, 32 * PAGE, NULL, NULL), KVMA_OK);
    long left = heap.left, out = heap.out;
    for (int round = 0; round < 10; round++) {
        CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
        CHECK_EQ(kvma_vm_protect(vm, BASE + 5 * PAGE, PAGE, KVMA_WRITE, NULL), KVMA_OK);
        CHECK_EQ(kvma_vm_unmap(vm, BASE, 32 * PAGE, NULL, NULL), KVMA_OK);
    }
    CHECK_EQ(heap.left, left);
    CHECK_EQ(heap.out, out);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(heap.out, 0);
}

TEST(taking_down_needs_no_memory) {
    struct heap heap = {100, 0};
    struct kvma_allocator table = allocator(&heap);
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, &table, NULL), KVMA_OK);
    for (uint64_t page = 0; page < 32; page += 2) {
        struct kvma_request request = fixed(BASE + page * PAGE, 1, KVMA_READ);
        CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    }
    heap.left = 0;
    CHECK_EQ(kvma_vm_unmap(vm, BASE, 16 * PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_clear(vm, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(heap.out, 0);
}

static void note_piece(uintptr_t start, size_t len, struct MMapInfo info, void *udata) {
    (void)start, (void)len, (void)info;
    ++*(int *)udata;
}

/* The state of a libmmap space as a string of protections, a page each. */
static void mmap_picture(struct MMapAddrSpace *mm, char *text) {
    struct MMapInfo info;
    for (uint64_t page = 0; page < 32; page++)
        *text++ = mmap_query_page(mm, BASE + page * PAGE, &info)
                      ? (char)('0' + info.prot + 8 * info.original)
                      : '.';
    *text = '\0';
}

TEST(libmmap_operations_change_nothing_without_memory) {
    char before[64], after[64];
    for (int number = 0; number < 4; number++) {
        for (long blocks = 0;; blocks++) {
            struct heap heap = {100, 0};
            struct kvma_allocator table = allocator(&heap);
            struct MMapAddrSpace *mm = mmap_create_with(BASE, 32 * PAGE, PAGE, &table);
            int noted = 0;
            bool ok = true;
            CHECK(mm);
            CHECK_EQ(mmap_map_at(mm, BASE, 8 * PAGE, 1, 0, 3, 0, NULL, NULL), BASE);
            mmap_picture(mm, before);
            heap.left = blocks;
            switch (number) {
            case 0:
                ok = mmap_unmap(mm, BASE + PAGE, PAGE, note_piece, &noted) == MMAP_OK;
                break;
            case 1:
                ok = mmap_map_at(mm, BASE + PAGE, PAGE, 2, 0, -1, 0, note_piece, &noted) !=
                     (uintptr_t)-1;
                break;
            case 2:
                ok = mmap_protect(mm, BASE + PAGE, PAGE, 2, note_piece, &noted) == MMAP_OK;
                break;
            case 3:
                ok = mmap_map_any(mm, PAGE, 2, 0, -1, 0) != (uintptr_t)-1;
                break;
            }
            mmap_picture(mm, after);
            CHECK(ok == (strcmp(before, after) != 0));
            /* Nobody hears of what then does not happen. */
            CHECK(ok || noted == 0);
            heap.left = 0;
            mmap_destroy(mm);
            CHECK_EQ(heap.out, 0);
            if (ok) {
                CHECK(blocks > 0);
                break;
            }
            CHECK(blocks < 20);
        }
    }
    struct heap heap = {0, 0};
    struct kvma_allocator table = allocator(&heap);
    CHECK(mmap_create_with(BASE, 32 * PAGE, PAGE, &table) == NULL);
}

TEST(without_memory_to_remember_marks_still_hold) {
    struct heap heap = {100, 0};
    struct kvma_allocator table = allocator(&heap);
    struct MMapAddrSpace *mm = mmap_create_with(BASE, 32 * PAGE, PAGE, &table);
    struct MMapInfo info;
    int noted = 0;
    mmap_map_at(mm, BASE, 2 * PAGE, 1, 0, -1, 0, NULL, NULL);
    heap.left = 0;
    mmap_mark_original(mm);
    CHECK(mmap_query_page(mm, BASE, &info) && info.original);
    heap.left = 100;
    mmap_map_at(mm, BASE + 4 * PAGE, PAGE, 1, 0, -1, 0, NULL, NULL);
    heap.left = 0;
    mmap_unmap_non_original(mm, note_piece, &noted);
    CHECK_EQ(noted, 1);
    CHECK(mmap_query_page(mm, BASE, &info));
    CHECK(!mmap_query_page(mm, BASE + 4 * PAGE, &info));
    mmap_destroy(mm);
    CHECK_EQ(heap.out, 0);
}

/* Two threads without a lock: every answer is one of two, and the map stays whole. */
static void *hammer(void *vm) {
    for (int i = 0; i < 20000; i++) {
        struct kvma_request request = {0};
        request.len = PAGE;
        int32_t status = kvma_vm_map(vm, &request, NULL, NULL);
        CHECK(status == KVMA_OK || status == KVMA_BUSY || status == KVMA_NO_SPACE);
        status = kvma_vm_unmap(vm, BASE, 32 * PAGE, NULL, NULL);
        CHECK(status == KVMA_OK || status == KVMA_BUSY);
    }
    return NULL;
}

TEST(a_missing_lock_is_busy) {
    struct kvma_vm *vm = NULL;
    pthread_t thread;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(pthread_create(&thread, NULL, hammer, vm), 0);
    hammer(vm);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(kvma_vm_check(vm), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TESTS(RUN(no_operation_changes_anything_without_memory),
      RUN(a_fork_without_memory_has_copied_nothing), RUN(making_a_map_fails_cleanly),
      RUN(a_handle_keeps_nodes_from_one_call_to_the_next), RUN(taking_down_needs_no_memory),
      RUN(libmmap_operations_change_nothing_without_memory),
      RUN(without_memory_to_remember_marks_still_hold), RUN(a_missing_lock_is_busy))
