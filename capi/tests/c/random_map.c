/* Random calls on two maps, with memory that runs out and hooks that refuse: no call breaks, maps
 * stay whole, and user data is dropped once. */
#include "random.h"

static uint64_t page, base, pages;

static uint64_t address(void) {
    const uint64_t edges[] = {0,
                              1,
                              page - 1,
                              page,
                              page + 1,
                              base,
                              base + page,
                              base - page,
                              base + pages * page,
                              base + (pages - 1) * page,
                              UINT64_MAX,
                              UINT64_MAX - page + 1,
                              (uint64_t)1 << 63,
                              INT64_MAX};
    switch (up_to(5)) {
    case 0:
        return edges[up_to(sizeof edges / sizeof *edges)];
    case 1:
        return random_bits() >> up_to(64);
    default:
        return base + up_to(pages + 1) * page;
    }
}

static uint64_t length(void) {
    return one_in(6) ? address() : up_to(9) * page;
}

/* User data: alive as long as it is counted. */
struct data {
    int color;
};

static long alive;

static struct data *make(int color) {
    struct data *data = malloc(sizeof *data);
    CHECK(data);
    data->color = color;
    alive++;
    return data;
}

static void drop(void *udata, void *data) {
    (void)udata;
    alive -= data != NULL;
    free(data);
}

static void *fork_data(void *udata, void *data, const struct kvma_range *range) {
    (void)udata;
    CHECK(range->start <= range->last);
    return data ? make(((struct data *)data)->color) : NULL;
}

static void *split(void *udata, void *data, const struct kvma_range *range, uint64_t at) {
    CHECK(range->start < at && at <= range->last);
    return fork_data(udata, data, range);
}

static bool can_merge(void *udata, void *left, const struct kvma_range *left_range, void *right,
                      const struct kvma_range *right_range) {
    (void)udata;
    CHECK(left_range->last + 1 == right_range->start);
    return left && right ? ((struct data *)left)->color == ((struct data *)right)->color
                         : left == right;
}

static void merge(void *udata, void *left, const struct kvma_range *left_range, void *right,
                  const struct kvma_range *right_range) {
    CHECK(can_merge(udata, left, left_range, right, right_range));
}

static void *make_for(void *udata, const struct kvma_range *range) {
    CHECK(range->start >= base && range->start <= range->last);
    return make(*(int *)udata);
}

static const struct kvma_data_ops ops = {sizeof(struct kvma_data_ops), split, can_merge, merge,
                                        fork_data,                     NULL,  drop,      NULL};

static int32_t refuse(void *udata, const struct kvma_event *event) {
    (void)udata, (void)event;
    return one_in(12) ? 11 : 0;
}

static struct kvma_attrs attrs(void) {
    struct kvma_attrs some = {0};
    some.flags = (uint32_t)(one_in(4) ? random_bits() : up_to(8));
    some.backed = one_in(2);
    some.user_bits = up_to(4);
    some.object = up_to(2);
    some.offset = (one_in(20) ? UINT64_MAX - 2 : up_to(5)) * page;
    return some;
}

static struct kvma_attrs other_attrs(void *udata, const struct kvma_vma *vma) {
    struct kvma_attrs changed = vma->attrs;
    (void)udata;
    changed.flags ^= vma->range.start / page % 3 == 0 ? KVMA_READ : 0;
    return changed;
}

static int32_t copy_most(void *udata, const struct kvma_vma *vma, struct kvma_attrs *copied,
                         void **data) {
    copied->flags ^= one_in(8) ? KVMA_READ : 0;
    if (one_in(5))
        return KVMA_FORK_SKIP;
    if (one_in(50))
        return -11;
    *data = fork_data(udata, vma->data, &vma->range);
    return 0;
}

static bool same_object(void *udata, const struct kvma_vma *now, const struct kvma_vma *then) {
    (void)udata;
    return now->attrs.object == then->attrs.object;
}

static bool keep_some(void *udata, const struct kvma_vma *vma) {
    (void)udata;
    return vma->range.start / page % 3 != 0;
}

static void edit(void *udata, const struct kvma_vma *vma) {
    (void)udata;
    CHECK(vma->range.start <= vma->range.last);
}

static struct kvma_request request(void) {
    struct kvma_request some = {0};
    some.placement.kind = (uint32_t)up_to(4);
    some.merge = (uint32_t)up_to(5);
    some.len = length();
    some.placement.addr = address();
    some.placement.search.flags = (uint32_t)up_to(4);
    some.placement.search.first = one_in(3) ? address() : 0;
    some.placement.search.last = one_in(3) ? address() : 0;
    some.placement.search.align = one_in(3) ? (uint64_t)1 << up_to(64) : 0;
    some.placement.search.align_offset = one_in(3) ? address() : 0;
    some.placement.search.hint = address();
    some.placement.search.guard = one_in(4) ? length() : 0;
    some.attrs = attrs();
    return some;
}

/* A call that takes data: on failure it is still ours. */
static void given(kvma_status status, struct data *data) {
    if (whole(status) != KVMA_OK)
        drop(NULL, data);
}

static void walk_all(const struct kvma_vm *vm) {
    struct kvma_walk walk = kvma_walk_over(address(), length());
    struct kvma_vma vma;
    struct kvma_range gap;
    struct kvma_piece piece;
    while (kvma_vm_prev_gap(vm, &walk, &gap)) {
    }
    walk = kvma_walk_over(address(), length());
    while (kvma_vm_next_piece(vm, &walk, &piece)) {
    }
    walk = kvma_walk_over(0, UINT64_MAX);
    uint64_t mapped = 0;
    while (kvma_vm_next(vm, &walk, &vma))
        mapped += vma.range.len;
    CHECK_EQ(mapped, kvma_vm_mapped_bytes(vm));
}

/* One call on its own. */
static void call(struct kvma_vm *vm, struct kvma_vm *other, struct kvma_vm **saved,
                 const struct kvma_hooks *hooks) {
    struct kvma_request some = request();
    struct data *data = one_in(3) ? NULL : make((int)up_to(2));
    struct kvma_vm *child = NULL;
    int color = (int)up_to(2);
    size_t nodes;
    some.data = data;
    switch (up_to(18)) {
    default:
        given(kvma_vm_map(vm, &some, hooks, NULL), data);
        return;
    case 0:
        given(kvma_vm_adopt(vm, &some, NULL), data);
        return;
    case 1:
        whole(kvma_vm_unmap(vm, address(), length(), hooks, NULL));
        break;
    case 2:
        whole(kvma_vm_protect(vm, address(), length(), (uint32_t)up_to(9), hooks));
        break;
    case 3:
        whole(kvma_vm_update_attrs(vm, address(), length(), other_attrs, NULL, hooks));
        break;
    case 4:
        whole(kvma_vm_relocate(vm, address(), length(), address(), (uint32_t)up_to(3),
                               (uint32_t)up_to(5), hooks));
        break;
    case 5:
        whole(kvma_vm_split_at(vm, address()));
        whole(kvma_vm_merge_at(vm, address()));
        break;
    case 6:
        if (one_in(2))
            whole(kvma_vm_fork(vm, &heap, copy_most, NULL, &child));
        else
            whole(kvma_vm_fork_live(vm, &heap, copy_most, NULL, hooks, &child));
        if (*saved && child)
            CHECK_EQ(kvma_vm_free(child), KVMA_OK);
        else if (child)
            *saved = child;
        break;
    case 7:
        if (!*saved)
            break;
        whole(kvma_vm_restore_cost(vm, *saved, same_object, NULL, &nodes));
        whole(kvma_vm_restore(vm, *saved, same_object, NULL, hooks));
        break;
    case 8:
        if (one_in(4))
            whole(kvma_vm_retain(vm, keep_some, NULL, hooks, NULL));
        break;
    case 9:
        whole(kvma_vm_transfer(vm, address(), length(), hooks, other, address(), (uint32_t)up_to(5),
                               NULL));
        break;
    case 10:
        whole(kvma_vm_commit(vm, address(), length(), (uint32_t)up_to(8), hooks));
        whole(kvma_vm_decommit(vm, address(), length(), hooks));
        break;
    case 11:
        whole(kvma_vm_lock_pages(vm, address(), length(), hooks));
        whole(kvma_vm_change_flags(vm, address(), length(), up_to(512), up_to(512), hooks));
        break;
    case 12:
        whole(kvma_vm_invalidate(vm, address(), length(), edit, NULL, hooks));
        whole(kvma_vm_advise(vm, address(), length(), (uint32_t)up_to(8), hooks));
        break;
    case 13:
        walk_all(vm);
        break;
    case 14:
        whole(kvma_vm_map_with(vm, &some, make_for, &color, hooks, NULL));
        break;
    }
    drop(NULL, data);
}

/* Several calls in an update, which is finished when memory is there again. */
static void calls_in_an_update(struct kvma_vm *vm, struct kvma_claim **claim,
                               const struct kvma_hooks *hooks) {
    struct kvma_update *update = NULL;
    if (kvma_update_new(&update, vm, hooks, up_to(4)) != KVMA_OK)
        return;
    for (uint64_t count = up_to(4); count > 0; count--) {
        struct kvma_request some = request();
        struct data *data = make((int)up_to(2));
        some.data = data;
        switch (up_to(5)) {
        case 0:
            given(kvma_update_map(update, vm, &some, NULL), data);
            continue;
        case 1:
            whole(kvma_update_unmap(update, vm, address(), length(), NULL));
            break;
        case 2:
            if (!*claim)
                whole(kvma_update_claim(update, vm, &some.placement, some.len, claim));
            break;
        case 3:
            if (!*claim)
                break;
            given(
                kvma_update_commit_claim(update, vm, *claim, &some.attrs, data, (uint32_t)up_to(4)),
                data);
            continue;
        case 4:
            CHECK_EQ(kvma_update_release_claim(update, vm, *claim), KVMA_OK);
            *claim = NULL;
            break;
        }
        drop(NULL, data);
    }
    heap_left = -1;
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
}

static void play(int calls) {
    struct kvma_hooks hooks = {
        .size = sizeof hooks, .prepare = refuse, .write_xor_exec = one_in(4)};
    struct kvma_vm *maps[2] = {NULL, NULL}, *saved = NULL;
    struct kvma_claim *claims[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(kvma_vm_new(&maps[i], base, base + (pages * page - 1), page, &heap, &ops),
                 KVMA_OK);
    for (int i = 0; i < calls && is_more(); i++) {
        uint64_t which = up_to(2);
        const struct kvma_hooks *table = one_in(3) ? &hooks : NULL;
        heap_left = one_in(4) ? (long)up_to(5) : -1;
        if (one_in(3))
            calls_in_an_update(maps[which], &claims[which], table);
        else
            call(maps[which], maps[up_to(2)], &saved, table);
        heap_left = -1;
        CHECK_EQ(kvma_vm_check(maps[which]), KVMA_OK);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(kvma_vm_release_claim(maps[i], claims[i]), KVMA_OK);
        CHECK_EQ(kvma_vm_free(maps[i]), KVMA_OK);
    }
    CHECK_EQ(kvma_vm_free(saved), KVMA_OK);
    CHECK_EQ(alive, 0);
    CHECK_EQ(heap_out, 0);
}

TEST(maps_stay_whole_and_data_is_dropped_once) {
    for (int round = 0; round < 500; round++) {
        page = (uint64_t)1 << (one_in(3) ? up_to(58) : 12);
        pages = 1 + up_to(40);
        base = up_to(64) * page;
        play(150);
    }
}

TEST(up_to_the_last_byte) {
    for (int round = 0; round < 300; round++) {
        page = (uint64_t)1 << (1 + up_to(58));
        pages = 1 + up_to(16);
        base = 0 - pages * page;
        play(150);
    }
}

INPUT {
    uint64_t to_the_end = up_to(2);
    page = (uint64_t)1 << (one_in(3) ? 1 + up_to(57) : 12);
    pages = 1 + up_to(16);
    base = to_the_end ? 0 - pages * page : up_to(64) * page;
    play(500);
}

TESTS_AND_INPUTS(RUN(maps_stay_whole_and_data_is_dropped_once), RUN(up_to_the_last_byte))
