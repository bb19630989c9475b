/*
 * Faults, caught on a stack of their own, with their codes and addresses; and what mappings show.
 * Each line that is printed is what Linux prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf before;
static siginfo_t caught;
static int on_its_stack;
static char stack[65536];

static void handler(int signal, siginfo_t *info, void *context)
{
    char here;

    (void)signal;
    (void)context;
    caught = *info;
    on_its_stack = &here >= stack && &here < stack + sizeof stack;
    siglongjmp(before, 1);
}

#define FAULT(what, access)                                                                   \
    do {                                                                                      \
        memset(&caught, 0, sizeof caught);                                                    \
        if (!sigsetjmp(before, 1)) {                                                          \
            access;                                                                           \
        }                                                                                     \
        printf("%s: signal %d, code %d, %s address, %s stack\n", what, caught.si_signo,       \
               caught.si_code, caught.si_addr == (void *)page ? "its" : "another",            \
               on_its_stack ? "its" : "another");                                             \
    } while (0)

static volatile char *page;

static volatile char *map(int protection, int flags, int file)
{
    return mmap(0, 8192, protection, flags, file, 0);
}

static void touch_stack(int depth)
{
    volatile char frame[4096];

    frame[0] = depth;
    if (depth > 0)
        touch_stack(depth - 1);
    frame[1] = frame[0];
}

static int after_child(pid_t child)
{
    int status;

    waitpid(child, &status, 0);
    return status;
}

int main(int argc, char **argv)
{
    const int rw = PROT_READ | PROT_WRITE;
    const int private = MAP_PRIVATE | MAP_ANONYMOUS;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    char read_back[6] = {0};
    volatile int *shared;
    pid_t child;
    int file, status;

    sigaltstack(&alternate, 0);
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);

    page = map(rw, private, -1);
    page[0] = 1;
    mprotect((void *)page, 4096, PROT_READ);
    FAULT("read-only", page[0] = 2);
    munmap((void *)page, 4096);
    FAULT("unmapped", page[0]);
    page = map(PROT_NONE, private, -1);
    FAULT("no access", page[0]);
    page = map(PROT_READ, private, -1);
    FAULT("not executable", ((void (*)(void))page)());

    file = open(argc > 1 ? argv[1] : "/tmp/file", O_RDWR | O_CREAT, 0600);
    if (write(file, "hello", 5) != 5)
        return 1;
    page = map(rw, MAP_SHARED, file);
    page[0] = 'J';
    if (pread(file, read_back, 5, 0) != 5)
        return 1;
    printf("the file: %s\n", read_back);
    page = map(rw, MAP_PRIVATE, file);
    page[0] = 'C';
    if (pread(file, read_back, 5, 0) != 5)
        return 1;
    printf("the file: %s, its private copy: %.5s\n", read_back, (char *)page);
    if (ftruncate(file, 0))
        return 1;
    FAULT("beyond the end", page[0]);
    if (ftruncate(file, 4096))
        return 1;
    printf("grown again: %d\n", page[0]);

    shared = mmap(0, 4096, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    page = map(rw, private, -1);
    page[0] = 1;
    child = fork();
    if (!child) {
        *shared = 7;
        page[0] = 2;
        _exit(3);
    }
    status = after_child(child);
    printf("the child has shared %d, not %d, and returned %d\n", *shared, page[0],
           WEXITSTATUS(status));
    child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile int *)8 = 1;
    }
    printf("the child was ended by signal %d\n", WTERMSIG(after_child(child)));

    page = mmap((void *)0x10000000, 4096, rw, private | MAP_FIXED_NOREPLACE, -1, 0);
    errno = 0;
    mmap((void *)page, 4096, rw, private | MAP_FIXED_NOREPLACE, -1, 0);
    printf("not replaced: %s\n", strerror(errno));
    page = map(rw | PROT_EXEC, private, -1);
    memcpy((void *)page, "\xb8\x2a\0\0\0\xc3", 6);
    printf("made code: %d\n", ((int (*)(void))page)());
    touch_stack(512);
    printf("the stack has grown\n");
    return 0;
}
