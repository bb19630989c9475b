/* Random numbers with a liking for edges, and a heap that runs out on command. */
#ifndef KVMA_RANDOM_H
#define KVMA_RANDOM_H

#include "test.h"

#include <kvma.h>

#include <stdint.h>

static uint64_t random_state = 88172645463325252u;

/* The bytes of a fuzzer, instead of random numbers; zeros follow them. */
static const uint8_t *input;
static size_t input_left;
static bool is_fed;

static uint64_t fed(unsigned bytes) {
    uint64_t value = 0;
    for (; bytes > 0 && input_left > 0; bytes--, input_left--)
        value = value << 8 | *input++;
    return value;
}

/* Returns 1 if there is something left to do: always, with random numbers. */
static bool is_more(void) {
    return !is_fed || input_left > 0;
}

static uint64_t random_bits(void) {
    if (is_fed)
        return fed(8);
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Below n. */
static uint64_t up_to(uint64_t n) {
    return (is_fed && n <= 256 ? fed(1) : random_bits()) % n;
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

static const struct kvma_allocator heap = {
    sizeof(struct kvma_allocator), heap_alloc, heap_free, NULL};

/* Whatever it answers, it does not say that something broke. */
static kvma_status whole(kvma_status status) {
    CHECK(status != KVMA_INTERNAL);
    return status;
}

/* INPUT { ... } is what one input of a fuzzer does, which then calls kvma_fuzz_one_input. */
#define INPUT                                                                                      \
    static void one_input(void);                                                                   \
    void kvma_fuzz_one_input(const uint8_t *bytes, size_t len) {                                   \
        input = bytes;                                                                             \
        input_left = len;                                                                          \
        is_fed = true;                                                                             \
        one_input();                                                                               \
    }                                                                                              \
    static void one_input(void)

void kvma_fuzz_one_input(const uint8_t *bytes, size_t len);

/* Runs the files that follow --replay. */
static int replay(int argc, char **argv) {
    for (int i = 2; i < argc; i++) {
        static uint8_t bytes[1 << 16];
        FILE *file = fopen(argv[i], "rb");
        CHECK(file);
        size_t len = fread(bytes, 1, sizeof bytes, file);
        CHECK(len < sizeof bytes && fclose(file) == 0);
        fprintf(stderr, "%s\n", argv[i]);
        kvma_fuzz_one_input(bytes, len);
    }
    return 0;
}

/* The fuzzer brings its own main. */
#ifdef KVMA_FUZZ
#define main no_main
#endif

#define TESTS_AND_INPUTS(...)                                                                      \
    int main(int argc, char **argv) {                                                              \
        static const struct test tests[] = {__VA_ARGS__};                                          \
        if (argc > 1 && strcmp(argv[1], "--replay") == 0)                                          \
            return replay(argc, argv);                                                             \
        return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);                         \
    }

#endif
