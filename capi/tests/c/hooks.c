/* The hooks: what they are told of a map, and when. */
#include "log.h"

TEST(every_step_is_heard_in_order) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_vm *vm = NULL;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 8, KVMA_READ);
    request.attrs.backed = true;
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_OK);
    expect(&log, "Mm");
    CHECK_EQ(kvma_vm_protect(vm, BASE + 2 * PAGE, PAGE, KVMA_WRITE, &table), KVMA_OK);
    expect(&log, "Pp<>");
    CHECK_EQ(log.old.flags, KVMA_READ);
    CHECK_EQ(log.last.attrs.flags, KVMA_WRITE);
    CHECK_EQ(log.last.range.start, BASE + 2 * PAGE);
    CHECK_EQ(log.last.attrs.offset, 2 * PAGE);
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
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request one = fixed(BASE, 2, KVMA_READ),
                        two = fixed(BASE + 2 * PAGE, 2, KVMA_WRITE);
    CHECK_EQ(kvma_vm_map(vm, &one, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_map(vm, &two, NULL, NULL), KVMA_OK);
    log.refuse_at = 2;
    log.refuse_with = 11;
    CHECK_EQ(kvma_vm_unmap(vm, BASE, 4 * PAGE, &table, NULL), -11);
    expect(&log, "UUc");
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 4 * PAGE);
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
    CHECK_EQ(kvma_vm_new(&log.vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
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
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
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

static void count(void *udata, const struct kvma_vma *vma) {
    CHECK(vma->range.len > 0);
    ++*(int *)udata;
}

TEST(vmas_move_to_another_map) {
    struct log log, other_log;
    struct kvma_hooks table = hooks(&log), other_table = hooks(&other_log);
    struct kvma_vm *vm = NULL, *other = NULL;
    struct kvma_update *update = NULL, *other_update = NULL;
    int vmas = 0;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_new(&other, 0, 64 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 4, KVMA_READ);
    CHECK_EQ(kvma_vm_map(vm, &request, NULL, NULL), KVMA_OK);
    CHECK_EQ(
        kvma_vm_transfer(vm, BASE + PAGE, PAGE, &table, other, 0, KVMA_MERGE_BOTH, &other_table),
        KVMA_OK);
    expect(&log, "Uu<>");
    expect(&other_log, "Mm");
    CHECK_EQ(kvma_vm_mapped_bytes(vm), 3 * PAGE);
    CHECK_EQ(kvma_vm_mapped_bytes(other), PAGE);
    CHECK_EQ(kvma_vm_transfer(vm, BASE, PAGE, NULL, vm, BASE + 8 * PAGE, KVMA_MERGE_BOTH, NULL),
             KVMA_SAME_SPACE);
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
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
    struct kvma_request request = fixed(BASE, 1, KVMA_WRITE | KVMA_EXEC);
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_WRITE_XOR_EXEC);
    request.attrs.flags = KVMA_WRITE;
    CHECK_EQ(kvma_vm_map(vm, &request, &table, NULL), KVMA_OK);
    CHECK_EQ(kvma_vm_protect(vm, BASE, PAGE, KVMA_READ | KVMA_EXEC, &table), KVMA_WRITE_XOR_EXEC);
    CHECK_EQ(kvma_errno(KVMA_WRITE_XOR_EXEC), 13);
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

/* Marks the VMA copy-on-write in page tables, so to speak. */
static int32_t copy_on_write(void *udata, const struct kvma_vma *vma, struct kvma_attrs *attrs,
                             void **data) {
    struct log *log = udata;
    note(udata, 'c');
    CHECK(*data == vma->data);
    attrs->user_bits = 1;
    return ++log->prepared == log->refuse_at ? log->refuse_with : 0;
}

TEST(a_fork_of_a_running_program_is_flushed) {
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_request one = fixed(BASE, 2, KVMA_READ),
                        two = fixed(BASE + 4 * PAGE, 2, KVMA_WRITE);
    struct kvma_vm *vm = NULL, *child = NULL, *other = NULL;
    struct kvma_update *update = NULL;
    struct kvma_vma vma;
    CHECK_EQ(kvma_vm_new(&vm, BASE, BASE + 32 * PAGE - 1, PAGE, NULL, NULL), KVMA_OK);
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
    /* A copy that fails ends the fork, and the flush follows all the same. */
    log.prepared = 0;
    log.refuse_at = 2;
    log.refuse_with = -12;
    CHECK_EQ(kvma_vm_fork_live(vm, NULL, copy_on_write, &log, &table, &other), -12);
    expect(&log, "cc<>");
    CHECK(other == NULL);
    log.prepared = 0;
    log.refuse_with = 7;
    CHECK_EQ(kvma_vm_fork_live(vm, NULL, copy_on_write, &log, &table, &other), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_vm_fork_live(vm, NULL, NULL, NULL, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_vm_fork_live(NULL, NULL, NULL, NULL, NULL, &other), KVMA_NULL_POINTER);
    CHECK(other == NULL);
    CHECK_EQ(kvma_vm_free(child), KVMA_OK);
    CHECK_EQ(kvma_vm_free(vm), KVMA_OK);
}

TESTS(RUN(every_step_is_heard_in_order), RUN(a_refusal_takes_everything_back),
      RUN(a_hook_that_calls_back_is_answered_busy), RUN(an_update_carries_several_changes),
      RUN(vmas_move_to_another_map), RUN(write_xor_execute),
      RUN(a_fork_of_a_running_program_is_flushed))
