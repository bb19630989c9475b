/* A program's address space, call by call, errno by errno. */
#include "test.h"

#include <errno.h>
#include <kvma.h>
#include <sys/mman.h>

#define PAGE ((uint64_t)0x1000)

/* The kernel around it. */
struct kernel {
    int gets, puts;
    int page_ops, unmaps, flushes;
    int64_t committed;
    uint64_t memory;
    struct kvma_file shared;
    int refuse_shared;
    int32_t refuse_file;
    uint64_t file_flags;
};

static struct kernel kernel;

static void get(struct kvma_file *file) {
    (void)file;
    kernel.gets++;
}

static void put(struct kvma_file *file) {
    (void)file;
    kernel.puts++;
}

static const struct kvma_file_ops counted = {sizeof(struct kvma_file_ops), get, put};

static void on_unmap(void *udata, const struct kvma_piece *piece) {
    CHECK(udata == &kernel && piece->range.len > 0);
    kernel.unmaps++;
}

static void flush_wait(void *udata) {
    CHECK(udata == &kernel);
    kernel.flushes++;
}

static int32_t charge(void *udata, uint64_t bytes, uint64_t total) {
    CHECK(udata == &kernel);
    CHECK(total < kernel.memory);
    if ((uint64_t)kernel.committed + bytes > kernel.memory)
        return ENOMEM;
    kernel.committed += (int64_t)bytes;
    return 0;
}

static void uncharge(void *udata, uint64_t bytes) {
    CHECK(udata == &kernel);
    kernel.committed -= (int64_t)bytes;
    CHECK(kernel.committed >= 0);
}

static struct kvma_file *shared_memory(void *udata, uint64_t len, uint64_t vm_flags,
                                       int32_t *error) {
    CHECK(udata == &kernel && len > 0 && (vm_flags & 8));
    if (kernel.refuse_shared) {
        *error = kernel.refuse_shared;
        return NULL;
    }
    get(&kernel.shared);
    return &kernel.shared;
}

static int32_t map_file(void *udata, const struct kvma_open_file *file,
                        const struct kvma_piece *vma, uint64_t *vm_flags) {
    CHECK(udata == &kernel && file->file && vma->data == file->file);
    CHECK(vma->range.len > 0 && vma->attrs.user_bits == *vm_flags);
    *vm_flags |= kernel.file_flags;
    return kernel.refuse_file;
}

static int32_t page_op(void *udata, uint32_t op, const struct kvma_piece *piece) {
    CHECK(udata == &kernel && piece->range.len > 0);
    CHECK(op == KVMA_PAGE_OP_DONT_NEED || op == KVMA_PAGE_OP_POPULATE ||
          op == KVMA_PAGE_OP_WRITE_BACK);
    kernel.page_ops++;
    return 0;
}

/* The hooks of the table that `callbacks` has returned last. */
static struct kvma_hooks hooks;

static struct kvma_kernel callbacks(void) {
    struct kvma_kernel table = {.size = sizeof table, .hooks = &hooks, .udata = &kernel};
    memset(&kernel, 0, sizeof kernel);
    kernel.memory = (uint64_t)4 << 30;
    kernel.shared.ops = &counted;
    kernel.shared.id = 77;
    kernel.shared.name = "/dev/zero (deleted)";
    kernel.shared.minor = 1;
    kernel.shared.inode = 5;
    hooks = (struct kvma_hooks){.size = sizeof hooks,
                                .on_unmap = on_unmap,
                                .flush_wait = flush_wait,
                                .udata = &kernel};
    table.charge = charge;
    table.uncharge = uncharge;
    table.shared_memory = shared_memory;
    table.map_file = map_file;
    table.page_op = page_op;
    return table;
}

struct program {
    struct kvma_linux *mm;
    struct kvma_linux_call *call;
};

static struct program start(const struct kvma_kernel *table) {
    struct program program = {NULL, NULL};
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    CHECK_EQ(kvma_linux_new(&program.mm, &layout, NULL), KVMA_OK);
    CHECK_EQ(kvma_linux_call_new(&program.call, program.mm, table, 3), KVMA_OK);
    return program;
}

static void end(struct program program) {
    CHECK_EQ(kvma_linux_check(program.mm), KVMA_OK);
    CHECK_EQ(kvma_linux_call_finish(program.call), KVMA_OK);
    CHECK_EQ(kvma_linux_free(program.mm), KVMA_OK);
}

static int32_t map(struct program program, uint64_t addr, uint64_t len, uint64_t prot,
                   uint64_t flags, const struct kvma_open_file *file, uint64_t *at) {
    struct kvma_linux_mmap_args args = {addr, len, prot, flags, 0, file};
    return kvma_linux_mmap(program.mm, program.call, &args, at);
}

struct text {
    char buffer[4096];
    size_t len;
};

static bool append(void *udata, const char *text, size_t len) {
    struct text *out = udata;
    CHECK(out->len + len < sizeof out->buffer);
    memcpy(out->buffer + out->len, text, len);
    out->len += len;
    out->buffer[out->len] = '\0';
    return true;
}

static bool enough(void *udata, const char *text, size_t len) {
    (void)udata, (void)text, (void)len;
    return false;
}

TEST(maps_protects_and_unmaps_as_linux_does) {
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    uint64_t at, other;
    CHECK_EQ(
        map(program, 0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
        0);
    CHECK_EQ(kernel.committed, 4 * PAGE);
    /* Top down, and merged with what is there. */
    CHECK_EQ(
        map(program, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &other),
        0);
    CHECK_EQ(other, at - PAGE);
    CHECK_EQ(kvma_linux_map_count(program.mm), 1);
    CHECK_EQ(kvma_linux_mprotect(program.mm, program.call, at, PAGE, PROT_READ), 0);
    CHECK_EQ(kvma_linux_map_count(program.mm), 3);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at, PAGE), 0);
    CHECK_EQ(kvma_linux_mprotect(program.mm, program.call, at, PAGE, PROT_READ), -ENOMEM);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at + 1, PAGE), -EINVAL);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at, 0), -EINVAL);
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_PRIVATE, NULL, &at), -EBADF);
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_ANONYMOUS, NULL, &at), -EINVAL);
    CHECK_EQ(map(program, 0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), -EINVAL);
    CHECK_EQ(map(program, 0, UINT64_MAX, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
             -ENOMEM);
    CHECK_EQ(kvma_linux_call_removed(program.call), 1);
    CHECK_EQ(kernel.unmaps, 1);
    CHECK_EQ(kernel.flushes, 0);
    struct kvma_linux_usage usage;
    CHECK_EQ(kvma_linux_get_usage(program.mm, &usage), KVMA_OK);
    CHECK_EQ(usage.total, 4 * PAGE);
    end(program);
    CHECK_EQ(kernel.flushes, 1);
}

TEST(files_are_counted_and_listed) {
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    struct kvma_file file = {.ops = &counted,
                             .id = 9,
                             .inode = 42,
                             .major = 8,
                             .minor = 1,
                             .name = "/usr/bin/true"};
    struct kvma_open_file open = {&file, KVMA_FILE_READ, 0, 0};
    uint64_t at;
    CHECK_EQ(map(program, 0x10000000, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, &open, &at), 0);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at + PAGE, PAGE), 0);
    struct text text = {.len = 0};
    CHECK_EQ(kvma_linux_maps(program.mm, append, &text), KVMA_OK);
    CHECK(strcmp(text.buffer, "10000000-10001000 r--p 00000000 08:01 42                            "
                              "     /usr/bin/true\n"
                              "10002000-10004000 r--p 00002000 08:01 42                            "
                              "     /usr/bin/true\n") == 0);
    CHECK_EQ(kvma_linux_maps(program.mm, enough, NULL), KVMA_STOPPED);
    CHECK_EQ(kvma_linux_maps(program.mm, NULL, NULL), KVMA_NULL_POINTER);
    struct kvma_vma vma;
    CHECK_EQ(kvma_linux_find(program.mm, at + 3 * PAGE, &vma), KVMA_OK);
    CHECK(vma.data == &file);
    CHECK_EQ(vma.attrs.object, 9);
    CHECK_EQ(vma.attrs.offset, 2 * PAGE);
    CHECK_EQ(vma.attrs.user_bits & 7, 1);
    struct kvma_walk walk = kvma_walk_over(0, UINT64_MAX);
    CHECK(kvma_linux_next(program.mm, &walk, &vma) && vma.range.start == at);
    CHECK(kvma_linux_next(program.mm, &walk, &vma) && vma.range.start == at + 2 * PAGE);
    CHECK(!kvma_linux_next(program.mm, &walk, &vma));
    /* Not open for writing. */
    CHECK_EQ(map(program, 0, PAGE, PROT_WRITE, MAP_SHARED, &open, &at), -EACCES);
    open.rights = 8;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_SHARED, &open, &at), -EINVAL);
    end(program);
    CHECK(kernel.gets > 0);
    CHECK_EQ(kernel.gets, kernel.puts);
}

TEST(shared_memory_is_the_kernels) {
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    uint64_t at;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, NULL, &at), 0);
    struct kvma_vma vma;
    CHECK_EQ(kvma_linux_find(program.mm, at, &vma), KVMA_OK);
    CHECK(vma.data == &kernel.shared);
    CHECK_EQ(kvma_linux_msync(program.mm, program.call, at, PAGE, MS_SYNC), 0);
    CHECK(kernel.page_ops > 0);
    kernel.refuse_shared = EMFILE;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, NULL, &at), -EMFILE);
    end(program);
    CHECK_EQ(kernel.gets, kernel.puts);
}

static uint64_t flags_at(struct program program, uint64_t addr) {
    struct kvma_vma vma;
    CHECK_EQ(kvma_linux_find(program.mm, addr, &vma), KVMA_OK);
    return vma.attrs.user_bits;
}

TEST(files_have_flags_restrictions_and_seals) {
    enum { IO = 1 << 14, DONTEXPAND = 1 << 18, MAYWRITE = 1 << 5, SHARED = 1 << 3 };
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    struct kvma_file buffer = {.id = 1, .restrictions = KVMA_RESTRICT_SPLIT};
    struct kvma_open_file file = {&buffer, KVMA_FILE_READ | KVMA_FILE_WRITE, 0, 0};
    uint64_t at, other;
    kernel.file_flags = IO | DONTEXPAND;
    CHECK_EQ(map(program, 0, 3 * PAGE, PROT_READ, MAP_SHARED, &file, &at), 0);
    CHECK((flags_at(program, at) & (IO | DONTEXPAND)) == (IO | DONTEXPAND));
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at + PAGE, PAGE), -EINVAL);
    kernel.refuse_file = EBADF;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_SHARED, &file, &other), -EBADF);
    kernel.refuse_file = 0;

    struct kvma_file ring = {.id = 2, .restrictions = KVMA_RESTRICT_ADDRESS};
    file.file = &ring;
    CHECK_EQ(map(program, 0x10000000, PAGE, PROT_READ, MAP_SHARED, &file, &other), -EINVAL);
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_SHARED, &file, &other), 0);

    kernel.file_flags = 0;
    struct kvma_file memory = {.id = 3, .huge_shmem = true};
    file.file = &memory;
    file.traits = KVMA_FILE_WRITE_SEALED;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, &file, &other), -EPERM);
    CHECK_EQ(map(program, 0, 4 << 20, PROT_READ, MAP_SHARED, &file, &other), 0);
    CHECK((flags_at(program, other) & (MAYWRITE | SHARED)) == SHARED);
    CHECK_EQ(other % (2 << 20), 0);
    end(program);
}

TEST(segments_are_attached_and_detached) {
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    struct kvma_file segment = {.ops = &counted,
                                .id = 1,
                                .restrictions = KVMA_RESTRICT_JOINT_MOVE,
                                .segment_size = 3 * PAGE - 1};
    struct kvma_linux_shmat_args args = {&segment, 0, 0, 0};
    uint64_t at = 0, other = 0;
    CHECK_EQ(kvma_linux_shmat(program.mm, program.call, &args, &at), 0);
    CHECK_EQ(at, 0x7ffff7fff000 - 3 * PAGE);
    args.addr = at + 1;
    CHECK_EQ(kvma_linux_shmat(program.mm, program.call, &args, &other), -EINVAL);
    args = (struct kvma_linux_shmat_args){NULL, EIDRM, 0, 0};
    CHECK_EQ(kvma_linux_shmat(program.mm, program.call, &args, &other), -EIDRM);
    args.error = 0;
    CHECK_EQ(kvma_linux_shmat(program.mm, program.call, &args, &other), -EINVAL);
    CHECK_EQ(kvma_linux_shmdt(program.mm, program.call, at + PAGE), -EINVAL);
    CHECK_EQ(kvma_linux_shmdt(program.mm, program.call, at), 0);
    CHECK_EQ(kvma_linux_map_count(program.mm), 0);
    end(program);
    CHECK(kernel.gets > 0);
    CHECK_EQ(kernel.gets, kernel.puts);
}

TEST(a_processor_without_protection_keys_has_none) {
    struct program program = start(NULL);
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    uint64_t key;
    CHECK_EQ(layout.protection_keys, 16);
    layout.protection_keys = 0;
    CHECK_EQ(kvma_linux_set_layout(program.mm, &layout), KVMA_OK);
    CHECK_EQ(kvma_linux_pkey_alloc(program.mm, 0, 0, &key), -EINVAL);
    end(program);
}

TEST(the_heap_and_the_stack) {
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    uint64_t brk = 0;
    CHECK_EQ(kvma_linux_set_start_brk(program.mm, 0x20000000, 0), KVMA_OK);
    CHECK_EQ(kvma_linux_brk(program.mm, program.call, 0, &brk), 0);
    CHECK_EQ(brk, 0x20000000);
    CHECK_EQ(kvma_linux_brk(program.mm, program.call, 0x20001234, &brk), 0);
    CHECK_EQ(brk, 0x20001234);
    CHECK_EQ(kvma_linux_sbrk(program.mm, program.call, 0x1000, &brk), 0);
    CHECK_EQ(brk, 0x20001234);
    CHECK_EQ(kvma_linux_current_brk(program.mm), 0x20002234);
    CHECK_EQ(kvma_linux_start_brk(program.mm), 0x20000000);
    CHECK_EQ(kvma_linux_sbrk(program.mm, program.call, INT64_MAX, &brk), -ENOMEM);

    uint64_t top = 0x7ffffffff000;
    struct kvma_linux_install_args stack = {top - 33 * PAGE, top, 0x100173, 0, NULL,
                                            KVMA_ROLE_OBJECT};
    CHECK_EQ(kvma_linux_install(program.mm, program.call, &stack), 0);
    CHECK_EQ(kvma_linux_install(program.mm, program.call, &stack), -EEXIST);
    CHECK_EQ(kvma_linux_set_start_stack(program.mm, top - 8), KVMA_OK);
    CHECK_EQ(kvma_linux_start_stack(program.mm), top - 8);
    CHECK_EQ(kvma_linux_grow_stack(program.mm, program.call, top - 100 * PAGE), 0);
    CHECK_EQ(kvma_linux_grow_stack(program.mm, program.call, top - (16 << 20)), -ENOMEM);
    static struct kvma_file vdso = {.id = 1, .name = "[vdso]"};
    struct kvma_linux_install_args special = {0x7fff00000000, 0x7fff00002000,   0x75, 0,
                                              &vdso,          KVMA_ROLE_SPECIAL};
    CHECK_EQ(kvma_linux_install(program.mm, program.call, &special), 0);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, 0x7fff00000000, PAGE), -EINVAL);
    CHECK_EQ(kvma_linux_set_gate(program.mm, KVMA_GATE_EXECUTE), KVMA_OK);
    CHECK_EQ(kvma_linux_set_gate(program.mm, 9), KVMA_BAD_ARGUMENT);
    struct text text = {.len = 0};
    CHECK_EQ(kvma_linux_maps(program.mm, append, &text), KVMA_OK);
    CHECK(strstr(text.buffer, "20000000-20003000 rw-p 00000000 00:00 0") != NULL);
    CHECK(strstr(text.buffer, "[heap]\n") && strstr(text.buffer, "[stack]\n") &&
          strstr(text.buffer, "[vdso]\n"));
    CHECK(strstr(text.buffer, "[vsyscall]\n") != NULL);
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    CHECK_EQ(kvma_linux_clear(program.mm, program.call, &layout), 0);
    CHECK_EQ(kvma_linux_map_count(program.mm), 0);
    CHECK_EQ(kernel.committed, 0);
    end(program);
}

TEST(moves_locks_seals_and_advises) {
    struct kvma_kernel table = callbacks();
    struct program program = start(&table);
    uint64_t at, moved;
    CHECK_EQ(map(program, 0x10000000, 2 * PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, &at),
             0);
    CHECK_EQ(kvma_linux_mremap(program.mm, program.call, at, 2 * PAGE, 4 * PAGE, 0, 0, &moved), 0);
    CHECK_EQ(moved, at);
    CHECK_EQ(
        kvma_linux_mremap(program.mm, program.call, at, 4 * PAGE, 4 * PAGE, 3, 0x30000000, &moved),
        0);
    CHECK_EQ(moved, 0x30000000);
    at = moved;
    CHECK_EQ(kvma_linux_note_write(program.mm, at), KVMA_OK);
    CHECK_EQ(kvma_linux_madvise(program.mm, program.call, at, PAGE, MADV_DONTNEED), 0);
    CHECK_EQ(kernel.page_ops, 1);
    CHECK_EQ(kvma_linux_madvise(program.mm, program.call, at, PAGE, 12345), -EINVAL);
    CHECK_EQ(kvma_linux_mlock(program.mm, program.call, at, PAGE), 0);
    CHECK_EQ(kvma_linux_mlock2(program.mm, program.call, at, PAGE, 1), 0);
    CHECK_EQ(kvma_linux_munlock(program.mm, program.call, at, PAGE), 0);
    CHECK_EQ(kvma_linux_mlockall(program.mm, program.call, 1), 0);
    CHECK_EQ(kvma_linux_munlockall(program.mm, program.call), 0);
    CHECK_EQ(kvma_linux_set_limit(program.mm, KVMA_LIMIT_MEM_LOCK, 0), KVMA_OK);
    CHECK_EQ(kvma_linux_limit(program.mm, KVMA_LIMIT_MEM_LOCK), 0);
    CHECK_EQ(kvma_linux_set_limit(program.mm, 9, 0), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_linux_mlock(program.mm, program.call, at, PAGE), -EPERM);
    CHECK_EQ(kvma_linux_mseal(program.mm, program.call, at, PAGE, 0), 0);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at, PAGE), -EPERM);
    CHECK_EQ(kvma_linux_set_max_map_count(program.mm, 1), KVMA_OK);
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), -ENOMEM);
    CHECK_EQ(kvma_overcommit_decide(KVMA_OVERCOMMIT_HEURISTIC, 11, 0, 10, 0), -ENOMEM);
    CHECK_EQ(kvma_overcommit_decide(KVMA_OVERCOMMIT_ALWAYS, 11, 0, 10, 0), 0);
    end(program);
}

static int inherited, inherited_when_flushed, flushes_after_inherit;

static void flush_after_inherit(void *udata) {
    CHECK(udata == &kernel);
    flushes_after_inherit += inherited > inherited_when_flushed;
    inherited_when_flushed = inherited;
}

static int32_t inherit(void *udata, uint32_t how, const struct kvma_piece *vma) {
    CHECK(udata == &kernel && vma->range.len > 0 && how == KVMA_INHERIT_COPY_ON_WRITE);
    inherited++;
    return kernel.refuse_shared;
}

TEST(forks) {
    struct kvma_kernel table = callbacks();
    struct kvma_linux *child = NULL;
    table.inherit = inherit;
    hooks.flush_begin = flush_after_inherit;
    inherited = inherited_when_flushed = flushes_after_inherit = 0;
    struct program program = start(&table);
    struct kvma_file file = {.ops = &counted,
                             .id = 9,
                             .inode = 42,
                             .major = 8,
                             .minor = 1,
                             .name = "/usr/bin/true"};
    struct kvma_open_file open = {&file, KVMA_FILE_READ, 0, 0};
    uint64_t at;
    CHECK_EQ(
        map(program, 0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
        0);
    CHECK_EQ(kvma_linux_note_write(program.mm, at), KVMA_OK);
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_PRIVATE, &open, &at), 0);
    CHECK_EQ(kvma_linux_fork(program.mm, program.call, &child), KVMA_OK);
    CHECK_EQ(kvma_linux_map_count(child), 2);
    CHECK_EQ(inherited, 2);
    CHECK_EQ(flushes_after_inherit, 1);
    CHECK_EQ(kernel.committed, 8 * PAGE);
    CHECK_EQ(kvma_linux_free(child), KVMA_OK);
    kernel.refuse_shared = EAGAIN;
    CHECK_EQ(kvma_linux_fork(program.mm, program.call, &child), -EAGAIN);
    CHECK(child == NULL);
    CHECK_EQ(flushes_after_inherit, 2);
    CHECK_EQ(kvma_linux_fork(NULL, program.call, &child), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_fork(program.mm, NULL, &child), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_fork(program.mm, program.call, NULL), KVMA_NULL_POINTER);
    end(program);
    CHECK_EQ(kernel.gets, kernel.puts);
}

TEST(faults) {
    struct program program = start(NULL);
    uint64_t at, action;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
             0);
    struct kvma_linux_fault_args fault = {at, KVMA_ACCESS_READ, false, 0};
    CHECK_EQ(kvma_linux_fault(program.mm, program.call, &fault, &action), 0);
    CHECK_EQ(action, KVMA_FAULT_MAP);
    fault.access = KVMA_ACCESS_WRITE;
    CHECK_EQ(kvma_linux_fault(program.mm, program.call, &fault, &action), 0);
    CHECK_EQ(action, KVMA_FAULT_COPY);
    fault.access = KVMA_ACCESS_EXECUTE;
    CHECK_EQ(kvma_linux_fault(program.mm, program.call, &fault, &action), 0);
    CHECK_EQ(action, KVMA_FAULT_ACCERR);
    fault.addr = at + PAGE;
    CHECK_EQ(kvma_linux_fault(program.mm, program.call, &fault, &action), 0);
    CHECK_EQ(action, KVMA_FAULT_MAPERR);
    fault.access = 3;
    CHECK_EQ(kvma_linux_fault(program.mm, program.call, &fault, &action), -EINVAL);
    CHECK_EQ(kvma_linux_fault(program.mm, program.call, NULL, &action), -EFAULT);
    end(program);
}

TEST(names_keys_and_policy) {
    struct program program = start(NULL);
    uint64_t at, key, advised;
    static struct kvma_file name = {.id = 1, .name = "heap of mine"};
    struct text text = {.len = 0};
    CHECK_EQ(map(program, 0, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), 0);
    CHECK_EQ(kvma_linux_set_anon_name(program.mm, program.call, at, PAGE, &name), 0);
    CHECK_EQ(kvma_linux_maps(program.mm, append, &text), KVMA_OK);
    CHECK(strstr(text.buffer, "[anon:heap of mine]\n") != NULL);
    CHECK_EQ(kvma_linux_set_anon_name(program.mm, program.call, at, PAGE, NULL), 0);
    CHECK_EQ(kvma_linux_pkey_alloc(program.mm, 0, 0, &key), 0);
    CHECK_EQ(kvma_linux_pkey_mprotect(program.mm, program.call, at, PAGE, PROT_READ, key), 0);
    CHECK_EQ(kvma_linux_pkey_mprotect(program.mm, program.call, at, PAGE, PROT_READ, 9), -EINVAL);
    CHECK_EQ(kvma_linux_pkey_free(program.mm, key), 0);
    CHECK_EQ(kvma_linux_pkey_free(program.mm, key), -EINVAL);
    CHECK_EQ(kvma_linux_mincore(program.mm, program.call, at, PAGE), 0);
    CHECK_EQ(kvma_linux_mincore(program.mm, program.call, at, 4 * PAGE), -ENOMEM);
    struct kvma_iovec ranges[] = {{at, PAGE}, {at + PAGE, PAGE}};
    CHECK_EQ(kvma_linux_process_madvise(program.mm, program.call, true, ranges, 2, MADV_DONTNEED, 0,
                                        &advised),
             0);
    CHECK_EQ(advised, 2 * PAGE);
    CHECK_EQ(kvma_linux_process_madvise(program.mm, program.call, false, ranges, 2, MADV_DONTNEED,
                                        0, &advised),
             -EINVAL);
    CHECK_EQ(kvma_linux_process_madvise(program.mm, program.call, true, NULL, 2, MADV_DONTNEED, 0,
                                        &advised),
             -EFAULT);
    CHECK_EQ(kvma_linux_set_policy(program.mm, KVMA_WRITE_EXEC_NEVER, 0), KVMA_OK);
    CHECK_EQ(kvma_linux_mprotect(program.mm, program.call, at, PAGE, PROT_READ | PROT_EXEC),
             -EACCES);
    CHECK_EQ(kvma_linux_set_policy(program.mm, 4, 0), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_linux_set_policy(program.mm, 0, 1), KVMA_UNALIGNED);
    CHECK_EQ(kvma_linux_unserved(216), -ENOSYS); /* remap_file_pages */
    CHECK_EQ(kvma_linux_unserved(9), 0);         /* mmap */
    end(program);
}

static void *nothing(void *ctx, size_t size, size_t align) {
    if (*(long *)ctx <= 0)
        return NULL;
    --*(long *)ctx;
    return aligned_alloc(align, size);
}

static void release(void *ctx, void *memory, size_t size, size_t align) {
    (void)ctx, (void)size, (void)align;
    free(memory);
}

TEST(no_memory_is_enomem) {
    long left = 3;
    struct kvma_allocator table = {sizeof table, nothing, release, &left};
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    struct program program = {NULL, NULL};
    uint64_t at;
    CHECK_EQ(kvma_linux_new(&program.mm, &layout, &table), KVMA_OK);
    left = 1;
    CHECK_EQ(kvma_linux_call_new(&program.call, program.mm, NULL, 1), KVMA_OUT_OF_MEMORY);
    CHECK(program.call == NULL);
    left = 2;
    CHECK_EQ(kvma_linux_call_new(&program.call, program.mm, NULL, 0), KVMA_OK);
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), -ENOMEM);
    CHECK_EQ(kvma_linux_map_count(program.mm), 0);
    left = 1;
    CHECK_EQ(map(program, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), 0);
    end(program);
    left = 1;
    CHECK_EQ(kvma_linux_new(&program.mm, &layout, &table), KVMA_OUT_OF_MEMORY);
    layout.base = 1;
    CHECK_EQ(kvma_linux_new(&program.mm, &layout, NULL), KVMA_UNALIGNED);
}

static int32_t charge_strictly(void *udata, uint64_t bytes, uint64_t total) {
    CHECK(udata == &kernel);
    /* A 32nd of what the process has is kept back from it. */
    if ((uint64_t)kernel.committed + bytes >= kernel.memory - total / 32)
        return ENOMEM;
    kernel.committed += (int64_t)bytes;
    return 0;
}

TEST(charges_and_limits_by_how_large_a_process_is) {
    struct kvma_kernel table = callbacks();
    table.charge = charge_strictly;
    struct program program = start(&table);
    uint64_t at;
    kernel.memory = 100 * PAGE;
    CHECK_EQ(map(program, 0, 640 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), 0);
    CHECK_EQ(
        map(program, 0, 80 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
        -ENOMEM);
    CHECK_EQ(
        map(program, 0, 79 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
        0);
    CHECK_EQ(kernel.committed, 79 * PAGE);
    CHECK_EQ(kvma_linux_munmap(program.mm, program.call, at, 79 * PAGE), 0);
    CHECK_EQ(kernel.committed, 0);
    CHECK_EQ(kvma_linux_set_limit(program.mm, KVMA_LIMIT_DATA, 0), KVMA_OK);
    CHECK_EQ(kvma_linux_set_limit(program.mm, KVMA_LIMIT_DATA_MAX, 8 * PAGE), KVMA_OK);
    CHECK_EQ(
        map(program, 0, 9 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
        -ENOMEM);
    CHECK_EQ(
        map(program, 0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at),
        0);
    end(program);
}

TEST(null_is_a_status) {
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(UINT64_MAX);
    struct program none = {NULL, NULL}, program = start(NULL);
    struct kvma_vma vma;
    uint64_t at;
    CHECK(!layout.bottom_up);
    CHECK_EQ(kvma_linux_new(NULL, &layout, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_new(&none.mm, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_free(NULL), KVMA_OK);
    CHECK_EQ(kvma_linux_call_finish(NULL), KVMA_OK);
    CHECK_EQ(map(none, 0, PAGE, 1, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_mmap(program.mm, program.call, NULL, &at), -EFAULT);
    CHECK_EQ(kvma_linux_mmap(program.mm, NULL, NULL, &at), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_munmap(none.mm, none.call, 0, PAGE), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_install(program.mm, program.call, NULL), -EFAULT);
    CHECK_EQ(kvma_linux_find(NULL, 0, &vma), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_map_count(NULL), 0);
    CHECK_EQ(kvma_linux_set_start_brk(NULL, 0, 0), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_get_usage(NULL, NULL), KVMA_NULL_POINTER);
    /* Without a kernel: no shared memory, and everything else. */
    CHECK_EQ(map(program, 0, PAGE, 1, MAP_SHARED | MAP_ANONYMOUS, NULL, &at), -ENOMEM);
    CHECK_EQ(map(program, 0, PAGE, 1, MAP_PRIVATE | MAP_ANONYMOUS, NULL, &at), 0);
    end(program);
}

TESTS(RUN(maps_protects_and_unmaps_as_linux_does), RUN(files_are_counted_and_listed),
      RUN(shared_memory_is_the_kernels),
      RUN(files_have_flags_restrictions_and_seals), RUN(segments_are_attached_and_detached),
      RUN(a_processor_without_protection_keys_has_none), RUN(the_heap_and_the_stack),
      RUN(moves_locks_seals_and_advises), RUN(forks), RUN(faults), RUN(names_keys_and_policy),
      RUN(no_memory_is_enomem), RUN(null_is_a_status),
      RUN(charges_and_limits_by_how_large_a_process_is))
