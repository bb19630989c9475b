/* Mappings at an address of the program's choice, which replace others or refuse to. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static char *map(void *at, int pages, int flags)
{
    errno = 0;
    return mmap(at, pages * PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

int main(void)
{
    char *all = map(0, 32, 0), *again;

    if (all == MAP_FAILED)
        return 1;
    munmap(all + 16 * PAGE, 16 * PAGE);
    memset(all, 'x', 16 * PAGE);
    again = map(all + 15 * PAGE, 2, MAP_FIXED_NOREPLACE);
    printf("partly mapped: %s\n", again == MAP_FAILED ? strerror(errno) : "mapped");
    printf("and as it was: %c\n", all[15 * PAGE]);
    again = map(all + 16 * PAGE, 2, MAP_FIXED_NOREPLACE);
    printf("free: %s\n", again == all + 16 * PAGE ? "there" : "elsewhere");
    again = map(all + 4 * PAGE, 2, 0);
    printf("a hint at what is mapped: %s\n", again == all + 4 * PAGE ? "there" : "elsewhere");
    again = map(all + 4 * PAGE, 2, MAP_FIXED);
    printf("replaced: %s\n", again == all + 4 * PAGE ? "there" : "elsewhere");
    printf("around and in it: %c%d%d%c\n", all[4 * PAGE - 1], all[4 * PAGE], all[6 * PAGE - 1],
           all[6 * PAGE]);
    again = map(all + 20 * PAGE, 1, MAP_FIXED);
    printf("replacing nothing: %s\n", again == all + 20 * PAGE ? "there" : "elsewhere");
    map(all + 1, 1, MAP_FIXED);
    printf("not on a page: %s\n", strerror(errno));
    return 0;
}
