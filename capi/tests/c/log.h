/* A log of what hooks hear, and requests at fixed addresses. */
#ifndef KVMA_LOG_H
#define KVMA_LOG_H

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
        /* An update is made before the lock is taken, while others may be changing the map. */
        struct kvma_update *update;
        CHECK_EQ(kvma_update_new(&update, log->vm, NULL, 1), KVMA_OK);
        CHECK_EQ(kvma_update_unmap(update, log->vm, BASE, PAGE, NULL), KVMA_BUSY);
        CHECK_EQ(kvma_update_finish(update), KVMA_OK);
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
    struct kvma_hooks table = {.size = sizeof table,
                               .prepare = prepare,
                               .cancel = cancel,
                               .on_map = on_map,
                               .on_unmap = on_unmap,
                               .on_protect = on_protect,
                               .on_relocate = on_relocate,
                               .on_advise = on_advise,
                               .flush_begin = flush_begin,
                               .flush_wait = flush_wait,
                               .udata = log};
    memset(log, 0, sizeof *log);
    return table;
}

static inline struct kvma_request fixed(uint64_t addr, uint64_t pages, uint32_t flags) {
    struct kvma_request request = {0};
    request.placement.kind = KVMA_FIXED;
    request.placement.addr = addr;
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

#endif
