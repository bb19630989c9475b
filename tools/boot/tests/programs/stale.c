/*
 * One thread writes to a page all the time, while another one takes it away. As soon as the call
 * has returned, no write may reach the page any more, whatever the first thread's processor
 * remembers.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };
enum way { UNMAP, READ_ONLY, NO_ACCESS, MOVE, GIVE_BACK, WAYS };

static volatile long *volatile page;
static volatile int round_begun, round_over, answered;
static volatile long writes, refused;
static __thread sigjmp_buf before;

static void caught(int signal)
{
    (void)signal;
    siglongjmp(before, 1);
}

/* Writes until the round is over, then once more. Says if that write was made. */
static void *writer(void *argument)
{
    for (volatile int round = 1;; round++) {
        while (round_begun < round)
            sched_yield();
        if (page == 0)
            return argument;
        if (!sigsetjmp(before, 1))
            while (round_over < round)
                page[0] = ++writes;
        while (round_over < round)
            sched_yield();
        refused = 1;
        if (!sigsetjmp(before, 1)) {
            page[0] = -round;
            refused = 0;
        }
        answered = round;
    }
}

static long *map(void)
{
    return mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int main(int count, char **arguments)
{
    int rounds = count > 1 ? atoi(arguments[1]) : 100;
    long stale = 0;
    pthread_t thread;

    signal(SIGSEGV, caught);
    pthread_create(&thread, 0, writer, 0);
    for (int round = 1; round <= rounds; round++) {
        long *mine = map(), *kept = 0, first = writes;
        enum way way = round % WAYS;

        page = mine;
        round_begun = round;
        while (writes < first + 100)
            sched_yield();
        if (way == UNMAP)
            munmap(mine, PAGE);
        else if (way == READ_ONLY)
            mprotect(mine, PAGE, PROT_READ);
        else if (way == NO_ACCESS)
            mprotect(mine, PAGE, PROT_NONE);
        else if (way == MOVE)
            kept = mremap(mine, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map());
        else
            madvise(mine, PAGE, MADV_DONTNEED);
        round_over = round;
        while (answered < round)
            sched_yield();
        if (way == GIVE_BACK)
            stale += refused || mine[0] != -round;
        else
            stale += !refused;
        if (kept) {
            stale += kept[0] == -round;
            munmap(kept, PAGE);
        }
        if (way != UNMAP && way != MOVE)
            munmap(mine, PAGE);
    }
    page = 0;
    round_begun = rounds + 1;
    pthread_join(thread, 0);
    printf("%d rounds, %ld writes where they must not be\n", rounds, stale);
    return 0;
}
