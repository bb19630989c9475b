/* A handle that is being freed is busy: callbacks that run meanwhile cannot use it, nor free it
 * again. */
#include "test.h"

#include <kvma.h>
#include <mmap_c.h>
#include <sys/mman.h>

#define PAGE ((uint64_t)0x1000)
#define BASE ((uint64_t)0x10000)

static struct kvma_vm *vm;
static struct kvma_update *update;
static struct kvma_linux *mm;
static struct kvma_linux_call *in_call;
static int called;

static void start_vm(const struct kvma_allocator *allocator, const struct kvma_data_ops *ops) {
    struct kvma_request request = {.len = 4 * PAGE, .attrs.flags = KVMA_READ};
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 16 * PAGE - 1, PAGE, allocator, ops), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
}

/* Every call with the update that is being finished, on a map that is free to be used. */
static void use_the_update(void *udata) {
    struct kvma_request request = {.len = PAGE};
    (void)udata;
    called++;
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_update_unmap(update, vm, BASE, PAGE, NULL), KVMA_BUSY);
    CHECK_EQ(kvma_update_map(update, vm, &request, NULL), KVMA_BUSY);
    CHECK_EQ(kvma_update_preallocate(update, 8), KVMA_BUSY);
    CHECK_EQ(kvma_update_removed(update), 0);
    CHECK_EQ(kvma_update_finish(update), KVMA_BUSY);
    CHECK_EQ(kvma_vm_len(vm), 2);
}

TEST(an_update_is_busy_while_it_is_finished) {
    const struct kvma_hooks hooks = {.size = sizeof hooks, .flush_wait = use_the_update};
    called = 0;
    start_vm(NULL, NULL);
    CHECK_EQ(kvma_update_new(&update, vm, &hooks, 3), KVMA_OK);
    CHECK_EQ(kvma_update_unmap(update, vm, BASE + PAGE, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(called, 1);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

static void use_the_map(void *udata, void *data) {
    struct kvma_request request = {.len = PAGE};
    struct kvma_vma vma;
    (void)udata, (void)data;
    called++;
    CHECK_EQ(kvma_vm_free(vm), KVMA_BUSY);
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_BUSY);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_BUSY);
    CHECK_EQ(kvma_vm_len(vm), 0);
}

TEST(a_map_is_busy_while_it_is_freed) {
    const struct kvma_data_ops ops = {.size = sizeof ops, .drop = use_the_map};
    called = 0;
    start_vm(NULL, &ops);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(called, 1);
}

static void *take(void *ctx, size_t size, size_t align) {
    (void)ctx;
    return aligned_alloc(align, size);
}

/* Also while the memory of the handle itself goes. */
static void give(void *ctx, void *memory, size_t size, size_t align) {
    (void)ctx, (void)size, (void)align;
    called++;
    CHECK_EQ(kvma_vm_free(vm), KVMA_BUSY);
    free(memory);
}

TEST(a_map_is_busy_while_its_memory_goes) {
    const struct kvma_allocator allocator = {sizeof allocator, take, give, NULL};
    called = 0;
    start_vm(&allocator, NULL);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK(called >= 2);
}

static void use_the_call(void *udata) {
    (void)udata;
    called++;
    CHECK_EQ(kvma_linux_map_count(mm), 0);
    CHECK_EQ(kvma_linux_munmap(mm, in_call, BASE, PAGE), KVMA_BUSY);
    CHECK_EQ(kvma_linux_call_removed(in_call), 0);
    CHECK_EQ(kvma_linux_call_finish(in_call), KVMA_BUSY);
}

static void use_the_process(struct kvma_file *file) {
    struct kvma_vma vma;
    (void)file;
    called++;
    if (in_call)
        return;
    CHECK_EQ(kvma_linux_find(mm, BASE, &vma), KVMA_BUSY);
    CHECK_EQ(kvma_linux_free(mm), KVMA_BUSY);
}

static void map_a_file(struct kvma_file *file) {
    struct kvma_open_file open = {file, KVMA_FILE_READ, 0, 0};
    struct kvma_linux_mmap_args args = {.addr = BASE,
                                        .len = PAGE,
                                        .prot = PROT_READ,
                                        .flags = MAP_PRIVATE | MAP_FIXED,
                                        .file = &open};
    CHECK_EQ(kvma_linux_mmap(mm, in_call, &args, NULL), KVMA_OK);
}

TEST(calls_and_processes_are_busy_while_they_are_freed) {
    static const struct kvma_file_ops ops = {.size = sizeof ops, .put = use_the_process};
    struct kvma_file file = {.ops = &ops, .id = 1};
    const struct kvma_hooks hooks = {.size = sizeof hooks, .flush_wait = use_the_call};
    struct kvma_kernel kernel = {.size = sizeof kernel, .hooks = &hooks};
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    CHECK_EQ(kvma_linux_new(&mm, &layout, NULL), KVMA_OK);
    CHECK_EQ(kvma_linux_call_new(&in_call, mm, &kernel, 3), KVMA_OK);
    map_a_file(&file);
    CHECK_EQ(kvma_linux_munmap(mm, in_call, BASE, PAGE), KVMA_OK);
    called = 0;
    CHECK_EQ(kvma_linux_call_finish(in_call), KVMA_OK);
    CHECK(called > 1);
    CHECK_EQ(kvma_linux_call_new(&in_call, mm, NULL, 3), KVMA_OK);
    map_a_file(&file);
    CHECK_EQ(kvma_linux_call_finish(in_call), KVMA_OK);
    in_call = NULL;
    called = 0;
    CHECK_EQ(kvma_linux_free(mm), KVMA_OK);
    CHECK_EQ(called, 1);
}

static void destroy(uintptr_t start, size_t len, struct MMapInfo info, void *space) {
    (void)start, (void)len, (void)info;
    called++;
    mmap_destroy(space);
}

/* libmmap has no status for it: the space is still there. */
TEST(a_callback_cannot_destroy_the_space_that_calls_it) {
    struct MMapAddrSpace *space = mmap_create(BASE, 16 * PAGE, PAGE);
    struct MMapInfo info;
    called = 0;
    CHECK_EQ(mmap_map_at(space, BASE, 2 * PAGE, 1, 0, -1, 0, NULL, NULL), BASE);
    CHECK_EQ(mmap_unmap(space, BASE, PAGE, destroy, space), MMAP_OK);
    CHECK_EQ(called, 1);
    CHECK(!mmap_query_page(space, BASE, &info));
    CHECK(mmap_query_page(space, BASE + PAGE, &info));
    mmap_destroy(space);
}

TESTS(RUN(an_update_is_busy_while_it_is_finished), RUN(a_map_is_busy_while_it_is_freed),
      RUN(a_map_is_busy_while_its_memory_goes),
      RUN(calls_and_processes_are_busy_while_they_are_freed),
      RUN(a_callback_cannot_destroy_the_space_that_calls_it))
