/*
 * Two threads map, unmap, protect, move and touch memory in one address space, as many operations
 * as the argument says, while a third one forks. Every page is checked to hold what was written
 * there.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SLOTS = 16 };

static long operations;
static volatile int running = 2;

static void wrong(const char *what)
{
    fprintf(stderr, "wrong: %s\n", what);
    _exit(1);
}

static void *churn(void *argument)
{
    unsigned long number = (unsigned long)argument, random = number + 1;
    char *slots[SLOTS] = {0};
    unsigned long written[SLOTS] = {0};

    for (long round = 0, done = 0; done < operations / 2; round++) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        int slot = random >> 60;
        unsigned long *first = (void *)slots[slot];

        if (!first) {
            slots[slot] = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (slots[slot] == MAP_FAILED)
                wrong("no memory");
            first = (void *)slots[slot];
            if (*first || first[2 * PAGE / 8])
                wrong("new memory is not zero");
            *first = first[2 * PAGE / 8] = written[slot] = random;
            done += 3; /* two pages are touched */
            continue;
        }
        if (*first != written[slot] || first[2 * PAGE / 8] != written[slot])
            wrong("memory has changed");
        switch (random >> 56 & 3) {
        case 0:
            munmap(first, 3 * PAGE);
            slots[slot] = 0;
            done++;
            break;
        case 1:
            mprotect(first, PAGE, PROT_READ);
            mprotect(first, PAGE, PROT_READ | PROT_WRITE);
            done += 2;
            break;
        case 2:
            slots[slot] = mremap(first, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                                 (void *)(0x200000000000ul + (number << 40) + round * 3ul * PAGE));
            if (slots[slot] == MAP_FAILED)
                wrong("not moved");
            done++;
            break;
        default:
            *first = first[2 * PAGE / 8] = written[slot] = random;
            done++;
        }
    }
    __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
    return 0;
}

int main(int count, char **arguments)
{
    pthread_t threads[2];

    operations = count > 1 ? atol(arguments[1]) : 1000;
    for (long number = 0; number < 2; number++)
        pthread_create(&threads[number], 0, churn, (void *)number);
    while (running > 0) {
        pid_t child = fork();
        int status;

        if (!child) {
            /* It may do as it likes in a copy of what is changing all the time. */
            char *mine = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

            _exit(mine == MAP_FAILED || *mine || munmap(mine, PAGE) ? 1 : 7);
        }
        if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7)
            wrong("a child");
    }
    for (int number = 0; number < 2; number++)
        pthread_join(threads[number], 0);
    printf("%ld operations\n", operations);
    return 0;
}
