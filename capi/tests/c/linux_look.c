/* Looking at a program's address space, and what goes in and out of it as text. */
#include "test.h"

#include <errno.h>
#include <kvma.h>
#include <sys/mman.h>

#define PAGE ((uint64_t)0x1000)
#define MIB ((uint64_t)1 << 20)

static struct kvma_linux *mm;
static struct kvma_linux_call *in_call;

static void start(const struct kvma_kernel *kernel) {
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    CHECK_EQ(kvma_linux_new(&mm, &layout, NULL), KVMA_OK);
    CHECK_EQ(kvma_linux_call_new(&in_call, mm, kernel, 3), KVMA_OK);
}

static void end(void) {
    CHECK_EQ(kvma_linux_check(mm), KVMA_OK);
    CHECK_EQ(kvma_linux_call_finish(in_call), KVMA_OK);
    CHECK_EQ(kvma_linux_free(mm), KVMA_OK);
}

static uint64_t map(uint64_t addr, uint64_t len, uint64_t prot, uint64_t flags) {
    struct kvma_linux_mmap_args args = {.addr = addr, .len = len, .prot = prot, .flags = flags};
    uint64_t at = 0;
    if (addr)
        args.flags |= MAP_FIXED;
    CHECK_EQ(kvma_linux_mmap(mm, in_call, &args, &at), KVMA_OK);
    return at;
}

/* Text as it comes. */
static char said[512];

static bool hear(void *udata, const char *text, size_t len) {
    size_t *used = udata;
    CHECK(*used + len < sizeof said);
    memcpy(said + *used, text, len);
    *used += len;
    said[*used] = 0;
    return true;
}

static bool hear_nothing(void *udata, const char *text, size_t len) {
    (void)udata, (void)text, (void)len;
    return false;
}

TEST(walks_from_above_and_gaps) {
    struct kvma_walk walk = kvma_walk_over(0, UINT64_MAX);
    struct kvma_vma vma;
    struct kvma_range gap;
    start(NULL);
    map(4 * MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
    map(8 * MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
    CHECK(kvma_linux_prev(mm, &walk, &vma) && vma.range.start == 8 * MIB);
    CHECK(kvma_linux_prev(mm, &walk, &vma) && vma.range.start == 4 * MIB);
    CHECK(!kvma_linux_prev(mm, &walk, &vma));
    CHECK_EQ(kvma_linux_find_from(mm, 5 * MIB, &vma), KVMA_OK);
    CHECK_EQ(vma.range.start, 8 * MIB);
    CHECK_EQ(kvma_linux_find_from(mm, 9 * MIB, &vma), KVMA_NOT_MAPPED);
    walk = kvma_walk_over(4 * MIB, 5 * MIB);
    CHECK(kvma_linux_next_gap(mm, &walk, &gap));
    CHECK_EQ(gap.start, 4 * MIB + PAGE);
    CHECK_EQ(gap.last, 8 * MIB - 1);
    CHECK(kvma_linux_next_gap(mm, &walk, &gap) && gap.start == 8 * MIB + PAGE &&
          gap.last == 9 * MIB - 1);
    CHECK(!kvma_linux_next_gap(mm, &walk, &gap));
    end();
}

TEST(settings_are_read_back) {
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20), now, moved;
    uint32_t write_exec;
    uint64_t guard, addr;
    CHECK_EQ(layout.page_size, PAGE);
    CHECK_EQ(layout.task_size, ((uint64_t)1 << 47) - PAGE);
    CHECK_EQ(layout.user_min_addr, PAGE);
    CHECK_EQ(layout.min_addr, 0x10000);
    moved = kvma_linux_layout_randomised(layout, 0xf00000005, 28);
    CHECK_EQ(moved.base, layout.base - 5 * PAGE);
    CHECK_EQ(moved.bottom, layout.bottom + 5 * PAGE);
    moved.user_min_addr = 2 * PAGE;
    moved.bottom_up = true;
    CHECK_EQ(kvma_linux_new(&mm, &moved, NULL), KVMA_OK);
    CHECK_EQ(kvma_linux_call_new(&in_call, mm, NULL, 3), KVMA_OK);
    CHECK_EQ(kvma_linux_get_layout(mm, &now), KVMA_OK);
    CHECK_EQ(now.base, moved.base);
    CHECK_EQ(now.bottom, moved.bottom);
    CHECK_EQ(now.user_min_addr, 2 * PAGE);
    CHECK(now.bottom_up && now.task_size == layout.task_size);
    CHECK_EQ(map(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), moved.bottom);

    CHECK_EQ(kvma_linux_get_policy(mm, &write_exec, &guard), KVMA_OK);
    CHECK(write_exec == KVMA_WRITE_EXEC_ALLOWED && guard == 0);
    CHECK_EQ(kvma_linux_set_policy(mm, KVMA_WRITE_EXEC_NEVER, 2 * PAGE), KVMA_OK);
    CHECK_EQ(kvma_linux_get_policy(mm, &write_exec, &guard), KVMA_OK);
    CHECK(write_exec == KVMA_WRITE_EXEC_NEVER && guard == 2 * PAGE);
    CHECK_EQ(kvma_linux_gate(mm), KVMA_GATE_NONE);
    CHECK_EQ(kvma_linux_set_gate(mm, KVMA_GATE_READ_EXECUTE), KVMA_OK);
    CHECK_EQ(kvma_linux_gate(mm), KVMA_GATE_READ_EXECUTE);
    CHECK_EQ(kvma_linux_rules(mm), 6018);

    layout.guard_gap = 7;
    CHECK_EQ(kvma_linux_set_layout(mm, &layout), KVMA_UNALIGNED);
    CHECK_EQ(kvma_linux_set_layout(mm, NULL), KVMA_NULL_POINTER);
    layout.guard_gap = PAGE;
    CHECK_EQ(kvma_linux_set_layout(mm, &layout), KVMA_OK);
    CHECK_EQ(kvma_linux_set_policy(mm, KVMA_WRITE_EXEC_ALLOWED, 0), KVMA_OK);
    CHECK_EQ(kvma_linux_unmapped_area(mm, PAGE, &addr), KVMA_OK);
    CHECK_EQ(addr, layout.base - PAGE);
    CHECK_EQ(map(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), addr);
    CHECK_EQ(kvma_linux_unmapped_area(mm, (uint64_t)1 << 47, &addr), -ENOMEM);
    end();
}

TEST(roles_of_files) {
    struct kvma_file name = {.name = "[vdso]"};
    struct kvma_linux_install_args args = {
        .start = 4 * MIB, .end = 4 * MIB + PAGE, .vm_flags = 0x75};
    uint32_t role = 9;
    start(NULL);
    args.file = &name;
    args.role = KVMA_ROLE_SPECIAL;
    CHECK_EQ(kvma_linux_install(mm, in_call, &args), KVMA_OK);
    map(8 * MIB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
    CHECK_EQ(kvma_linux_role(mm, 4 * MIB + 1, &role), KVMA_OK);
    CHECK_EQ(role, KVMA_ROLE_SPECIAL);
    CHECK_EQ(kvma_linux_role(mm, 8 * MIB, &role), KVMA_OK);
    CHECK_EQ(role, KVMA_ROLE_OBJECT);
    CHECK_EQ(kvma_linux_role(mm, 9 * MIB, &role), KVMA_NOT_MAPPED);
    end();
}

static uint64_t check_access(uint64_t addr, uint32_t access) {
    struct kvma_linux_fault_args fault = {.addr = addr, .access = access};
    uint64_t action = 99;
    CHECK_EQ(kvma_linux_check_access(mm, &fault, &action), KVMA_OK);
    return action;
}

TEST(faults_are_checked_without_a_change) {
    struct kvma_linux_fault_args write = {.addr = 4 * MIB + 5, .access = KVMA_ACCESS_WRITE};
    struct kvma_linux_fault_args nonsense = {.access = 7};
    uint64_t action;
    start(NULL);
    map(4 * MIB, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    CHECK_EQ(check_access(4 * MIB, KVMA_ACCESS_READ), KVMA_FAULT_MAP);
    CHECK_EQ(check_access(4 * MIB, KVMA_ACCESS_EXECUTE), KVMA_FAULT_ACCERR);
    CHECK_EQ(check_access(5 * MIB, KVMA_ACCESS_READ), KVMA_FAULT_UNDECIDED);
    CHECK_EQ(check_access(4 * MIB, KVMA_ACCESS_WRITE), KVMA_FAULT_UNDECIDED);
    CHECK_EQ(kvma_linux_fault(mm, in_call, &write, &action), KVMA_OK);
    CHECK_EQ(action, KVMA_FAULT_COPY);
    CHECK_EQ(check_access(4 * MIB, KVMA_ACCESS_WRITE), KVMA_FAULT_COPY);
    CHECK_EQ(kvma_linux_check_access(mm, NULL, &action), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_check_access(NULL, &write, &action), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_linux_check_access(mm, &nonsense, &action), -EINVAL);
    end();
}

TEST(lines_of_maps_files_are_read) {
    const char *good = "00651000-00652000 r-xs 00051000 08:02 173521      /usr/bin/a b";
    const char *bad[] = {"", "1-", "00651000-00652000 r-xq 00051000 08:02 173521",
                         "2000-1000 r-xp 0 0:0 0", "\xff"};
    struct kvma_maps_line line = {.start = 7};
    uint64_t flags;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(kvma_maps_parse_line(bad[i], strlen(bad[i]), &line), KVMA_BAD_ARGUMENT);
    CHECK_EQ(line.start, 7);
    CHECK_EQ(kvma_maps_parse_line(NULL, 0, &line), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_maps_parse_line(good, strlen(good), &line), KVMA_OK);
    CHECK(line.start == 0x651000 && line.end == 0x652000 && line.offset == 0x51000);
    CHECK_EQ(line.flags, KVMA_READ | KVMA_EXEC | KVMA_SHARED);
    CHECK(line.major == 8 && line.minor == 2 && line.inode == 173521);
    CHECK(line.name_len == 12 && memcmp(line.name, "/usr/bin/a b", 12) == 0);
    CHECK_EQ(kvma_maps_parse_line("1000-2000 r--p 0 0:0 1 \xff\xfe", 25, &line), KVMA_OK);
    CHECK(line.name_len == 2 && memcmp(line.name, "\xff\xfe", 2) == 0);
    CHECK_EQ(kvma_maps_parse_line(good, SIZE_MAX, &line), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_maps_parse_vm_flags("VmFlags: rd wr gd", 17, &flags), KVMA_OK);
    CHECK_EQ(flags, 0x103);
    CHECK_EQ(kvma_maps_parse_vm_flags("VmFlags: rd ??", 14, &flags), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_maps_parse_vm_flags("rd", 2, &flags), KVMA_BAD_ARGUMENT);
}

TEST(flags_have_letters) {
    size_t used = 0;
    CHECK_EQ(kvma_linux_vm_flag("rd"), 1);
    CHECK_EQ(kvma_linux_vm_flag("gd"), 0x100);
    CHECK_EQ(kvma_linux_vm_flag("xx"), 0);
    CHECK_EQ(kvma_linux_vm_flag(""), 0);
    CHECK_EQ(kvma_linux_vm_flag("r"), 0);
    CHECK_EQ(kvma_linux_vm_flag(NULL), 0);
    CHECK_EQ(kvma_linux_vm_flags_text(0x103, hear, &used), KVMA_OK);
    CHECK(strcmp(said, "rd wr gd ") == 0);
    CHECK_EQ(kvma_linux_vm_flags_text(0x103, hear_nothing, NULL), KVMA_STOPPED);
    CHECK_EQ(kvma_linux_vm_flags_text(0x103, NULL, NULL), KVMA_NULL_POINTER);
}

TEST(unserved_calls_say_why) {
    size_t used = 0;
    CHECK_EQ(kvma_linux_unserved(216), -ENOSYS);
    CHECK_EQ(kvma_linux_unserved(9), 0);
    CHECK_EQ(kvma_linux_unserved_text(216, hear, &used), KVMA_OK);
    CHECK(strncmp(said, "remap_file_pages: ", 18) == 0 && used > 30);
    CHECK_EQ(kvma_linux_unserved_text(9, hear, &used), KVMA_BAD_ARGUMENT);
}

/* Huge pages of a machine that is not x86-64. */
static struct kvma_file huge_file;

static uint64_t huge_page(void *udata, uint32_t log2) {
    (void)udata;
    return log2 == 0 || log2 == 16 ? 1 << 16 : 0;
}

static struct kvma_file *huge_memory(void *udata, uint64_t page, uint64_t len, uint64_t vm_flags,
                                     int32_t *error) {
    (void)udata, (void)vm_flags, (void)error;
    CHECK_EQ(page, 1 << 16);
    CHECK_EQ(len % page, 0);
    huge_file.huge_page = page;
    return &huge_file;
}

TEST(huge_pages_are_the_kernels) {
    struct kvma_kernel kernel = {
        .size = sizeof kernel, .huge_memory = huge_memory, .huge_page = huge_page};
    struct kvma_linux_mmap_args args = {
        .len = 3 << 16, .prot = PROT_READ, .flags = MAP_PRIVATE | MAP_ANONYMOUS | 0x40000};
    struct kvma_vma vma;
    uint64_t at;
    start(&kernel);
    CHECK_EQ(kvma_linux_mmap(mm, in_call, &args, &at), KVMA_OK);
    CHECK_EQ(at % (1 << 16), 0);
    CHECK_EQ(kvma_linux_find(mm, at, &vma), KVMA_OK);
    CHECK_EQ(vma.range.len, 3 << 16);
    CHECK(vma.data == &huge_file && (vma.attrs.flags & KVMA_SPLIT_64K));
    CHECK_EQ(kvma_linux_munmap(mm, in_call, at, PAGE), -EINVAL);
    CHECK_EQ(kvma_linux_munmap(mm, in_call, at, 1 << 16), KVMA_OK);
    args.flags |= 21 << 26;
    CHECK_EQ(kvma_linux_mmap(mm, in_call, &args, &at), -EINVAL);
    end();
}

TESTS(RUN(walks_from_above_and_gaps), RUN(settings_are_read_back), RUN(roles_of_files),
      RUN(faults_are_checked_without_a_change), RUN(lines_of_maps_files_are_read),
      RUN(flags_have_letters), RUN(unserved_calls_say_why), RUN(huge_pages_are_the_kernels))
