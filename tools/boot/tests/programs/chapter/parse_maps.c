/* Reads /proc/self/maps, and finds in it what the program knows of itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

enum { PAGE = 4096 };

static int initialized = 1;

/* Prints the line that an address lies in, without what differs between machines. */
static void find(const char *what, const void *address)
{
    char line[512], permissions[8], name[256];
    unsigned long start, end, offset, inode, last = 0, lines = 0;
    unsigned major, minor;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (maps && fgets(line, sizeof line, maps)) {
        const char *base;

        name[0] = 0;
        if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %255[^\n]", &start, &end, permissions, &offset,
                   &major, &minor, &inode, name) < 7) {
            printf("strange: %s", line);
            exit(1);
        }
        if (start < last || start >= end || start % PAGE || end % PAGE) {
            printf("out of order: %s", line);
            exit(1);
        }
        last = end;
        lines++;
        if ((unsigned long)address < start || (unsigned long)address >= end)
            continue;
        base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
        printf("%s: %s, %s, %s\n", what, permissions, inode ? "of a file" : "of none",
               *base ? base : "without a name");
    }
    if (lines < 5)
        printf("%lu lines\n", lines);
    if (maps)
        fclose(maps);
}

int main(void)
{
    int local = 1;
    char *heap = malloc(100);
    char *pages = mmap(0, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED || shared == MAP_FAILED)
        return 1;
    mprotect(pages + PAGE, PAGE, PROT_NONE);
    find("code", (void *)(unsigned long)main);
    find("data", &initialized);
    find("heap", heap);
    find("stack", &local);
    find("a page", pages);
    find("one without access", pages + PAGE);
    find("the next", pages + 2 * PAGE);
    find("shared", shared);
    return 0;
}
