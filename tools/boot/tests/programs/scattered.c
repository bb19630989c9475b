/*
 * Huge pages are asked for where most of the free memory does not lie together: some are had, and
 * the rest comes page by page. The machine has to be of a few hundred MiB, all of which is touched.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

enum { PAGE = 4096, HUGE = 2 << 20 };

static const int rw = PROT_READ | PROT_WRITE;

/* Returns the sum of the numbers in lines of a file that have this format. */
static unsigned long number(const char *file, const char *format)
{
    char line[512];
    FILE *lines = fopen(file, "r");
    unsigned long one, sum = 0;

    while (lines && fgets(line, sizeof line, lines))
        if (sscanf(line, format, &one) == 1)
            sum += one;
    if (lines)
        fclose(lines);
    return sum;
}

static char *map(unsigned long len)
{
    return mmap(0, len, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static unsigned long touch(char *memory, unsigned long len)
{
    unsigned long wrong = 0;

    for (unsigned long at = 0; at < len; at += PAGE)
        *(unsigned long *)(memory + at) = at + 1;
    for (unsigned long at = 0; at < len; at += PAGE)
        wrong += *(unsigned long *)(memory + at) != at + 1;
    return wrong;
}

int main(void)
{
    unsigned long free = number("/proc/meminfo", "MemFree: %lu") << 10, huge, wrong;
    /* Two thirds of it are taken, and half of that is given back, page by page. */
    unsigned long first = free / 3 * 2 & -(unsigned long)HUGE;
    unsigned long second = free / 2 & -(unsigned long)HUGE;
    char *memory = map(first);

    wrong = touch(memory, first);
    for (unsigned long at = 0; at < first; at += 2 * PAGE)
        madvise(memory + at, PAGE, MADV_DONTNEED);
    memory = map(second + HUGE);
    memory = (char *)(((uintptr_t)memory + HUGE - 1) & -(uintptr_t)HUGE);
    madvise(memory, second, MADV_HUGEPAGE);
    wrong += touch(memory, second);
    huge = number("/proc/self/smaps", "AnonHugePages: %lu") << 10;
    printf("%lu pages are wrong\n", wrong);
    printf("%s huge pages, %s pages\n", huge ? "some" : "no", huge < second ? "some" : "no");
    return 0;
}
