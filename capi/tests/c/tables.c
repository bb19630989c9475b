/* Tables of functions say their size: older and newer ones than the library's own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "test.h"

#include <kvma.h>

#define PAGE ((uint64_t)0x1000)
#define BASE ((uint64_t)0x10000)
#define LAST (BASE + 16 * PAGE - 1)

/* Copies a table to memory that ends right behind it and `more` further bytes. */
static void *longer(const void *table, size_t size, size_t more) {
    char *copy = calloc(1, size + more);
    size_t whole = size + more;
    CHECK(copy != NULL);
    memcpy(copy, table, size);
    memcpy(copy, &whole, sizeof whole);
    return copy;
}

typedef kvma_status use(const void *table);

static void try_sizes(const void *table, size_t size, use *use) {
    void *copy = longer(table, size, 0);
    CHECK_EQ(use(copy), KVMA_OK);
    /* Of a program that was not told, and of none that ever was. */
    for (size_t small = 0; small < size; small += sizeof small) {
        memcpy(copy, &small, sizeof small);
        CHECK_EQ(use(copy), KVMA_BAD_ARGUMENT);
    }
    free(copy);
    /* From a newer program, which uses nothing that this library does not know; then something. */
    copy = longer(table, size, 24);
    CHECK_EQ(use(copy), KVMA_OK);
    ((char *)copy)[size + 23] = 1;
    CHECK_EQ(use(copy), KVMA_BAD_ARGUMENT);
    free(copy);
}

static void *take(void *ctx, size_t size, size_t align) {
    (void)ctx;
    return aligned_alloc(align, size);
}

static void give(void *ctx, void *memory, size_t size, size_t align) {
    (void)ctx, (void)size, (void)align;
    free(memory);
}

static kvma_status use_allocator(const void *table) {
    struct kvma_vm *vm;
    kvma_status status = kvma_vm_new(&vm, BASE, LAST, PAGE, table, NULL);
    return status == KVMA_OK ? kvma_vm_free(vm) : status;
}

TEST(allocators) {
    const struct kvma_allocator table = {sizeof table, take, give, NULL};
    try_sizes(&table, sizeof table, use_allocator);
}

static int dropped;

static void drop(void *udata, void *data) {
    (void)udata, (void)data;
    dropped++;
}

static kvma_status use_data_ops(const void *table) {
    struct kvma_request request = {.len = PAGE};
    struct kvma_vm *vm;
    uint64_t addr;
    kvma_status status = kvma_vm_new(&vm, BASE, LAST, PAGE, NULL, table);
    if (status != KVMA_OK)
        return status;
    dropped = 0;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, &addr), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(dropped, 1);
    return KVMA_OK;
}

TEST(functions_for_user_data) {
    const struct kvma_data_ops table = {.size = sizeof table, .drop = drop};
    try_sizes(&table, sizeof table, use_data_ops);
}

static int unmapped;

static void on_unmap(void *udata, const struct kvma_piece *piece) {
    (void)udata, (void)piece;
    unmapped++;
}

static kvma_status use_hooks(const void *table) {
    struct kvma_request request = {.len = PAGE};
    struct kvma_update *update;
    struct kvma_vm *vm;
    uint64_t addr;
    kvma_status status, other;
    CHECK_EQ(kvma_vm_new(&vm, BASE, LAST, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, &addr), KVMA_OK);
    unmapped = 0;
    status = kvma_vm_unmap(vm, addr, PAGE, table, NULL);
    CHECK_EQ(unmapped, status == KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), status != KVMA_OK);
    other = kvma_update_new(&update, vm, table, 0);
    CHECK_EQ(other, status);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    return status;
}

TEST(hooks) {
    const struct kvma_hooks table = {.size = sizeof table, .on_unmap = on_unmap};
    try_sizes(&table, sizeof table, use_hooks);
}

static int charged;

static int32_t charge(void *udata, uint64_t bytes, uint64_t total) {
    (void)bytes, (void)total;
    CHECK(udata == &charged);
    charged++;
    return 0;
}

static struct kvma_linux *new_process(void) {
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(UINT64_MAX);
    struct kvma_linux *mm;
    CHECK_EQ(kvma_linux_new(&mm, &layout, NULL), KVMA_OK);
    return mm;
}

static kvma_status use_kernel(const void *table) {
    const struct kvma_linux_mmap_args args = {
        .len = PAGE, .prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE | MAP_ANONYMOUS};
    struct kvma_linux *mm = new_process();
    struct kvma_linux_call *call;
    uint64_t addr;
    kvma_status status = kvma_linux_call_new(&call, mm, table, 0);
    if (status == KVMA_OK) {
        charged = 0;
        CHECK_EQ(kvma_linux_mmap(mm, call, &args, &addr), KVMA_OK);
        CHECK_EQ(charged, 1);
    }
    CHECK_EQ(kvma_linux_call_finish(call), KVMA_OK);
    CHECK_EQ(kvma_linux_free(mm), KVMA_OK);
    return status;
}

static kvma_status use_hooks_of_kernel(const void *table) {
    struct kvma_kernel kernel = {.size = sizeof kernel, .hooks = table};
    struct kvma_linux *mm = new_process();
    struct kvma_linux_call *call;
    kvma_status status = kvma_linux_call_new(&call, mm, &kernel, 0);
    CHECK_EQ(kvma_linux_call_finish(call), KVMA_OK);
    CHECK_EQ(kvma_linux_free(mm), KVMA_OK);
    return status;
}

TEST(kernels) {
    const struct kvma_kernel table = {.size = sizeof table, .udata = &charged, .charge = charge};
    const struct kvma_hooks hooks = {.size = sizeof hooks, .on_unmap = on_unmap};
    try_sizes(&table, sizeof table, use_kernel);
    try_sizes(&hooks, sizeof hooks, use_hooks_of_kernel);
}

static int references;

static void get(struct kvma_file *file) {
    (void)file;
    references++;
}

static void put(struct kvma_file *file) {
    (void)file;
    references--;
}

/* A table of a wrong size is an invalid argument of a system call, too. */
static kvma_status use_file(const void *table) {
    struct kvma_file file = {.ops = table, .id = 1};
    struct kvma_open_file open = {.file = &file, .rights = KVMA_FILE_READ};
    const struct kvma_linux_mmap_args args = {
        .len = PAGE, .prot = PROT_READ, .flags = MAP_PRIVATE, .file = &open};
    struct kvma_linux *mm = new_process();
    struct kvma_linux_call *call;
    uint64_t addr;
    kvma_status status;
    references = 0;
    CHECK_EQ(kvma_linux_call_new(&call, mm, NULL, 0), KVMA_OK);
    status = kvma_linux_mmap(mm, call, &args, &addr);
    CHECK_EQ(kvma_linux_call_finish(call), KVMA_OK);
    CHECK_EQ(references, status == KVMA_OK);
    CHECK_EQ(kvma_linux_free(mm), KVMA_OK);
    CHECK_EQ(references, 0);
    return status == -EINVAL ? KVMA_BAD_ARGUMENT : status;
}

TEST(files) {
    const struct kvma_file_ops table = {sizeof table, get, put};
    try_sizes(&table, sizeof table, use_file);
}

TESTS(RUN(allocators), RUN(functions_for_user_data), RUN(hooks), RUN(kernels), RUN(files))
