/* A page becomes read-only: a write to it is caught, and made once it can be written again. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static sigjmp_buf before;
static char *volatile page;
static void *volatile at;

static void caught(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    at = info->si_addr;
    siglongjmp(before, info->si_code);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    int code;

    page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return 1;
    strcpy(page, "written first");
    sigaction(SIGSEGV, &action, 0);
    if (mprotect(page, 4096, PROT_READ))
        return 2;
    printf("still read: %s\n", page);
    /* Twice: the signal is not blocked after the jump. */
    for (int k = 8; k <= 16; k += 8) {
        code = sigsetjmp(before, 1);
        if (!code)
            page[k] = 'X';
        printf("a write to byte %d: code %d, at byte %d\n", k, code, (int)((char *)at - page));
    }
    if (mprotect(page, 4096, PROT_READ | PROT_WRITE))
        return 3;
    page[0] = 'W';
    printf("restored: %s\n", page);
    printf("not on a page: %d\n", mprotect(page + 1, 4096, PROT_READ));
    munmap(page, 4096);
    printf("not mapped: %d\n", mprotect(page, 4096, PROT_READ));
    return 0;
}
