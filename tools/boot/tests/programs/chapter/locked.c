/* A secret is locked into memory, and what is mapped later as well. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

/* Prints how much of the process is locked. */
static void show(const char *what)
{
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");

    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "VmLck:", 6))
            printf("%s: %s", what, line);
    if (status)
        fclose(status);
}

static char *map(int pages, int flags)
{
    return mmap(0, pages * PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

int main(void)
{
    char *secret, *later;
    unsigned char resident[2];

    setvbuf(stdout, 0, _IOLBF, 1024);
    secret = map(2, 0);
    show("at first");
    if (mlock(secret + PAGE, 10))
        return 1;
    show("the page of ten bytes");
    mincore(secret, 2 * PAGE, resident);
    printf("in memory: %d %d\n", resident[0] & 1, resident[1] & 1);
    strcpy(secret + PAGE, "a secret of thirty-two bytes....");
    memset(secret + PAGE, 0, PAGE);
    munlock(secret + PAGE, PAGE);
    show("given back");
    if (mlockall(MCL_FUTURE))
        return 2;
    later = map(2, 0);
    mincore(later, 2 * PAGE, resident);
    printf("mapped later, in memory: %d %d\n", resident[0] & 1, resident[1] & 1);
    munmap(later, 2 * PAGE);
    munlockall();
    show("at the end");
    printf("nothing there: %d\n", mlock(later, PAGE));
    return 0;
}
