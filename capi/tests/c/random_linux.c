/* Random system calls, with memory that runs out and limits in the way: no call breaks, counts stay
 * right, and every reference to a file is given up. */
#include "random.h"

#include <sys/mman.h>

static struct kvma_linux *mm;
static struct kvma_linux_call *in_call;

static uint64_t address(void) {
    static const uint64_t edges[] = {0,
                                     1,
                                     0xfff,
                                     0x1000,
                                     0x1001,
                                     0x10000,
                                     0x200000,
                                     0x40000000,
                                     0x7ffffffff000,
                                     0x7fffffffe000,
                                     0x800000000000,
                                     UINT64_MAX,
                                     UINT64_MAX - 0xfff,
                                     (uint64_t)1 << 63,
                                     0xffffffffff600000};
    switch (up_to(4)) {
    case 0:
        return edges[up_to(sizeof edges / sizeof *edges)];
    case 1:
        return random_bits() >> up_to(64);
    default:
        return 0x10000 + up_to(64) * 0x1000;
    }
}

static uint64_t length(void) {
    return one_in(6) ? address() : up_to(12) * 0x1000;
}

static long references;

static void get(struct kvma_file *file) {
    (void)file;
    references++;
}

static void put(struct kvma_file *file) {
    (void)file;
    references--;
}

static const struct kvma_file_ops counted = {sizeof(struct kvma_file_ops), get, put};

/* An ordinary file, one that likes huge pages, one that consists of them. */
static struct kvma_file files[3] = {
    {.ops = &counted, .id = 1, .name = "plain"},
    {.ops = &counted, .id = 2, .name = "large", .huge = true},
    {.ops = &counted, .id = 3, .name = "huge", .huge_page = 2 << 20}};

static struct kvma_file *any_file(void) {
    return one_in(3) ? NULL : &files[up_to(3)];
}

static struct kvma_file *shared_memory(void *udata, uint64_t len, uint64_t vm_flags,
                                       int32_t *error) {
    (void)udata, (void)len, (void)vm_flags, (void)error;
    if (one_in(8))
        return NULL;
    get(&files[0]);
    return &files[0];
}

static struct kvma_file *huge_memory(void *udata, uint64_t page, uint64_t len, uint64_t vm_flags,
                                     int32_t *error) {
    (void)udata, (void)vm_flags, (void)error;
    CHECK_EQ(len % page, 0);
    get(&files[2]);
    return &files[2];
}

static bool read_text(void *udata, const char *text, size_t len) {
    (void)udata;
    CHECK(text && len > 0);
    return true;
}

static void map(void) {
    struct kvma_open_file file = {&files[up_to(3)], (uint32_t)up_to(4),
                                  (uint32_t)(one_in(4) ? up_to(64) : 0), 0};
    struct kvma_linux_mmap_args args = {.addr = address(), .len = length(), .prot = up_to(8)};
    args.flags = 1 + up_to(3);
    args.flags |= one_in(2) ? MAP_FIXED : 0;
    args.flags |= one_in(2) ? MAP_ANONYMOUS : 0;
    args.flags |= one_in(3) ? (uint64_t)1 << up_to(32) : 0;
    args.offset = one_in(2) ? address() : 0;
    args.file = one_in(2) ? &file : NULL;
    whole(kvma_linux_mmap(mm, in_call, &args, NULL));
}

static void set_up(const struct kvma_linux_layout *layout) {
    struct kvma_linux_layout other = *layout;
    other.base = address();
    other.bottom = address();
    other.huge = address();
    other.guard_gap = address();
    if (kvma_linux_set_layout(mm, &other) == KVMA_OK)
        map();
    CHECK_EQ(kvma_linux_set_layout(mm, layout), KVMA_OK);
    whole(kvma_linux_set_limit(mm, (uint32_t)up_to(5), address()));
    if (one_in(2))
        for (uint32_t limit = 0; limit < 4; limit++)
            CHECK_EQ(kvma_linux_set_limit(mm, limit, UINT64_MAX), KVMA_OK);
    whole(kvma_linux_set_policy(mm, (uint32_t)up_to(4), one_in(4) ? address() : 0));
    CHECK_EQ(kvma_linux_set_max_map_count(mm, one_in(3) ? up_to(50) : 65530), KVMA_OK);
}

static void install(void) {
    struct kvma_linux_install_args args = {
        .start = address(), .offset = address(), .file = any_file()};
    args.end = args.start + length();
    args.vm_flags = one_in(3) ? random_bits() : 0x73 | (one_in(2) ? 0x100 : 0);
    args.role = (uint32_t)up_to(4);
    whole(kvma_linux_install(mm, in_call, &args));
}

static void fault(void) {
    struct kvma_linux_fault_args args = {address(), (uint32_t)up_to(4), one_in(2), address()};
    uint64_t action = 0, checked = 0;
    kvma_status status = whole(kvma_linux_check_access(mm, &args, &checked));
    CHECK_EQ(kvma_linux_fault(mm, in_call, &args, &action), status);
    if (status == KVMA_OK)
        CHECK(checked == KVMA_FAULT_UNDECIDED || checked == action);
}

static void fork_and_look(void) {
    struct kvma_linux *child = NULL;
    struct kvma_walk walk = kvma_walk_over(address(), length());
    struct kvma_range gap;
    uint32_t role;
    uint64_t vma;
    if (whole(kvma_linux_fork(mm, in_call, &child)) == KVMA_OK) {
        CHECK_EQ(kvma_linux_check(child), KVMA_OK);
        CHECK_EQ(kvma_linux_free(child), KVMA_OK);
    }
    while (kvma_linux_next_gap(mm, &walk, &gap))
        CHECK(gap.len > 0);
    whole(kvma_linux_role(mm, address(), &role));
    whole(kvma_linux_unmapped_area(mm, length(), &vma));
    CHECK_EQ(kvma_linux_maps(mm, read_text, NULL), KVMA_OK);
}

static void call(const struct kvma_linux_layout *layout) {
    const struct kvma_iovec ranges[] = {{address(), length()}, {address(), length()}};
    uint64_t key;
    switch (up_to(26)) {
    default:
        map();
        break;
    case 0:
        whole(kvma_linux_munmap(mm, in_call, address(), length()));
        break;
    case 1:
        whole(kvma_linux_mprotect(mm, in_call, address(), length(),
                                  up_to(16) | (one_in(9) ? PROT_GROWSDOWN : 0)));
        break;
    case 2:
        whole(kvma_linux_pkey_alloc(mm, 0, up_to(5), &key));
        whole(kvma_linux_pkey_mprotect(mm, in_call, address(), length(), up_to(8), up_to(17)));
        whole(kvma_linux_pkey_free(mm, up_to(17)));
        break;
    case 3:
    case 4:
        whole(kvma_linux_mremap(mm, in_call, address(), length(), length(), up_to(8), address(),
                                NULL));
        break;
    case 5:
        whole(kvma_linux_brk(mm, in_call, one_in(2) ? address() : 0x5555550000 + up_to(100000),
                             NULL));
        whole(kvma_linux_sbrk(mm, in_call, (int64_t)address(), NULL));
        break;
    case 6:
        whole(kvma_linux_madvise(mm, in_call, address(), length(), up_to(110)));
        break;
    case 7:
        whole(kvma_linux_mlock2(mm, in_call, address(), length(), up_to(3)));
        whole(kvma_linux_munlock(mm, in_call, address(), length()));
        break;
    case 8:
        whole(kvma_linux_mlockall(mm, in_call, up_to(9)));
        whole(kvma_linux_munlockall(mm, in_call));
        break;
    case 9:
        if (one_in(4))
            whole(kvma_linux_mseal(mm, in_call, address(), length(), up_to(2)));
        break;
    case 10:
        whole(kvma_linux_msync(mm, in_call, address(), length(), up_to(8)));
        whole(kvma_linux_mincore(mm, in_call, address(), length()));
        break;
    case 11:
        whole(kvma_linux_set_anon_name(mm, in_call, address(), length(), any_file()));
        break;
    case 12:
        whole(kvma_linux_process_madvise(mm, in_call, one_in(2), ranges, up_to(3), up_to(26),
                                         up_to(2), NULL));
        break;
    case 13:
        fault();
        whole(kvma_linux_grow_stack(mm, in_call, address()));
        break;
    case 14:
        fork_and_look();
        break;
    case 15:
        install();
        break;
    case 16:
        set_up(layout);
        break;
    }
}

static void play(int calls) {
    struct kvma_kernel kernel = {
        .size = sizeof kernel, .shared_memory = shared_memory, .huge_memory = huge_memory};
    struct kvma_linux_layout layout = kvma_linux_layout_x86_64(8 << 20);
    layout.bottom_up = one_in(3);
    layout = kvma_linux_layout_randomised(layout, random_bits(), (uint32_t)up_to(40));
    kernel.capabilities = (uint32_t)up_to(8);
    kernel.overcommit = (uint32_t)up_to(3);
    CHECK_EQ(kvma_linux_new(&mm, &layout, &heap), KVMA_OK);
    CHECK_EQ(kvma_linux_call_new(&in_call, mm, &kernel, 3), KVMA_OK);
    CHECK_EQ(kvma_linux_set_start_brk(mm, 0x5555550000, up_to(0x10000)), KVMA_OK);
    CHECK_EQ(kvma_linux_set_start_stack(mm, address()), KVMA_OK);
    for (int i = 0; i < calls && is_more(); i++) {
        heap_left = one_in(4) ? (long)up_to(4) : -1;
        call(&layout);
        heap_left = -1;
        if (i % 16 == 0)
            CHECK_EQ(kvma_linux_check(mm), KVMA_OK);
    }
    CHECK_EQ(kvma_linux_check(mm), KVMA_OK);
    CHECK_EQ(kvma_linux_clear(mm, in_call, &layout), KVMA_OK);
    CHECK_EQ(kvma_linux_map_count(mm), 0);
    CHECK_EQ(kvma_linux_call_finish(in_call), KVMA_OK);
    CHECK_EQ(kvma_linux_free(mm), KVMA_OK);
    CHECK_EQ(references, 0);
    CHECK_EQ(heap_out, 0);
}

TEST(counts_stay_right_and_references_are_given_up) {
    for (int round = 0; round < 120; round++)
        play(250);
}

INPUT {
    play(500);
}

TESTS_AND_INPUTS(RUN(counts_stay_right_and_references_are_given_up))
