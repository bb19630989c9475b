/* Random numbers with a liking for edges, and a heap that runs out on command. */
#ifndef KVMA_RANDOM_H
#define KVMA_RANDOM_H

#include "test.h"

#include <kvma.h>

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Below n. */
static uint64_t up_to(uint64_t n) {
    return random_bits() % n;
}

/* One time in n. */
static bool one_in(uint64_t n) {
    return up_to(n) == 0;
}

/* Blocks that the heap still gives; below zero: all that are asked for. */
static long heap_left = -1;
static long heap_out;

static void *heap_alloc(void *ctx, size_t size, size_t align) {
    (void)ctx;
    if (heap_left == 0)
        return NULL;
    if (heap_left > 0)
        heap_left--;
    heap_out++;
    return aligned_alloc(align, size);
}

static void heap_free(void *ctx, void *memory, size_t size, size_t align) {
    (void)ctx, (void)size, (void)align;
    heap_out--;
    free(memory);
}

static const struct kvma_allocator heap = {sizeof(struct kvma_allocator), heap_alloc, heap_free, NULL};

/* Whatever it answers, it does not say that something broke. */
static kvma_status whole(kvma_status status) {
    CHECK(status != KVMA_INTERNAL);
    return status;
}

#endif
