/*
 * malloc, as a program may have it for itself: blocks of a few sizes in chunks from mmap(2), larger
 * ones in mappings of their own, which grow by mremap(2). Four threads allocate and free, also what
 * another thread has allocated, and each block is checked to hold what was written there.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, CHUNK = 64 * 1024, CLASSES = 8, THREADS = 4, SLOTS = 64 };

/* Before each block. */
struct header {
    size_t size;        /* of the block, without this */
    struct header *next; /* of the free blocks of its class */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct header *free_blocks[CLASSES];
static long chunks, mappings;
static int rounds = 2000;

static void wrong(const char *what)
{
    fprintf(stderr, "wrong: %s\n", what);
    _exit(1);
}

static void *map(size_t len)
{
    void *memory = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        wrong("no memory");
    return memory;
}

/* Classes have blocks of 48, 112, 240, ... bytes. */
static int class_of(size_t size)
{
    for (int class = 0; class < CLASSES; class++)
        if (size + sizeof(struct header) <= (size_t)64 << class)
            return class;
    return CLASSES;
}

static void *allocate(size_t size)
{
    int class = class_of(size);
    struct header *block;

    if (class == CLASSES) {
        size_t len = (size + sizeof *block + PAGE - 1) / PAGE * PAGE;

        block = map(len);
        block->size = len - sizeof *block;
        __atomic_add_fetch(&mappings, 1, __ATOMIC_RELAXED);
        return block + 1;
    }
    pthread_mutex_lock(&lock);
    if (!free_blocks[class]) {
        char *chunk = map(CHUNK);

        chunks++;
        for (size_t at = 0; at < CHUNK; at += (size_t)64 << class) {
            block = (void *)(chunk + at);
            block->size = ((size_t)64 << class) - sizeof *block;
            block->next = free_blocks[class];
            free_blocks[class] = block;
        }
    }
    block = free_blocks[class];
    free_blocks[class] = block->next;
    pthread_mutex_unlock(&lock);
    return block + 1;
}

static void release(void *memory)
{
    struct header *block = (struct header *)memory - 1;
    int class = class_of(block->size);

    if (class == CLASSES) {
        if (munmap(block, block->size + sizeof *block))
            wrong("not unmapped");
        __atomic_sub_fetch(&mappings, 1, __ATOMIC_RELAXED);
        return;
    }
    pthread_mutex_lock(&lock);
    block->next = free_blocks[class];
    free_blocks[class] = block;
    pthread_mutex_unlock(&lock);
}

/* Doubles a block that has a mapping of its own. */
static void *grow(void *memory)
{
    struct header *block = (struct header *)memory - 1;
    size_t len = block->size + sizeof *block;

    block = mremap(block, len, 2 * len, MREMAP_MAYMOVE);
    if (block == MAP_FAILED)
        wrong("not grown");
    block->size = 2 * len - sizeof *block;
    return block + 1;
}

/* Blocks that any thread may take: the first word is their size, the others are their address. */
static uint64_t *slots[SLOTS];

static void fill(uint64_t *block, size_t size)
{
    block[0] = size;
    for (size_t k = 1; k < size / 8; k++)
        block[k] = size + k;
}

static void check(const uint64_t *block)
{
    for (size_t k = 1; k < block[0] / 8; k++)
        if (block[k] != block[0] + k)
            wrong("a block has changed");
}

static void *run(void *argument)
{
    uint64_t random = (uintptr_t)argument + 1;

    for (int round = 0; round < rounds; round++) {
        uint64_t *mine, *before;
        size_t size;

        random = random * 6364136223846793005u + 1442695040888963407u;
        size = (16 + (random >> 40) % (random >> 63 ? 200 : 20000)) / 8 * 8;
        mine = allocate(size);
        fill(mine, size);
        if (class_of(size) == CLASSES && random >> 62 == 1) {
            mine = grow(mine);
            check(mine);
            if (mine[size / PAGE * PAGE / 8 + PAGE / 4])
                wrong("what has grown is not zero");
            fill(mine, 2 * size);
        }
        before = __atomic_exchange_n(&slots[(random >> 50) % SLOTS], mine, __ATOMIC_SEQ_CST);
        if (before) {
            check(before);
            release(before);
        }
    }
    return 0;
}

int main(int count, char **arguments)
{
    pthread_t threads[THREADS];

    if (count > 1)
        rounds = atoi(arguments[1]);
    for (uintptr_t k = 0; k < THREADS; k++)
        if (pthread_create(&threads[k], 0, run, (void *)k))
            wrong("no thread");
    for (int k = 0; k < THREADS; k++)
        pthread_join(threads[k], 0);
    for (int k = 0; k < SLOTS; k++) {
        if (slots[k]) {
            check(slots[k]);
            release(slots[k]);
        }
    }
    printf("%d rounds of %d threads; of large blocks %ld are left, and there are %s\n", rounds,
           THREADS, mappings, chunks ? "chunks" : "no chunks");
    return 0;
}
