/* What the kernel hears of a map, and when; and what becomes of its user data. */
#include "test.h"

#include <kvma.h>

#define PAGE ((uint64_t)0x1000)
#define BASE ((uint64_t)0x10000)

/* A log of one letter a call. */
struct log {
    char text[64];
    size_t len;
    /* prepare refuses the n-th time, with this errno. */
    int refuse_at, refuse_with, prepared;
    struct kvma_vm *vm;
    struct kvma_piece last;
    struct kvma_attrs old;
    uint64_t to;
    int gained;
    struct kvma_range gains;
};

static void note(void *udata, char what) {
    struct log *log = udata;
    CHECK(log->len + 1 < sizeof log->text);
    log->text[log->len++] = what;
    log->text[log->len] = '\0';
}

static int32_t prepare(void *udata, const struct kvma_event *event) {
    struct log *log = udata;
    log->gained += kvma_event_gains_exec(event, &log->gains);
    note(udata, "MUPR"[event->kind]);
    return ++log->prepared == log->refuse_at ? log->refuse_with : 0;
}

static void cancel(void *udata, const struct kvma_event *event) {
    (void)event;
    note(udata, 'c');
}

static void on_map(void *udata, const struct kvma_piece *piece) {
    struct log *log = udata;
    note(udata, 'm');
    log->last = *piece;
    /* In the middle of a change, the map is not to be had. */
    if (log->vm) {
        struct kvma_vma vma;
        CHECK_EQ(kvma_vm_find(log->vm, BASE, &vma), KVMA_BUSY);
        CHECK_EQ(kvma_vm_unmap(log->vm, BASE, PAGE, NULL, NULL), KVMA_BUSY);
        CHECK_EQ(kvma_vm_free(log->vm), KVMA_BUSY);
        CHECK_EQ(kvma_vm_len(log->vm), 0);
    }
}

static void on_unmap(void *udata, const struct kvma_piece *piece) {
    note(udata, 'u');
    ((struct log *)udata)->last = *piece;
}

static void on_protect(void *udata, const struct kvma_piece *piece, const struct kvma_attrs *old) {
    struct log *log = udata;
    note(udata, 'p');
    log->last = *piece;
    log->old = *old;
}

static void on_relocate(void *udata, const struct kvma_piece *piece, uint64_t to) {
    note(udata, 'r');
    ((struct log *)udata)->last = *piece;
    ((struct log *)udata)->to = to;
}

static void on_advise(void *udata, const struct kvma_piece *piece, uint32_t advice) {
    CHECK_EQ(advice, KVMA_ADVISE_DONT_NEED);
    note(udata, 'a');
    ((struct log *)udata)->last = *piece;
}

static void flush_begin(void *udata) {
    note(udata, '<');
}

static void flush_wait(void *udata) {
    note(udata, '>');
}

static struct kvma_hooks hooks(struct log *log) {
    struct kvma_hooks table = {prepare,    cancel,      on_map,    on_unmap,
                               on_protect, on_relocate, on_advise, flush_begin,
                               flush_wait, log,         false};
    memset(log, 0, sizeof *log);
    return table;
}

static struct kvma_request fixed(uint64_t addr, uint64_t pages, uint32_t flags) {
    struct kvma_request request = {0};
    request.placement = KVMA_FIXED;
    request.addr = addr;
    request.len = pages * PAGE;
    request.attrs.flags = flags;
    return request;
}

static void expect(struct log *log, const char *text) {
    if (strcmp(log->text, text) != 0) {
        fprintf(stderr, "heard %s, not %s\n", log->text, text);
        abort();
    }
    log->len = 0;
    log->text[0] = '\0';
}

TEST(every_step_is_heard_in_order) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 8, KVMA_READ);
    request.attrs.backed = true;
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_OK);
    expect(&log, "Mm");
    CHECK_EQ(kvma_vm_protect(vm, BASE + 2 * PAGE, PAGE, KVMA_WRITE, &table), KVMA_OK);
    expect(&log, "Pp<>");
    CHECK_EQ(log.old.flags, KVMA_READ);
    CHECK_EQ(log.last.attrs.flags, KVMA_WRITE);
    CHECK_EQ(log.last.range.start, BASE + 2 * PAGE);
    CHECK_EQ(log.last.attrs.offset, 2);
    /* Replacing tells of what goes, in the middle of VMAs too. */
    request = fixed(BASE + PAGE, 4, KVMA_EXEC);
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_OK);
    expect(&log, "UUUMuuu<m>");
    CHECK_EQ(kvma_vm_relocate(vm, BASE + PAGE, PAGE, BASE + 16 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, &table),
             KVMA_OK);
    expect(&log, "Rr<>");
    CHECK_EQ(log.to, BASE + 16 * PAGE);
    CHECK_EQ(kvma_vm_advise(vm, BASE, PAGE, KVMA_ADVISE_DONT_NEED, &table), KVMA_OK);
    expect(&log, "a<>");
    CHECK_EQ(kvma_vm_advise(vm, BASE, PAGE, 99, &table), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_clear(vm, &table, NULL), KVMA_OK);
    expect(&log, "UUUUuuuu<>");
    CHECK_EQ(kvma_vm_unmap(vm, BASE, PAGE, &table, NULL), KVMA_OK);
    expect(&log, "");
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TEST(a_refusal_takes_everything_back) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request one = fixed(BASE, 2, KVMA_READ),
                        two = fixed(BASE + 2 * PAGE, 2, KVMA_WRITE);
    CHECK_EQ(kvma_vm_map(vm, &one, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &two, NULL, NULL), KVMA_OK);
    log.refuse_at = 2;
    log.refuse_with = 11;
    CHECK_EQ(kvma_vm_unmap(vm, BASE, 4 * PAGE, &table, NULL), -11);
    expect(&log, "UUc");
    CHECK_EQ(kvma_vm_pages(vm), 4);
    /* Kernels return errnos negated. */
    log.prepared = 0;
    log.refuse_with = -12;
    CHECK_EQ(kvma_vm_protect(vm, BASE, 4 * PAGE, KVMA_EXEC, &table), -12);
    CHECK_EQ(kvma_vm_len(vm), 2);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TEST(a_hook_that_calls_back_is_answered_busy) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    CHECK_EQ(kvma_vm_new(&log.vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 1, KVMA_READ);
    CHECK_EQ(kvma_vm_map(log.vm, &request, &table, NULL), KVMA_OK);
    expect(&log, "Mm");
    CHECK_EQ(kvma_vm_len(log.vm), 1);
    CHECK_EQ(kvma_vm_free(log.vm), KVMA_OK);
}

TEST(an_update_carries_several_changes) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_vm *vm = NULL;
    struct kvma_update *update = NULL;
    uint64_t addr;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_update_new(&update, vm, &table, 3), KVMA_OK);
    CHECK_EQ(kvma_update_preallocate(update, 6), KVMA_OK);
    struct kvma_request request = fixed(BASE, 8, KVMA_READ);
    CHECK_EQ(kvma_update_map(update, vm, &request, &addr), KVMA_OK);
    CHECK_EQ(kvma_update_unmap(update, vm, BASE + PAGE, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_update_protect(update, vm, BASE, PAGE, KVMA_WRITE), KVMA_OK);
    CHECK_EQ(kvma_update_relocate(update, vm, BASE, PAGE, BASE + 9 * PAGE, KVMA_SOURCE_UNMAP,
                                  KVMA_MERGE_BOTH),
             KVMA_OK);
    CHECK_EQ(kvma_update_lock_pages(update, vm, BASE + 9 * PAGE, PAGE), KVMA_OK);
    CHECK_EQ(kvma_update_unlock_pages(update, vm, BASE + 9 * PAGE, PAGE), KVMA_OK);
    CHECK_EQ(kvma_update_decommit(update, vm, BASE + 9 * PAGE, PAGE), KVMA_OK);
    CHECK_EQ(kvma_update_commit(update, vm, BASE + 9 * PAGE, PAGE, KVMA_READ), KVMA_OK);
    CHECK_EQ(kvma_update_change_flags(update, vm, BASE + 9 * PAGE, PAGE, KVMA_STACK, 0), KVMA_OK);
    CHECK_EQ(kvma_update_removed(update), 1);
    CHECK_EQ(kvma_update_clear(update, vm, NULL), KVMA_OK);
    CHECK_EQ(kvma_update_removed(update), 3);
    CHECK(strchr(log.text, '>') == NULL);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(log.text[log.len - 1], '>');
    CHECK_EQ(kvma_update_finish(NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

/* The user data: objects that count their references. */
struct object {
    int refs;
    int splits, merges;
};

static void *split(void *udata, void *data, uint64_t pages) {
    struct object *object = data;
    (void)udata;
    CHECK(pages > 0);
    object->refs++;
    object->splits++;
    return object;
}

static bool can_merge(void *udata, void *left, uint64_t pages, void *right) {
    (void)udata;
    CHECK(pages > 0);
    return left == right;
}

static void merge(void *udata, void *left, uint64_t pages, void *right) {
    (void)udata, (void)pages;
    CHECK(left == right);
    ((struct object *)left)->merges++;
    ((struct object *)right)->refs--;
}

static void *fork_data(void *udata, void *data) {
    (void)udata;
    ((struct object *)data)->refs++;
    return data;
}

static void drop(void *udata, void *data) {
    (void)udata;
    ((struct object *)data)->refs--;
}

static const struct kvma_data_ops counted = {split, can_merge, merge, fork_data, NULL, drop, NULL};

TEST(user_data_is_never_lost_or_dropped_twice) {
    struct object object = {0, 0, 0};
    struct kvma_vm *vm = NULL, *child = NULL;
    struct kvma_vma vma;
    void *old;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, &counted), KVMA_OK);
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
    request.placement = KVMA_FIXED_NOREPLACE;
    object.refs++;
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OVERLAP);
    CHECK_EQ(object.refs, 2);
    object.refs--;
    CHECK_EQ(kvma_vm_set_data(vm, BASE, NULL, &old), KVMA_OK);
    CHECK(old == &object);
    CHECK_EQ(kvma_vm_set_data(vm, BASE, &object, &old), KVMA_OK);
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_OK);
    CHECK(vma.data == &object);
    CHECK_EQ(kvma_vm_update_data(vm, BASE, fork_data, NULL), KVMA_OK);
    CHECK_EQ(object.refs, 2);
    object.refs--;
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(object.refs, 0);
}

static void count(void *udata, const struct kvma_vma *vma) {
    CHECK(vma->range.pages > 0);
    ++*(int *)udata;
}

TEST(claims_are_committed_or_released) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct object claimed = {1, 0, 0}, mapped = {1, 0, 0};
    struct kvma_vm *vm = NULL;
    struct kvma_claim *claim = NULL;
    struct kvma_range range;
    struct kvma_vma vma;
    struct kvma_attrs attrs = {.flags = KVMA_READ};
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, &counted), KVMA_OK);
    struct kvma_request request = {.len = 4 * PAGE, .data = &claimed};
    CHECK_EQ(kvma_vm_claim(vm, &request, &table, &claim), KVMA_OK);
    CHECK_EQ(kvma_claim_range(claim, &range), KVMA_OK);
    CHECK_EQ(range.start, BASE);
    CHECK_EQ(kvma_vm_find(vm, BASE, &vma), KVMA_OK);
    CHECK(vma.attrs.flags & KVMA_RESERVED);
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, &mapped, KVMA_MERGE_BOTH, &table), KVMA_OK);
    CHECK_EQ(claimed.refs, 0);
    CHECK_EQ(mapped.refs, 1);
    CHECK_EQ(kvma_vm_commit_claim(vm, claim, &attrs, &claimed, KVMA_MERGE_BOTH, &table),
             KVMA_NOT_MAPPED);
    CHECK_EQ(claimed.refs, 0);
    CHECK_EQ(kvma_vm_release_claim(vm, claim), KVMA_OK);
    CHECK_EQ(kvma_vm_pages(vm), 4);
    claimed.refs = 1;
    CHECK_EQ(kvma_vm_claim(vm, &request, NULL, &claim), KVMA_OK);
    CHECK_EQ(kvma_vm_release_claim(vm, claim), KVMA_OK);
    CHECK_EQ(claimed.refs, 0);
    CHECK_EQ(kvma_vm_pages(vm), 4);
    CHECK_EQ(kvma_vm_release_claim(vm, NULL), KVMA_OK);
    request.len = 64 * PAGE;
    CHECK_EQ(kvma_vm_claim(vm, &request, NULL, &claim), KVMA_NO_SPACE);
    CHECK(claim == NULL);

    struct kvma_update *update = NULL;
    CHECK_EQ(kvma_update_new(&update, vm, NULL, 3), KVMA_OK);
    request.len = PAGE;
    claimed.refs = 1;
    CHECK_EQ(kvma_update_claim(update, vm, &request, &claim), KVMA_OK);
    CHECK_EQ(kvma_update_commit_claim(update, vm, claim, &attrs, &mapped, KVMA_MERGE_NEVER),
             KVMA_OK);
    mapped.refs++;
    CHECK_EQ(kvma_update_release_claim(update, vm, claim), KVMA_OK);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(claimed.refs, 0);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(mapped.refs, 0);
}

TEST(vmas_move_to_another_map) {
    struct log log, other_log;
    struct kvma_hooks table = hooks(&log), other_table = hooks(&other_log);
    struct kvma_vm *vm = NULL, *other = NULL;
    struct kvma_update *update = NULL, *other_update = NULL;
    int vmas = 0;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_new(&other, 0, 64, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 4, KVMA_READ);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(
        kvma_vm_transfer(vm, BASE + PAGE, PAGE, &table, other, 0, KVMA_MERGE_BOTH, &other_table),
        KVMA_OK);
    expect(&log, "Uu<>");
    expect(&other_log, "Mm");
    CHECK_EQ(kvma_vm_pages(vm), 3);
    CHECK_EQ(kvma_vm_pages(other), 1);
    CHECK_EQ(kvma_vm_transfer(vm, BASE, PAGE, NULL, vm, BASE + 8 * PAGE, KVMA_MERGE_BOTH, NULL),
             KVMA_BUSY);
    CHECK_EQ(kvma_update_new(&update, vm, NULL, 0), KVMA_OK);
    CHECK_EQ(kvma_update_new(&other_update, other, NULL, 0), KVMA_OK);
    CHECK_EQ(
        kvma_update_transfer(update, vm, BASE, PAGE, other_update, other, PAGE, KVMA_MERGE_BOTH),
        KVMA_OK);
    CHECK_EQ(kvma_vm_len(other), 1);
    CHECK_EQ(kvma_update_invalidate(update, vm, BASE, UINT64_MAX, count, &vmas), KVMA_OK);
    CHECK_EQ(vmas, 1);
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    CHECK_EQ(kvma_update_finish(other_update), KVMA_OK);
    CHECK_EQ(kvma_vm_invalidate(vm, BASE, UINT64_MAX, count, &vmas, &table), KVMA_OK);
    expect(&log, "<>");
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
    CHECK_EQ(kvma_vm_free(other), KVMA_OK);
}

TEST(write_xor_execute) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_vm *vm = NULL;
    table.write_xor_exec = true;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 1, KVMA_WRITE | KVMA_EXEC);
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), -13);
    request.attrs.flags = KVMA_WRITE;
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_protect(vm, BASE, PAGE, KVMA_READ | KVMA_EXEC, &table), -13);
    CHECK_EQ(log.gained, 0);
    request.attrs.user_bits = KVMA_JIT;
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_protect(vm, BASE, PAGE, KVMA_READ | KVMA_EXEC, &table), KVMA_OK);
    CHECK_EQ(log.gained, 1);
    CHECK_EQ(log.gains.start, BASE);
    CHECK_EQ(
        kvma_vm_relocate(vm, BASE, PAGE, BASE + PAGE, KVMA_SOURCE_UNMAP, KVMA_MERGE_BOTH, &table),
        KVMA_OK);
    CHECK_EQ(log.gained, 2);
    CHECK_EQ(log.gains.start, BASE + PAGE);
    CHECK_EQ(log.gains.last, BASE + 2 * PAGE - 1);
    CHECK(!kvma_event_gains_exec(NULL, NULL));
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

/* The pointer is a number of pages here. */
static void *relocate_data(void *udata, void *data, int64_t moved) {
    (void)udata;
    return (void *)((intptr_t)data + (intptr_t)moved);
}

TEST(user_data_hears_of_moves) {
    const struct kvma_data_ops ops = {.relocate = relocate_data};
    struct kvma_vm *vm = NULL;
    struct kvma_vma vma;
    struct kvma_request request = fixed(BASE + 4 * PAGE, 4, KVMA_READ);
    request.data = (void *)100;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, &ops), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_relocate(vm, BASE + 4 * PAGE, PAGE, BASE + 8 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, NULL),
             KVMA_OK);
    /* It lies behind the rest, and does not merge: it is another pointer. */
    CHECK_EQ(kvma_vm_find(vm, BASE + 8 * PAGE, &vma), KVMA_OK);
    CHECK_EQ((intptr_t)vma.data, 104);
    CHECK_EQ(vma.range.pages, 1);
    CHECK_EQ(kvma_vm_relocate(vm, BASE + 8 * PAGE, PAGE, BASE + 4 * PAGE, KVMA_SOURCE_UNMAP,
                              KVMA_MERGE_BOTH, NULL),
             KVMA_OK);
    CHECK_EQ(kvma_vm_len(vm), 1);
    CHECK_EQ(kvma_vm_find(vm, BASE + 4 * PAGE, &vma), KVMA_OK);
    CHECK_EQ((intptr_t)vma.data, 100);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

/* Marks the VMA copy-on-write in page tables, so to speak. */
static bool copy_on_write(void *udata, const struct kvma_vma *vma, struct kvma_attrs *attrs) {
    (void)vma;
    note(udata, 'c');
    attrs->user_bits = 1;
    return true;
}

TEST(a_fork_of_a_running_program_is_flushed) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_request one = fixed(BASE, 2, KVMA_READ),
                        two = fixed(BASE + 4 * PAGE, 2, KVMA_WRITE);
    struct kvma_vm *vm = NULL, *child = NULL, *other = NULL;
    struct kvma_update *update = NULL;
    struct kvma_vma vma;
    CHECK_EQ(kvma_vm_new(&vm, BASE, 32, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &one, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &two, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_fork_live(vm, NULL, copy_on_write, &log, &table, &child), KVMA_OK);
    expect(&log, "cc<>");
    CHECK_EQ(kvma_vm_len(child), 2);
    CHECK_EQ(kvma_vm_find(child, BASE, &vma), KVMA_OK);
    CHECK_EQ(vma.attrs.user_bits, 1);
    CHECK_EQ(kvma_update_new(&update, vm, &table, 0), KVMA_OK);
    CHECK_EQ(kvma_update_fork_live(update, vm, NULL, copy_on_write, &log, &other), KVMA_OK);
    expect(&log, "cc<");
    CHECK_EQ(kvma_update_finish(update), KVMA_OK);
    expect(&log, ">");
    CHECK_EQ(kvma_vm_free(other), KVMA_OK);
    CHECK_EQ(kvma_vm_fork_live(vm, NULL, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_fork_live(NULL, NULL, NULL, NULL, NULL, &other), KVMA_NULL_POINTER);
    CHECK(other == NULL);
    CHECK_EQ(kvma_vm_free(child), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TESTS(RUN(user_data_hears_of_moves), RUN(a_fork_of_a_running_program_is_flushed),
      RUN(claims_are_committed_or_released), RUN(vmas_move_to_another_map), RUN(write_xor_execute),
      RUN(every_step_is_heard_in_order), RUN(a_refusal_takes_everything_back),
      RUN(a_hook_that_calls_back_is_answered_busy), RUN(an_update_carries_several_changes),
      RUN(user_data_is_never_lost_or_dropped_twice))
