/* The calls of kvma_vm, one after the other. */
#include "test.h"

#include <kvma.h>

#define PAGE ((uint64_t)0x1000)
#define BASE ((uint64_t)0x10000)

static struct kvma_vm *space(uint64_t pages) {
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + pages * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    return vm;
}

static void done(struct kvma_vm *vm) {
    CHECK_EQ(kvma_vm_check(vm), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

static struct kvma_request fixed(uint64_t addr, uint64_t pages, uint32_t flags) {
    struct kvma_request request = {0};
    request.placement.kind = KVMA_FIXED;
    request.placement.addr = addr;
    request.len = pages * PAGE;
    request.attrs.flags = flags;
    return request;
}

static void map(struct kvma_vm *vm, uint64_t addr, uint64_t pages, uint32_t flags) {
    struct kvma_request request = fixed(addr, pages, flags);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
}

TEST(maps_finds_and_unmaps) {
    struct kvma_vm *vm = space(16);
    struct kvma_request request = {0};
    uint64_t addr, bytes;
    struct kvma_vma vma;

    request.len = 4 * PAGE;
    request.attrs.flags = KVMA_READ;
    request.attrs.backed = true;
    request.attrs.object = 7;
    request.attrs.offset = 100 * PAGE;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE);
    CHECK_EQ(kvma_vm_unmap(vm, addr + PAGE, PAGE, NULL, &bytes), KVMA_OK);
    CHECK_EQ(bytes, PAGE);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 3 * PAGE);
    CHECK(!kvma_vm_is_empty(vm));
    CHECK_EQ(kvma_vm_find(vm, addr + 3 * PAGE, &vma), KVMA_OK);
    CHECK_EQ(vma.range.start, addr + 2 * PAGE);
    CHECK_EQ(vma.range.last, addr + 4 * PAGE - 1);
    CHECK_EQ(vma.range.len, 2 * PAGE);
    CHECK_EQ(vma.attrs.offset, 102 * PAGE);
    CHECK_EQ(vma.gap_before, PAGE);
    CHECK_EQ(kvma_vm_find(vm, addr + PAGE, &vma), KVMA_NOT_MAPPED);
    CHECK_EQ(kvma_vm_find_from(vm, addr + PAGE, &vma), KVMA_OK);
    CHECK_EQ(vma.range.start, addr + 2 * PAGE);
    CHECK_EQ(kvma_vm_find_before(vm, addr + 2 * PAGE, &vma), KVMA_OK);
    CHECK_EQ(vma.range.start, addr);
    map(vm, addr + PAGE, 2, KVMA_WRITE);
    CHECK_EQ(kvma_vm_len(vm), 3);
    CHECK_EQ(kvma_vm_clear(vm, NULL, &bytes), KVMA_OK);
    CHECK_EQ(bytes, 4 * PAGE);
    CHECK(kvma_vm_is_empty(vm));
    done(vm);
}

TEST(tells_about_the_space) {
    struct kvma_vm *vm = NULL;
    struct kvma_range range;
    /* All of the 64-bit space, to the last byte. */
    CHECK_EQ(kvma_vm_new(&vm, 0, UINT64_MAX, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_space(vm, &range), KVMA_OK);
    CHECK_EQ(range.start, 0);
    CHECK_EQ(range.last, UINT64_MAX);
    CHECK_EQ(range.len, 0);
    CHECK_EQ(kvma_vm_page_size(vm), PAGE);
    map(vm, UINT64_MAX - PAGE + 1, 1, KVMA_READ);
    CHECK_EQ(kvma_vm_find(vm, UINT64_MAX, NULL), KVMA_OK);

    /* Walks end at the last byte, from both ends. */
    struct kvma_walk walk = kvma_walk_over(0, UINT64_MAX);
    struct kvma_vma vma;
    CHECK(kvma_vm_next(vm, &walk, &vma));
    CHECK_EQ(vma.range.last, UINT64_MAX);
    CHECK(!kvma_vm_next(vm, &walk, &vma));
    struct kvma_range gap;
    walk = kvma_walk_over(0, UINT64_MAX);
    CHECK(kvma_vm_prev_gap(vm, &walk, &gap));
    CHECK_EQ(gap.start, 0);
    CHECK(!kvma_vm_prev_gap(vm, &walk, &gap));
    done(vm);
}

TEST(places_as_searched_for) {
    struct kvma_vm *vm = space(1024);
    struct kvma_search search = {0};
    uint64_t addr;
    map(vm, BASE, 1, 0);
    CHECK_EQ(kvma_vm_find_gap(vm, PAGE, NULL, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE + PAGE);
    search.flags = KVMA_TOP_DOWN;
    CHECK_EQ(kvma_vm_find_gap(vm, PAGE, &search, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE + 1023 * PAGE);
    search = (struct kvma_search){.align = 0x10000};
    CHECK_EQ(kvma_vm_find_gap(vm, PAGE, &search, &addr), KVMA_OK);
    CHECK_EQ(addr, 0x20000);
    search = (struct kvma_search){.flags = KVMA_HINTED, .hint = BASE + 9 * PAGE};
    CHECK_EQ(kvma_vm_find_gap(vm, PAGE, &search, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE + 9 * PAGE);
    search = (struct kvma_search){.first = BASE + 3 * PAGE, .last = BASE + 5 * PAGE - 1};
    CHECK_EQ(kvma_vm_find_gap(vm, 2 * PAGE, &search, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE + 3 * PAGE);
    CHECK_EQ(kvma_vm_find_gap(vm, 3 * PAGE, &search, &addr), KVMA_NO_SPACE);
    search = (struct kvma_search){.guard = PAGE};
    CHECK_EQ(kvma_vm_find_gap(vm, PAGE, &search, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE + 2 * PAGE);
    /* Random, and all over the space; what a number gives, it gives again. */
    int upper = 0;
    search = (struct kvma_search){.flags = KVMA_RANDOMISED};
    for (search.random = 0; search.random < 64; search.random++) {
        uint64_t again;
        CHECK_EQ(kvma_vm_find_gap(vm, 8 * PAGE, &search, &addr), KVMA_OK);
        CHECK_EQ(kvma_vm_find_gap(vm, 8 * PAGE, &search, &again), KVMA_OK);
        CHECK_EQ(addr, again);
        CHECK(kvma_vm_is_free(vm, addr, 8 * PAGE));
        upper += addr >= BASE + 512 * PAGE;
    }
    CHECK(upper > 16 && upper < 48);
    search = (struct kvma_search){.flags = 8};
    CHECK_EQ(kvma_vm_find_gap(vm, PAGE, &search, &addr), KVMA_BAD_ARGUMENT);
    CHECK(kvma_vm_is_free(vm, BASE + PAGE, PAGE));
    CHECK(!kvma_vm_is_free(vm, BASE, PAGE));
    struct kvma_request request = fixed(BASE, 1, 0);
    request.placement.kind = KVMA_FIXED_NOREPLACE;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, &addr), KVMA_OVERLAP);
    CHECK_EQ(kvma_errno(KVMA_OVERLAP), 17);
    done(vm);
}

TEST(walks_vmas_pieces_and_gaps) {
    struct kvma_vm *vm = space(16);
    struct kvma_walk walk;
    struct kvma_vma vma;
    struct kvma_piece piece;
    struct kvma_range gap;
    struct kvma_request file = fixed(BASE, 4, KVMA_READ);
    file.attrs.backed = true;
    CHECK_EQ(kvma_vm_map(vm, &file, NULL, NULL), KVMA_OK);
    map(vm, BASE + 6 * PAGE, 2, KVMA_WRITE);

    walk = kvma_walk_over(BASE + 2 * PAGE, 8 * PAGE);
    CHECK(kvma_vm_next(vm, &walk, &vma) && vma.range.start == BASE);
    CHECK(kvma_vm_next(vm, &walk, &vma) && vma.range.start == BASE + 6 * PAGE);
    CHECK(!kvma_vm_next(vm, &walk, &vma) && walk.done);
    walk = kvma_walk_over(BASE + 2 * PAGE, 8 * PAGE);
    CHECK(kvma_vm_prev(vm, &walk, &vma) && vma.range.start == BASE + 6 * PAGE);
    CHECK(kvma_vm_next(vm, &walk, &vma) && vma.range.start == BASE);
    CHECK(!kvma_vm_prev(vm, &walk, &vma));

    walk = kvma_walk_over(BASE + 2 * PAGE, 5 * PAGE);
    CHECK(kvma_vm_next_piece(vm, &walk, &piece));
    CHECK_EQ(piece.range.start, BASE + 2 * PAGE);
    CHECK_EQ(piece.range.len, 2 * PAGE);
    CHECK_EQ(piece.attrs.offset, 2 * PAGE);
    CHECK(kvma_vm_prev_piece(vm, &walk, &piece));
    CHECK_EQ(piece.range.start, BASE + 6 * PAGE);
    CHECK_EQ(piece.range.len, PAGE);
    CHECK(!kvma_vm_next_piece(vm, &walk, &piece));

    walk = kvma_walk_over(0, UINT64_MAX);
    CHECK(kvma_vm_next_gap(vm, &walk, &gap));
    CHECK_EQ(gap.start, BASE + 4 * PAGE);
    CHECK_EQ(gap.len, 2 * PAGE);
    CHECK(kvma_vm_prev_gap(vm, &walk, &gap));
    CHECK_EQ(gap.start, BASE + 8 * PAGE);
    CHECK_EQ(gap.last, BASE + 16 * PAGE - 1);
    CHECK(!kvma_vm_next_gap(vm, &walk, &gap));
    CHECK(kvma_vm_covers(vm, BASE, 4 * PAGE));
    CHECK(!kvma_vm_covers(vm, BASE, 5 * PAGE));
    walk = kvma_walk_over(BASE, 0);
    CHECK(!kvma_vm_next(vm, &walk, &vma));
    done(vm);
}

static struct kvma_attrs sequential(void *udata, const struct kvma_vma *vma) {
    struct kvma_attrs attrs = vma->attrs;
    attrs.user_bits |= *(const uint64_t *)udata;
    return attrs;
}

TEST(changes_attributes) {
    struct kvma_vm *vm = space(16);
    struct kvma_vma vma;
    uint64_t bit = (uint64_t)1 << 40;
    map(vm, BASE, 4, KVMA_READ);
    CHECK_EQ(kvma_vm_protect(vm, BASE + PAGE, PAGE, KVMA_READ | KVMA_WRITE, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 3);
    CHECK_EQ(kvma_vm_protect(vm, BASE + PAGE, PAGE, KVMA_READ, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 1);
    CHECK_EQ(kvma_vm_protect(vm, BASE, 5 * PAGE, KVMA_READ, NULL), KVMA_NOT_MAPPED);
    CHECK_EQ(kvma_errno(KVMA_NOT_MAPPED), 12);
    CHECK_EQ(kvma_vm_protect(vm, BASE, PAGE, 8, NULL), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_update_attrs(vm, BASE + 2 * PAGE, 8 * PAGE, sequential, &bit, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_vm_find(vm, BASE + 2 * PAGE, &vma), KVMA_OK);
    CHECK_EQ(vma.attrs.user_bits, bit);
    CHECK_EQ(vma.attrs.flags, KVMA_READ);
    done(vm);
}

TEST(splits_and_merges_by_hand) {
    struct kvma_vm *vm = space(16);
    map(vm, BASE, 4, KVMA_READ);
    CHECK_EQ(kvma_vm_split_at(vm, BASE + PAGE), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_vm_can_merge_at(vm, BASE + PAGE), KVMA_OK);
    CHECK_EQ(kvma_vm_merge_at(vm, BASE + PAGE), KVMA_OK);
    CHECK_EQ(kvma_vm_merge_at(vm, BASE + PAGE), KVMA_NOT_ADJACENT);
    map(vm, BASE + 4 * PAGE, 1, KVMA_WRITE);
    CHECK_EQ(kvma_vm_merge_at(vm, BASE + 4 * PAGE), KVMA_ATTRIBUTES_DIFFER);
    struct kvma_request file = fixed(BASE + 5 * PAGE, 1, KVMA_WRITE);
    file.attrs.backed = true;
    CHECK_EQ(kvma_vm_map(vm, &file, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_merge_at(vm, BASE + 5 * PAGE), KVMA_BACKING_DIFFERS);
    CHECK_EQ(kvma_vm_split_at(vm, BASE + 1), KVMA_UNALIGNED);
    done(vm);
}

TEST(huge_pages_refuse_to_be_split) {
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, 0, (16 << 20) - 1, PAGE, NULL, NULL), KVMA_OK);
    map(vm, 2 << 20, 1024, KVMA_READ | KVMA_SPLIT_2M);
    CHECK_EQ(kvma_vm_unmap(vm, 2 << 20, PAGE, NULL, NULL), KVMA_SPLIT_REFUSED);
    CHECK_EQ(kvma_vm_unmap(vm, 2 << 20, 2 << 20, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 2 << 20);
    done(vm);
}

TEST(relocates) {
    struct kvma_vm *vm = space(16);
    map(vm, BASE, 2, KVMA_READ);
    CHECK_EQ(
        kvma_vm_relocate(vm, BASE, 2 * PAGE, BASE + PAGE, KVMA_SOURCE_UNMAP, KVMA_MERGE_BOTH, NULL),
        KVMA_OVERLAP);
    CHECK_EQ(kvma_vm_relocate(vm, BASE, 2 * PAGE, BASE + 8 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, NULL),
             KVMA_OK);
    CHECK_EQ(kvma_vm_find(vm, BASE, NULL), KVMA_NOT_MAPPED);
    CHECK_EQ(
        kvma_vm_relocate(vm, BASE + 8 * PAGE, PAGE, BASE, KVMA_SOURCE_KEEP, KVMA_MERGE_NEVER, NULL),
        KVMA_OK);
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 3 * PAGE);
    CHECK_EQ(kvma_vm_relocate(vm, BASE, PAGE, BASE + PAGE, 2, KVMA_MERGE_NEVER, NULL),
             KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_relocate(vm, BASE, PAGE, BASE + PAGE, KVMA_SOURCE_KEEP, 4, NULL),
             KVMA_BAD_ARGUMENT);
    done(vm);
}

static struct kvma_attrs read_only(void *udata, const struct kvma_attrs *attrs) {
    struct kvma_attrs new = *attrs;
    (void)udata;
    new.flags &= ~(uint32_t)KVMA_WRITE;
    return new;
}

TEST(remaps_over_itself) {
    struct kvma_vm *vm = space(16);
    struct kvma_update *update;
    struct kvma_vma vma;
    map(vm, BASE, 4, KVMA_READ | KVMA_WRITE);
    map(vm, BASE + 8 * PAGE, 1, KVMA_READ);
    CHECK_EQ(kvma_vm_remap(vm, BASE, 4 * PAGE, BASE + 6 * PAGE, NULL, NULL, KVMA_MERGE_BOTH, NULL),
             KVMA_OVERLAP);
    CHECK_EQ(kvma_vm_remap(vm, BASE, 4 * PAGE, BASE, NULL, NULL, 4, NULL), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_remap(vm, BASE, 4 * PAGE, BASE + 2 * PAGE, NULL, NULL, KVMA_MERGE_BOTH, NULL),
             KVMA_OK);
    CHECK_EQ(kvma_vm_find(vm, BASE + 5 * PAGE, &vma), KVMA_OK);
    CHECK_EQ(vma.range.start, BASE + 2 * PAGE);
    CHECK_EQ(vma.range.len, 4 * PAGE);
    CHECK_EQ(vma.attrs.flags, KVMA_READ | KVMA_WRITE);
    CHECK_EQ(kvma_update_new(&update, vm, NULL, 3), KVMA_OK);
    CHECK_EQ(kvma_update_remap(update, vm, BASE + 2 * PAGE, PAGE, BASE, read_only, NULL,
                               KVMA_MERGE_BOTH),
             KVMA_OK);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_OK);
    CHECK_EQ(vma.attrs.flags, KVMA_READ);
    CHECK(kvma_vm_is_free(vm, BASE + PAGE, 2 * PAGE));
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 5 * PAGE);
    done(vm);
}

static int32_t all_but_shared(void *udata, const struct kvma_vma *vma, struct kvma_attrs *attrs,
                              void **data) {
    (void)udata, (void)data;
    attrs->flags &= ~(uint32_t)KVMA_WRITE;
    return vma->attrs.flags & KVMA_SHARED ? KVMA_FORK_SKIP : 0;
}

static bool is_read_only(void *udata, const struct kvma_vma *vma) {
    (void)udata;
    return !(vma->attrs.flags & KVMA_WRITE);
}

TEST(forks_and_restores) {
    struct kvma_vm *vm = space(16), *child = NULL, *saved = NULL, *other = NULL;
    size_t nodes;
    uint64_t bytes;
    map(vm, BASE, 2, KVMA_READ | KVMA_WRITE);
    map(vm, BASE + 4 * PAGE, 2, KVMA_READ | KVMA_SHARED);
    CHECK_EQ(kvma_vm_fork(vm, NULL, all_but_shared, NULL, &child), KVMA_OK);
    CHECK_EQ(kvma_vm_len(child), 1);
    CHECK_EQ(kvma_vm_fork(vm, NULL, NULL, NULL, &saved), KVMA_OK);

    CHECK_EQ(kvma_vm_unmap(vm, BASE + PAGE, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_protect(vm, BASE, PAGE, KVMA_READ, NULL), KVMA_OK);
    map(vm, BASE + 8 * PAGE, 1, KVMA_WRITE);
    CHECK_EQ(kvma_vm_restore_cost(vm, saved, NULL, NULL, &nodes), KVMA_OK);
    CHECK(nodes >= 1);
    CHECK_EQ(kvma_vm_restore(vm, saved, NULL, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK(kvma_vm_covers(vm, BASE, 2 * PAGE));
    struct kvma_vma vma;
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_OK);
    CHECK_EQ(vma.attrs.flags, KVMA_READ | KVMA_WRITE);

    CHECK_EQ(kvma_vm_retain(vm, is_read_only, NULL, NULL, &bytes), KVMA_OK);
    CHECK_EQ(bytes, 2 * PAGE);
    CHECK_EQ(kvma_vm_len(vm), 1);
    /* Not with itself, and not with a map of another range. */
    CHECK_EQ(kvma_vm_restore(vm, vm, NULL, NULL, NULL), KVMA_SAME_SPACE);
    CHECK_EQ(kvma_vm_new(&other, BASE, BASE + 8 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_restore(vm, other, NULL, NULL, NULL), KVMA_SPACE_MISMATCH);
    done(vm);
    done(child);
    done(saved);
    done(other);
}

TEST(reserves_commits_and_locks) {
    struct kvma_vm *vm = space(16);
    struct kvma_request request = fixed(BASE, 8, 0);
    struct kvma_vma vma;
    request.attrs.user_bits = KVMA_UNCOMMITTED;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_commit(vm, BASE + PAGE, PAGE, KVMA_READ | KVMA_WRITE, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 3);
    CHECK_EQ(kvma_vm_commit(vm, BASE, PAGE, KVMA_WRITE | KVMA_EXEC, NULL), KVMA_WRITE_XOR_EXEC);
    CHECK_EQ(kvma_vm_lock_pages(vm, BASE + PAGE, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_find(vm, BASE + PAGE, &vma), KVMA_OK);
    CHECK_EQ(vma.attrs.flags, KVMA_READ | KVMA_WRITE | KVMA_LOCKED);
    CHECK_EQ(kvma_vm_unlock_pages(vm, BASE + PAGE, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_change_flags(vm, BASE, PAGE, KVMA_NO_CORE_DUMP, 0, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_change_flags(vm, BASE, PAGE, (uint64_t)1 << 50, 0, NULL), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_change_flags(vm, BASE, PAGE, 0, KVMA_NO_CORE_DUMP, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_decommit(vm, BASE + PAGE, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 1);
    CHECK_EQ(kvma_vm_lock_pages(vm, BASE + 8 * PAGE, PAGE, NULL), KVMA_NOT_MAPPED);
    done(vm);
}

static void *count_lines(void *udata, const struct kvma_maps_line *line, struct kvma_attrs *attrs) {
    CHECK(line->name_len == 0 || line->name[0] == '/' || line->name[0] == '[');
    CHECK_EQ(attrs->backed, line->inode != 0);
    ++*(int *)udata;
    return NULL;
}

TEST(adopts) {
    static const char maps[] =
        "00010000-00012000 r-xp 00001000 08:01 42                         /bin/true\n"
        "00012000-00013000 rw-p 00000000 00:00 0 \n"
        "00013000-00014000 r--p 00000000 08:01 43                         /tmp/not UTF-8: \xff\n";
    struct kvma_vm *vm = space(16);
    struct kvma_vma vma;
    size_t line;
    int lines = 0;
    CHECK_EQ(kvma_vm_adopt_maps(vm, "00010000-00012000 what", NULL, NULL, &line),
             KVMA_BAD_ARGUMENT);
    CHECK_EQ(line, 1);
    CHECK_EQ(kvma_vm_adopt_maps(vm, maps, count_lines, &lines, &line), KVMA_OK);
    CHECK_EQ(lines, 3);
    CHECK_EQ(kvma_vm_len(vm), 3);
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_OK);
    CHECK_EQ(vma.attrs.object, 42);
    CHECK_EQ(vma.attrs.offset, PAGE);
    CHECK_EQ(kvma_vm_adopt_maps(vm, maps, NULL, NULL, &line), KVMA_NOT_EMPTY);
    struct kvma_request request = fixed(BASE + 3 * PAGE, 2, KVMA_READ);
    CHECK_EQ(kvma_vm_adopt(vm, &request, NULL), KVMA_OVERLAP);
    request.placement.addr += PAGE;
    CHECK_EQ(kvma_vm_adopt(vm, &request, NULL), KVMA_OK);
    done(vm);
}

TEST(the_library_has_the_version_of_the_header) {
    CHECK_EQ(kvma_version(), KVMA_VERSION);
    CHECK(KVMA_VERSION >= 1000);
}

TEST(statuses_have_words) {
    for (int32_t status = -200; status < 100; status++)
        CHECK(kvma_strerror(status) != NULL && kvma_strerror(status)[0] != '\0');
    CHECK_EQ(kvma_errno(-11), 11);
    CHECK_EQ(kvma_errno(KVMA_OK), 0);
    CHECK_EQ(kvma_errno(INT32_MIN), INT32_MAX);
    CHECK_EQ(kvma_errno(KVMA_ZERO_LENGTH), 22);
}

TESTS(RUN(maps_finds_and_unmaps), RUN(tells_about_the_space), RUN(places_as_searched_for),
      RUN(walks_vmas_pieces_and_gaps), RUN(changes_attributes), RUN(splits_and_merges_by_hand),
      RUN(huge_pages_refuse_to_be_split), RUN(relocates), RUN(remaps_over_itself),
      RUN(forks_and_restores), RUN(reserves_commits_and_locks), RUN(adopts),
      RUN(the_library_has_the_version_of_the_header), RUN(statuses_have_words))
