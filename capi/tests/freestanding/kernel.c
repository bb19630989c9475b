/* libkvma.a in a program without libc: what links here links in a kernel. Exit status 0 if it also
 * works. */
#include <kvma.h>

/* Functions that every kernel has. */
void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++)
        ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memmove(void *to, const void *from, size_t n) {
    if ((uintptr_t)to < (uintptr_t)from)
        return memcpy(to, from, n);
    while (n--)
        ((volatile char *)to)[n] = ((const char *)from)[n];
    return to;
}
void *memset(void *to, int c, size_t n) {
    for (size_t i = 0; i < n; i++)
        ((volatile char *)to)[i] = (char)c;
    return to;
}
int memcmp(const void *a, const void *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)a)[i] != ((const unsigned char *)b)[i])
            return ((const unsigned char *)a)[i] - ((const unsigned char *)b)[i];
    return 0;
}
int bcmp(const void *a, const void *b, size_t n) {
    return memcmp(a, b, n);
}
size_t strlen(const char *s) {
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

_Noreturn static void leave(long status) {
    __asm__ volatile("syscall" ::"a"(231L), "D"(status) : "rcx", "r11", "memory");
    __builtin_unreachable();
}

_Noreturn void kvma_panic(const char *file, size_t len, uint32_t line);
_Noreturn void kvma_panic(const char *file, size_t len, uint32_t line) {
    (void)file, (void)len, (void)line;
    leave(99);
}

/* Named by the precompiled core of targets that unwind, and called by nobody; bare-metal targets do
 * without. */
void rust_eh_personality(void);
void rust_eh_personality(void) {
    leave(98);
}
void _Unwind_Resume(void);
void _Unwind_Resume(void) {
    leave(97);
}

/* A heap that only grows. */
static _Alignas(64) char heap[1 << 16];
static size_t used;

static void *take(void *ctx, size_t size, size_t align) {
    (void)ctx;
    used = (used + align - 1) & ~(align - 1);
    if (size > sizeof heap - used)
        return NULL;
    used += size;
    return heap + used - size;
}

static void give(void *ctx, void *memory, size_t size, size_t align) {
    (void)ctx, (void)memory, (void)size, (void)align;
}

static const struct kvma_allocator memory = {sizeof(struct kvma_allocator), take, give, NULL};
static int unmapped;

static void on_unmap(void *udata, const struct kvma_piece *piece) {
    (void)udata;
    unmapped += (int)(piece->range.len / 0x1000);
}

static long work(void) {
    struct kvma_vm *vm;
    struct kvma_hooks hooks = {.size = sizeof hooks, .on_unmap = on_unmap};
    struct kvma_request request = {.len = 0x4000, .attrs = {.flags = KVMA_READ}};
    uint64_t addr;
    if (kvma_vm_new(&vm, 0x1000, 0x1000fff, 0x1000, NULL, NULL) != KVMA_NULL_POINTER)
        return 1;
    if (kvma_vm_new(&vm, 0x1000, 0x1000fff, 0x1000, &memory, NULL) != KVMA_OK)
        return 2;
    if (kvma_vm_map(vm, &request, &hooks, &addr) != KVMA_OK || addr != 0x1000)
        return 3;
    if (kvma_vm_unmap(vm, 0x2000, 0x1000, &hooks, NULL) != KVMA_OK || unmapped != 1 ||
        kvma_vm_len(vm) != 2)
        return 4;
    /* Until the heap is used up: a status, nothing else. */
    kvma_status status = KVMA_OK;
    request.placement.kind = KVMA_FIXED;
    request.len = 0x1000;
    for (request.placement.addr = 0x10000; status == KVMA_OK; request.placement.addr += 0x2000)
        status = kvma_vm_map(vm, &request, NULL, NULL);
    if (status != KVMA_OUT_OF_MEMORY || kvma_vm_check(vm) != KVMA_OK)
        return 5;
    if (kvma_vm_free(vm) != KVMA_OK)
        return 6;

    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    struct kvma_linux *mm;
    struct kvma_linux_call *call;
    struct kvma_linux_mmap_args args = {.len = 0x1000, .prot = 1, .flags = 0x22};
    used = 0;
    if (kvma_linux_new(&mm, &layout, &memory) != KVMA_OK ||
        kvma_linux_call_new(&call, mm, NULL, 3) != KVMA_OK)
        return 7;
    if (kvma_linux_mmap(mm, call, &args, &addr) != KVMA_OK || kvma_linux_map_count(mm) != 1)
        return 8;
    return kvma_linux_call_finish(call) != KVMA_OK || kvma_linux_free(mm) != KVMA_OK ? 9 : 0;
}

_Noreturn void enter(void);
_Noreturn void enter(void) {
    leave(work());
}

__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  and $-16, %rsp\n  call enter\n");
