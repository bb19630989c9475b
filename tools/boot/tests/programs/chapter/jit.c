/* Code that is made while the program runs: first written, then executed, never both at once. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Functions that return 42 and 43. */
#if defined(__x86_64__)
static const unsigned char made[2][8] = {
    {0xb8, 42, 0, 0, 0, 0xc3}, {0xb8, 43, 0, 0, 0, 0xc3}};
#elif defined(__aarch64__)
static const unsigned char made[2][8] = {
    {0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6},
    {0x60, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6}};
#elif defined(__riscv)
static const unsigned char made[2][8] = {
    {0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0}, {0x13, 0x05, 0xb0, 0x02, 0x67, 0x80, 0, 0}};
#endif

static sigjmp_buf before;

static void caught(int signal)
{
    siglongjmp(before, signal);
}

int main(void)
{
    unsigned char *volatile code =
        mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (code == MAP_FAILED)
        return 1;
    signal(SIGSEGV, caught);
    for (int k = 0; k < 2; k++) {
        if (mprotect(code, 4096, PROT_READ | PROT_WRITE))
            return 2;
        memcpy(code, made[k], sizeof made[k]);
        if (!sigsetjmp(before, 1))
            printf("executed while writable: %d\n", ((int (*)(void))code)());
        else
            printf("not executed while writable\n");
        if (mprotect(code, 4096, PROT_READ | PROT_EXEC))
            return 3;
        __builtin___clear_cache((char *)code, (char *)code + 4096);
        printf("executed: %d\n", ((int (*)(void))code)());
        if (!sigsetjmp(before, 1)) {
            code[0] = 0;
            printf("written while executable\n");
        } else {
            printf("not written while executable\n");
        }
    }
    return 0;
}
