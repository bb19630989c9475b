/* The life of user data; claims, which have none until they are committed. */
#include "log.h"

/* The user data: objects that count their references. */
struct object {
    int refs;
    int splits, merges;
};

static void *split(void *udata, void *data, const struct kvma_range *range, uint64_t at) {
    struct object *object = data;
    (void)udata;
    CHECK(range->start < at && at <= range->last && at % PAGE == 0);
    object->refs++;
    object->splits++;
    return object;
}

static bool can_merge(void *udata, void *left, const struct kvma_range *left_range, void *right,
                      const struct kvma_range *right_range) {
    (void)udata;
    CHECK_EQ(left_range->last + 1, right_range->start);
    return left == right;
}

/* The reference of the right one is given up by drop. */
static void merge(void *udata, void *left, const struct kvma_range *left_range, void *right,
                  const struct kvma_range *right_range) {
    CHECK(can_merge(udata, left, left_range, right, right_range));
    ((struct object *)left)->merges++;
}

static void *fork_data(void *udata, void *data, const struct kvma_range *range) {
    (void)udata;
    CHECK(range->len >= PAGE);
    ((struct object *)data)->refs++;
    return data;
}

static void drop(void *udata, void *data) {
    (void)udata;
    ((struct object *)data)->refs--;
}

static void *take_reference(void *udata, void *data) {
    (void)udata;
    ((struct object *)data)->refs++;
    return data;
}

static const struct kvma_data_ops counted = {
    sizeof(struct kvma_data_ops), split, can_merge, merge, fork_data, NULL, drop, NULL};

TEST(user_data_is_never_lost_or_dropped_twice) {
    struct object object = {0, 0, 0};
    struct kvma_vm *vm = NULL, *child = NULL;
    struct kvma_vma vma;
    void *old;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, &counted), KVMA_OK);
    struct kvma_request request = fixed(BASE, 8, KVMA_READ);
    request.data = &object;
    object.refs = 1;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_unmap(vm, BASE + 2 * PAGE, 2 * PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(object.refs, 2);
    CHECK_EQ(object.splits, 2);
    CHECK_EQ(kvma_vm_fork(vm, NULL, NULL, NULL, &child), KVMA_OK);
    CHECK_EQ(object.refs, 4);
    CHECK_EQ(kvma_vm_free(child), KVMA_OK);
    CHECK_EQ(object.refs, 2);
    /* Fills the gap, and merges with both sides. */
    request = fixed(BASE + 2 * PAGE, 2, KVMA_READ);
    request.data = &object;
    object.refs++;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 1);
    CHECK_EQ(object.refs, 1);
    CHECK_EQ(object.merges, 2);
    /* A request that fails leaves its data with the caller. */
    request.placement.kind = KVMA_FIXED_NOREPLACE;
    object.refs++;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OVERLAP);
    CHECK_EQ(object.refs, 2);
    object.refs--;
    CHECK_EQ(kvma_vm_set_data(vm, BASE, NULL, &old), KVMA_OK);
    CHECK(old == &object);
    CHECK_EQ(kvma_vm_set_data(vm, BASE, &object, &old), KVMA_OK);
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_OK);
    CHECK(vma.data == &object);
    CHECK_EQ(kvma_vm_update_data(vm, BASE, take_reference, NULL), KVMA_OK);
    CHECK_EQ(object.refs, 2);
    object.refs--;
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(object.refs, 0);
}

TEST(claims_are_committed_or_released) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct object object = {1, 0, 0};
    struct kvma_vm *vm = NULL;
    struct kvma_claim *claim = NULL;
    struct kvma_range range;
    const struct kvma_placement anywhere = {0};
    const struct kvma_attrs attrs = {.flags = KVMA_READ};
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, &counted), KVMA_OK);
    CHECK_EQ(kvma_vm_claim(vm, &anywhere, 4 * PAGE, &table, &claim), KVMA_OK);
    expect(&log, "");
    CHECK_EQ(kvma_claim_range(claim, &range), KVMA_OK);
    CHECK_EQ(range.start, BASE);
    /* A claim is no VMA, and its range is not free. */
    CHECK_EQ(kvma_vm_find(vm, BASE, NULL), KVMA_NOT_MAPPED);
    CHECK_EQ(kvma_vm_len(vm), 0);
    CHECK(!kvma_vm_is_free(vm, BASE, PAGE));
    CHECK_EQ(kvma_vm_unmap(vm, BASE, 32 * PAGE, &table, NULL), KVMA_OK);
    /* A refusal leaves the claim, and the data with the caller. */
    log.refuse_at = 1;
    log.refuse_with = 11;
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, &object, KVMA_MERGE_BOTH, &table), -11);
    expect(&log, "M");
    CHECK_EQ(object.refs, 1);
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, &object, 9, &table), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, &object, KVMA_MERGE_BOTH, &table), KVMA_OK);
    expect(&log, "Mm");
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, &object, KVMA_MERGE_BOTH, &table),
             KVMA_CLAIM_LOST);
    CHECK_EQ(object.refs, 1);
    CHECK_EQ(kvma_vm_release_claim(vm, claim), KVMA_OK);
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 4 * PAGE);
    CHECK_EQ(kvma_vm_claim(vm, &anywhere, 4 * PAGE, NULL, &claim), KVMA_OK);
    CHECK_EQ(kvma_vm_release_claim(vm, claim), KVMA_OK);
    CHECK_EQ(kvma_vm_release_claim(vm, NULL), KVMA_OK);
    CHECK(kvma_vm_is_free(vm, BASE + 4 * PAGE, 28 * PAGE));
    CHECK_EQ(kvma_vm_claim(vm, &anywhere, 64 * PAGE, NULL, &claim), KVMA_NO_SPACE);
    CHECK(claim == NULL);

    struct kvma_update *update = NULL;
    CHECK_EQ(kvma_update_new(&update, vm, NULL, 3), KVMA_OK);
    CHECK_EQ(kvma_update_claim(update, vm, &anywhere, PAGE, &claim), KVMA_OK);
    CHECK_EQ(kvma_update_commit_claim(update, vm, claim, &attrs, &object, KVMA_MERGE_NEVER),
             KVMA_OK);
    object.refs++;
    CHECK_EQ(kvma_update_release_claim(update, vm, claim), KVMA_OK);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(object.refs, 0);
}

TEST(a_fixed_mapping_takes_a_claim_away) {
    struct kvma_vm *vm = NULL;
    struct kvma_claim *claim = NULL;
    const struct kvma_placement there = {.kind = KVMA_FIXED, .addr = BASE + PAGE};
    const struct kvma_attrs attrs = {.flags = KVMA_READ};
    struct kvma_request request = fixed(BASE + 2 * PAGE, 1, KVMA_WRITE);
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_claim(vm, &there, 4 * PAGE, NULL, &claim), KVMA_OK);
    CHECK_EQ(kvma_vm_relocate(vm, BASE, 4 * PAGE, BASE + 16 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, NULL),
             KVMA_CLAIMED);
    request.placement.kind = KVMA_FIXED_NOREPLACE;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OVERLAP);
    request.placement.kind = KVMA_FIXED;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK(kvma_vm_is_free(vm, BASE + PAGE, PAGE));
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, NULL, KVMA_MERGE_BOTH, NULL), KVMA_CLAIM_LOST);
    CHECK_EQ(kvma_vm_release_claim(vm, claim), KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 1);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

/* Everything removed, in order, after the flush; the map can be read by then. */
struct removed {
    struct kvma_vm *vm;
    char order[8];
    uint64_t start[4];
    int count, dropped;
};

static void wait_for_flush(void *udata) {
    struct removed *removed = udata;
    CHECK_EQ(removed->count, 0);
    CHECK_EQ(kvma_vm_len(removed->vm), 1);
    CHECK_EQ(kvma_vm_unmap(removed->vm, BASE, PAGE, NULL, NULL), KVMA_BUSY);
    CHECK_EQ(kvma_vm_free(removed->vm), KVMA_BUSY);
    strcat(removed->order, ">");
}

static void release(void *udata, const struct kvma_piece *piece) {
    struct removed *removed = udata;
    CHECK_EQ(removed->count, removed->dropped);
    CHECK(piece->data == removed);
    removed->start[removed->count++] = piece->range.start;
    strcat(removed->order, "r");
}

static void drop_removed(void *udata, void *data) {
    (void)udata;
    ((struct removed *)data)->dropped++;
}

TEST(what_is_removed_is_released_in_order) {
    struct removed removed = {0};
    const struct kvma_hooks table = {
        .size = sizeof table, .flush_wait = wait_for_flush, .release = release, .udata = &removed};
    const struct kvma_data_ops ops = {.size = sizeof ops, .drop = drop_removed};
    CHECK_EQ(kvma_vm_new(&removed.vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, &ops), KVMA_OK);
    for (uint64_t page = 0; page < 8; page += 2) {
        struct kvma_request request = fixed(BASE + page * PAGE, 1, KVMA_READ);
        request.data = &removed;
        CHECK_EQ(kvma_vm_map(removed.vm, &request, NULL, NULL), KVMA_OK);
    }
    CHECK_EQ(kvma_vm_unmap(removed.vm, BASE + PAGE, 8 * PAGE, &table, NULL), KVMA_OK);
    CHECK(strcmp(removed.order, ">rrr") == 0);
    for (uint64_t i = 0; i < 3; i++)
        CHECK_EQ(removed.start[i], BASE + 2 * (i + 1) * PAGE);
    CHECK_EQ(removed.dropped, 3);
    CHECK_EQ(kvma_vm_free(removed.vm), KVMA_OK);
    CHECK_EQ(removed.dropped, 4);
}

static void *make_for(void *udata, const struct kvma_range *range) {
    CHECK_EQ(range->start, BASE + PAGE);
    CHECK_EQ(range->len, 2 * PAGE);
    ((struct object *)udata)->refs++;
    return udata;
}

TEST(user_data_is_made_for_the_range_that_was_chosen) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct object object = {0, 0, 0}, first = {1, 0, 0};
    struct kvma_vm *vm = NULL;
    struct kvma_update *update = NULL;
    struct kvma_request request = fixed(BASE, 1, KVMA_READ);
    uint64_t addr;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, &counted), KVMA_OK);
    request.data = &first;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    request = (struct kvma_request){.len = 2 * PAGE};
    /* Made, and dropped again since the hooks refuse. */
    log.refuse_at = 1;
    log.refuse_with = 12;
    CHECK_EQ(kvma_vm_map_with(vm, &request, make_for, &object, &table, &addr), -12);
    CHECK_EQ(object.refs, 0);
    CHECK_EQ(kvma_update_new(&update, vm, NULL, 3), KVMA_OK);
    CHECK_EQ(kvma_update_map_with(update, vm, &request, make_for, &object, &addr), KVMA_OK);
    CHECK_EQ(addr, BASE + PAGE);
    CHECK_EQ(kvma_update_split_at(update, vm, BASE + 2 * PAGE), KVMA_OK);
    CHECK_EQ(object.refs, 2);
    CHECK_EQ(kvma_update_merge_at(update, vm, BASE + 2 * PAGE), KVMA_OK);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(object.refs, 1);
    CHECK_EQ(kvma_vm_map_with(vm, &request, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(object.refs, 0);
    CHECK_EQ(first.refs, 0);
}

/* The pointer is a number of pages here. */
static void *relocate_data(void *udata, void *data, const struct kvma_range *from, uint64_t to) {
    (void)udata;
    CHECK_EQ(from->len, PAGE);
    return (void *)((intptr_t)data + ((intptr_t)to - (intptr_t)from->start) / (intptr_t)PAGE);
}

TEST(user_data_hears_of_moves) {
    const struct kvma_data_ops ops = {.size = sizeof ops, .relocate = relocate_data};
    struct kvma_vm *vm = NULL;
    struct kvma_vma vma;
    struct kvma_request request = fixed(BASE + 4 * PAGE, 4, KVMA_READ);
    request.data = (void *)100;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, &ops), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_relocate(vm, BASE + 4 * PAGE, PAGE, BASE + 8 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, NULL),
             KVMA_OK);
    /* It lies behind the rest, and does not merge: it is another pointer. */
    CHECK_EQ(kvma_vm_find(vm, BASE + 8 * PAGE, &vma), KVMA_OK);
    CHECK_EQ((intptr_t)vma.data, 104);
    CHECK_EQ(vma.range.len, PAGE);
    CHECK_EQ(kvma_vm_relocate(vm, BASE + 8 * PAGE, PAGE, BASE + 4 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, NULL),
             KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 1);
    CHECK_EQ(kvma_vm_find(vm, BASE + 4 * PAGE, &vma), KVMA_OK);
    CHECK_EQ((intptr_t)vma.data, 100);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TESTS(RUN(user_data_is_never_lost_or_dropped_twice), RUN(claims_are_committed_or_released),
      RUN(a_fixed_mapping_takes_a_claim_away), RUN(what_is_removed_is_released_in_order),
      RUN(user_data_is_made_for_the_range_that_was_chosen), RUN(user_data_hears_of_moves))
