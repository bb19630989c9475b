/* A buffer between two pages that nobody may access: a byte too far on either side is fatal. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 2 };

/* Returns the signal that ends a child which writes there. */
static int signal_of_write(volatile char *at)
{
    int status;

    if (!fork()) {
        *at = 1;
        _exit(0);
    }
    wait(&status);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int main(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *start = mmap(0, (PAGES + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *buffer = start + page;

    if (start == MAP_FAILED || mprotect(buffer, PAGES * page, PROT_READ | PROT_WRITE))
        return 1;
    memset(buffer, 0xcc, PAGES * page);
    printf("first byte: %d, last byte: %d\n", signal_of_write(buffer),
           signal_of_write(buffer + PAGES * page - 1));
    printf("before: %s\n", signal_of_write(buffer - 1) == SIGSEGV ? "SIGSEGV" : "written");
    printf("after: %s\n",
           signal_of_write(buffer + PAGES * page) == SIGSEGV ? "SIGSEGV" : "written");
    printf("the buffer holds %x to %x\n", (unsigned char)buffer[0],
           (unsigned char)buffer[PAGES * page - 1]);
    return munmap(start, (PAGES + 2) * page);
}
