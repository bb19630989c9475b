/* A map in C: maps, protects, unmaps, and tells what page tables would have to do. */
#include <kvma.h>
#include <stdio.h>

static void on_unmap(void *udata, const struct kvma_piece *piece) {
    (void)udata;
    printf("clear the page tables of %#llx..%#llx\n", (unsigned long long)piece->range.start,
           (unsigned long long)piece->range.last);
}

int main(void) {
    struct kvma_vm *vm;
    struct kvma_hooks hooks = {.size = sizeof hooks, .on_unmap = on_unmap};
    struct kvma_request request = {.len = 0x4000, .attrs.flags = KVMA_READ | KVMA_WRITE};
    uint64_t addr;

    /* A space of 1 GiB from 1 MiB on, pages of 4 KiB, memory from malloc. */
    kvma_status status = kvma_vm_new(&vm, 0x100000, 0x400fffff, 0x1000, NULL, NULL);
    if (status == KVMA_OK)
        status = kvma_vm_map(vm, &request, &hooks, &addr);
    if (status == KVMA_OK)
        status = kvma_vm_protect(vm, addr, 0x1000, KVMA_READ, &hooks);
    if (status == KVMA_OK)
        status = kvma_vm_unmap(vm, addr + 0x2000, 0x1000, &hooks, NULL);
    if (status != KVMA_OK) {
        fprintf(stderr, "%s\n", kvma_strerror(status));
        return 1;
    }
    return kvma_vm_free(vm);
}
