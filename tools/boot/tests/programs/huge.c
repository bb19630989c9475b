/*
 * Huge pages, a part of which changes: what every page holds afterwards. Each line that is printed
 * is what Linux prints, whether or not it has huge pages to give. With two arguments, lines between
 * them tell how much of the memory lies in huge pages.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE = 2 << 20, PAGES = 4 * HUGE / PAGE, PER_HUGE = HUGE / PAGE };
enum { REFUSED = -1, ROUNDS = 20 };

static const int rw = PROT_READ | PROT_WRITE;
static int tell;
static long expected[PAGES];
static char *memory;
static __thread sigjmp_buf before;

static void caught(int signal)
{
    (void)signal;
    siglongjmp(before, 1);
}

/* Returns what the last word of a page holds. */
static long load(int page)
{
    volatile long *words = (volatile long *)(memory + (long)page * PAGE);

    if (sigsetjmp(before, 1))
        return REFUSED;
    return words[PAGE / sizeof(long) - 1];
}

static int store(int page, long value)
{
    volatile long *words = (volatile long *)(memory + (long)page * PAGE);

    if (sigsetjmp(before, 1))
        return REFUSED;
    words[0] = words[PAGE / sizeof(long) - 1] = value;
    return 0;
}

static void set(int page, long value)
{
    if (store(page, value))
        printf("page %d cannot be written to\n", page);
    expected[page] = value;
}

/* Prints how many pages do not hold what they must. */
static void show(const char *what)
{
    int wrong = 0;

    for (int page = 0; page < PAGES; page++)
        wrong += load(page) != expected[page];
    printf("%s: %d pages are wrong\n", what, wrong);
}

/* Prints how much of the memory lies in huge pages. */
static void show_huge(void)
{
    char line[512];
    FILE *smaps = tell ? fopen("/proc/self/smaps", "r") : 0;
    unsigned long start = 0, end = 0, kib, sum = 0;
    uintptr_t first = (uintptr_t)memory, last = first + PAGES * (uintptr_t)PAGE - 1;

    if (!smaps)
        return;
    while (fgets(line, sizeof line, smaps))
        if (sscanf(line, "AnonHugePages: %lu", &kib) == 1)
            sum += start <= last && end > first ? kib : 0;
        else
            sscanf(line, "%lx-%lx ", &start, &end);
    fclose(smaps);
    printf("  in huge pages: %lu kB\n", sum);
}

/* Maps 8 MiB of huge pages, and writes to all of it. */
static void map(void)
{
    char *all = mmap(0, PAGES * PAGE + HUGE, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t aligned = ((uintptr_t)all + HUGE - 1) & -(uintptr_t)HUGE;

    memory = (char *)aligned;
    madvise(memory, PAGES * PAGE, MADV_HUGEPAGE);
    for (int page = 0; page < PAGES; page++)
        set(page, page + 1);
}

/* Parent and child write, each without the other's seeing it. */
static void fork_and_write(void)
{
    int down[2], up[2], status;
    char byte = 0;
    pid_t child;

    if (pipe(down) || pipe(up))
        return;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        show("the child after the fork");
        show_huge();
        fflush(stdout);
        if (write(up[1], &byte, 1) != 1 || read(down[0], &byte, 1) != 1)
            _exit(2);
        show("the child after a write of the parent's");
        set(3 * PER_HUGE + 7, -7);
        set(3 * PER_HUGE + 9, -9);
        show("the child after its own");
        show_huge();
        fflush(stdout);
        if (write(up[1], &byte, 1) != 1 || read(down[0], &byte, 1) != 1)
            _exit(2);
        _exit(0);
    }
    if (read(up[0], &byte, 1) != 1)
        return;
    set(3 * PER_HUGE + 8, 888);
    set(3 * PER_HUGE + 9, 999);
    if (write(down[1], &byte, 1) != 1 || read(up[0], &byte, 1) != 1)
        return;
    show("the parent after writes of both");
    show_huge();
    if (write(down[1], &byte, 1) != 1)
        return;
    waitpid(child, &status, 0);
    printf("the child's status: %d\n", status);
    set(3 * PER_HUGE + 10, 1010);
    show("the parent after the child's end");
}

static volatile long *volatile counter;
static volatile long counted;
static volatile int begun, over, answered;

/* Counts in a page until the round is over. */
static void *count_up(void *argument)
{
    for (volatile int round = 1; round <= ROUNDS; round++) {
        while (begun < round)
            sched_yield();
        while (over < round) {
            *counter = counted + 1;
            counted++;
        }
        answered = round;
    }
    return argument;
}

/* Splits huge pages in which another thread writes all the time. */
static void split_under_writes(void)
{
    pthread_t thread;
    int lost = 0;

    pthread_create(&thread, 0, count_up, 0);
    for (int round = 1; round <= ROUNDS; round++) {
        char *huge = memory + round % 4 * HUGE;

        madvise(huge, HUGE, MADV_DONTNEED);
        counted = 0;
        counter = (long *)(huge + 5 * PAGE);
        begun = round;
        while (counted < 100)
            sched_yield();
        mprotect(huge + 6 * PAGE, PAGE, PROT_NONE);
        for (long seen = counted; counted < seen + 100;)
            sched_yield();
        mprotect(huge + 6 * PAGE, PAGE, rw);
        over = round;
        while (answered < round)
            sched_yield();
        lost += *counter != counted;
    }
    pthread_join(thread, 0);
    printf("%d rounds, writes were lost in %d\n", ROUNDS, lost);
}

int main(int count, char **arguments)
{
    char *moved;

    (void)arguments;
    tell = count > 2;
    signal(SIGSEGV, caught);
    map();
    show("written");
    show_huge();

    mprotect(memory + 100 * PAGE, PAGE, PROT_READ);
    printf("a store to the page that is read-only: %d\n", store(100, 1));
    set(99, 99);
    set(101, 101);
    show("one page is read-only");
    show_huge();

    munmap(memory + (PER_HUGE + 300) * PAGE, PAGE);
    expected[PER_HUGE + 300] = REFUSED;
    show("one page is unmapped");
    show_huge();

    madvise(memory + (2 * PER_HUGE + 1) * PAGE, PAGE, MADV_DONTNEED);
    expected[2 * PER_HUGE + 1] = 0;
    show("one page is given back");
    show_huge();

    fork_and_write();

    /* The last page of one huge page and the first of the next, to another place. */
    moved = mmap(0, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    moved = mremap(memory + (PER_HUGE - 1) * PAGE, 2 * PAGE, 2 * PAGE,
                   MREMAP_MAYMOVE | MREMAP_FIXED, moved);
    printf("moved: %ld %ld\n", ((long *)moved)[0], ((long *)(moved + PAGE))[0]);
    expected[PER_HUGE - 1] = expected[PER_HUGE] = REFUSED;
    show("two pages have moved");

    munmap(memory, PAGES * PAGE);
    map();
    show("mapped again");
    show_huge();
    madvise(memory + HUGE, HUGE, MADV_DONTNEED);
    memset(&expected[PER_HUGE], 0, PER_HUGE * sizeof(long));
    set(PER_HUGE + 1, 1);
    mprotect(memory + HUGE, 2 * HUGE, PROT_READ);
    mprotect(memory + HUGE, 2 * HUGE, rw);
    show("one huge page is given back, and two were read-only");
    show_huge();
    split_under_writes();
    return 0;
}
