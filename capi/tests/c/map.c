/* The calls of kvma_vm, one after the other. */
#include "test.h"

#include <kvma.h>

#define PAGE 0x1000u

static struct kvma_vm *space(uint64_t pages) {
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, 0x10000, pages, PAGE, NULL, NULL), KVMA_OK);
    return vm;
}

static struct kvma_request fixed(uint64_t addr, uint64_t len, uint32_t flags) {
    struct kvma_request request = {0};
    request.place = KVMA_FIXED;
    request.addr = addr;
    request.len = len;
    request.attrs.flags = flags;
    return request;
}

TEST(maps_finds_and_unmaps) {
    struct kvma_vm *vm = space(16);
    struct kvma_request request = {0};
    uint64_t addr, pages;
    struct kvma_area area;

    request.len = 4 * PAGE;
    request.attrs.flags = KVMA_READ;
    request.attrs.backed = true;
    request.attrs.object = 7;
    request.attrs.offset = 100;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, &addr), KVMA_OK);
    CHECK_EQ(addr, 0x10000);
    CHECK_EQ(kvma_vm_unmap(vm, addr + PAGE, PAGE, NULL, &pages), KVMA_OK);
    CHECK_EQ(pages, 1);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_vm_pages(vm), 3);
    CHECK_EQ(kvma_vm_find(vm, addr + 3 * PAGE, &area), KVMA_OK);
    CHECK_EQ(area.range.start, addr + 2 * PAGE);
    CHECK_EQ(area.range.last, addr + 4 * PAGE - 1);
    CHECK_EQ(area.attrs.offset, 102);
    CHECK_EQ(area.gap_before, PAGE);
    CHECK_EQ(kvma_vm_find(vm, addr + PAGE, &area), KVMA_NOT_MAPPED);
    request = fixed(addr + PAGE, 2 * PAGE, KVMA_WRITE);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 3);
    CHECK_EQ(kvma_vm_check(vm), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TESTS(RUN(maps_finds_and_unmaps))
