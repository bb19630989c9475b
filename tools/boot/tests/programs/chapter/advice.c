/* Advice about a file that is mapped: only what was not shared with it can be lost. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 8 };

int main(void)
{
    char text[PAGE] = "", *shared, *private;
    int file = open("advice.file", O_RDWR | O_CREAT | O_TRUNC, 0600);

    unlink("advice.file");
    for (int k = 0; k < PAGES; k++) {
        text[0] = 'a' + k;
        if (write(file, text, PAGE) != PAGE)
            return 1;
    }
    shared = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    private = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    close(file);
    if (shared == MAP_FAILED || private == MAP_FAILED)
        return 2;

    printf("sequential: %d\n", madvise(shared, PAGES * PAGE, MADV_SEQUENTIAL));
    for (int k = 0; k < PAGES; k++)
        putchar(shared[k * PAGE]);
    shared[0] = 'A';
    printf("\ndone with the first half: %d\n", madvise(shared, PAGES / 2 * PAGE, MADV_DONTNEED));
    printf("which is still there: %c%c\n", shared[0], shared[PAGE]);
    printf("random: %d\n", madvise(shared + PAGES / 2 * PAGE, PAGES / 2 * PAGE, MADV_RANDOM));
    printf("soon: %d\n", madvise(shared + PAGES / 4 * 3 * PAGE, PAGES / 4 * PAGE, MADV_WILLNEED));

    private[PAGE] = 'B';
    printf("a private page: %c, in the file: %c\n", private[PAGE], shared[PAGE]);
    printf("given back: %d\n", madvise(private, 2 * PAGE, MADV_DONTNEED));
    printf("and read again: %c%c\n", private[0], private[PAGE]);
    printf("not on a page: %d\n", madvise(private + 1, PAGE, MADV_NORMAL));
    errno = 0;
    madvise(private, PAGE, 4711);
    printf("no such advice: %s\n", strerror(errno));
    munmap(private + PAGE, PAGE);
    errno = 0;
    madvise(private, 3 * PAGE, MADV_DONTNEED);
    printf("over a gap: %s\n", strerror(errno));
    return 0;
}
