/*
 * Memory that processes share, holes in it, limits, and what the kernel tells about memory. Each
 * line that is printed is what Linux prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static const int rw = PROT_READ | PROT_WRITE;

/* Prints the permissions and the VmFlags that maps and smaps have for an address. */
static void show(const char *what, void *address)
{
    char line[512], maps[64] = "nothing";
    FILE *smaps = fopen("/proc/self/smaps", "r");
    int inside = 0;

    while (smaps && fgets(line, sizeof line, smaps)) {
        unsigned long start, end;
        char permissions[5];

        if (sscanf(line, "%lx-%lx %4s", &start, &end, permissions) == 3) {
            inside = (unsigned long)address >= start && (unsigned long)address < end;
            if (inside)
                snprintf(maps, sizeof maps, "%s, %lu pages", permissions, (end - start) / PAGE);
        } else if (inside && !strncmp(line, "VmFlags:", 8)) {
            const char *has = strstr(line, " lo") ? "locked" : "not locked";

            printf("%s: %s, %s\n", what, maps, has);
        }
    }
    if (smaps)
        fclose(smaps);
}

static void alarmed(int signal)
{
    (void)signal;
}

int main(void)
{
    struct rlimit limit = {64 << 20, 64 << 20};
    unsigned char resident[4];
    char *shared, *same, *private, *huge, name[32];
    char *volatile nowhere = (char *)8;
    int file, status, ends[2];
    char byte;

    /* POSIX shared memory, through two mappings and in two processes. */
    snprintf(name, sizeof name, "/kvma-%ld", (long)getpid());
    file = shm_open(name, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, 4 * PAGE))
        return 1;
    shared = mmap(0, 4 * PAGE, rw, MAP_SHARED, file, 0);
    same = mmap(0, PAGE, PROT_READ, MAP_SHARED, file, PAGE);
    private = mmap(0, 4 * PAGE, rw, MAP_PRIVATE, file, 0);
    strcpy(shared + PAGE, "by the parent");
    printf("%s; %s\n", same, private + PAGE);
    private[PAGE] = 'B';
    if (!fork()) {
        strcpy(shared + PAGE, "by the child");
        _exit(0);
    }
    wait(&status);
    printf("%s; %s\n", same, private + PAGE);
    if (madvise(shared, 2 * PAGE, MADV_REMOVE))
        return 1;
    printf("after the hole: %d, %d\n", shared[PAGE], same[0]);
    shm_unlink(name);

    /* Advice, residency, locks. */
    private = mmap(0, 4 * PAGE, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    private[0] = private[PAGE] = 1;
    mincore(private, 4 * PAGE, resident);
    printf("resident: %d %d %d\n", resident[0] & 1, resident[1] & 1, resident[3] & 1);
    madvise(private, PAGE, MADV_DONTNEED);
    printf("given back: %d, kept: %d\n", private[0], private[PAGE]);
    printf("locked: %d\n", mlock(private + PAGE, PAGE));
    show("locked page", private + PAGE);
    munlock(private, 4 * PAGE);
    mprotect(private + 2 * PAGE, PAGE, PROT_READ);
    show("read-only page", private + 2 * PAGE);
    mprotect(private + 2 * PAGE, PAGE, rw);
    show("all of it", private);
    huge = mremap(private, 4 * PAGE, 400 * PAGE, MREMAP_MAYMOVE);
    printf("moved and grown: %d %d\n", huge[PAGE], huge[399 * PAGE]);

    /* Limits. */
    setrlimit(RLIMIT_AS, &limit);
    errno = 0;
    private = mmap(0, 128 << 20, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("over the limit: %s\n", private == MAP_FAILED ? strerror(errno) : "mapped");

    /* The kernel's copies obey the same rules. */
    private = mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pipe(ends) || write(ends[1], "x", 1) != 1)
        return 1;
    errno = 0;
    if (read(ends[0], private, 1) < 0)
        printf("read into read-only memory: %s\n", strerror(errno));
    if (write(ends[1], nowhere, 1) < 0)
        printf("write from nowhere: %s\n", strerror(errno));

    /* A signal ends a wait. */
    struct sigaction action = {.sa_handler = alarmed};
    sigaction(SIGALRM, &action, 0);
    alarm(1);
    if (write(ends[1], "y", 1) != 1 || read(ends[0], &byte, 1) < 0)
        return 1;
    while (read(ends[0], &byte, 1) > 0)
        ;
    printf("interrupted: %s\n", strerror(errno));
    return 0;
}
