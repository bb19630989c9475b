/*
 * POSIX shared memory: one process makes it, another one, which is no child by memory, opens it by
 * name, and answers in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 1024 };

static char *map(int file)
{
    char *shared = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    close(file);
    return shared;
}

static int answer(const char *name)
{
    int file = shm_open(name, O_RDWR, 0);
    char *shared = map(file);

    if (shared == MAP_FAILED)
        return 1;
    printf("the other process reads: %s\n", shared);
    strcpy(shared + SIZE / 2, "an answer");
    return 0;
}

int main(int count, char **arguments)
{
    struct stat stat;
    char name[32], *shared;
    int file, status;

    setvbuf(stdout, 0, _IOLBF, 1024);
    if (count > 1)
        return answer(arguments[1]);
    snprintf(name, sizeof name, "/kvma-chapter-%ld", (long)getpid());
    file = shm_open(name, O_CREAT | O_EXCL | O_RDWR, S_IRUSR | S_IWUSR);
    if (file < 0 || ftruncate(file, SIZE) || fstat(file, &stat))
        return 1;
    printf("%ld bytes, mode %o\n", (long)stat.st_size, stat.st_mode & 0777);
    errno = 0;
    shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    printf("once more: %s\n", strerror(errno));
    shared = map(file);
    strcpy(shared, "a question");
    if (!fork()) {
        execl("/proc/self/exe", arguments[0], name, (char *)0);
        _exit(9);
    }
    wait(&status);
    printf("status %d, %s\n", WEXITSTATUS(status), shared + SIZE / 2);
    shm_unlink(name);
    errno = 0;
    shm_open(name, O_RDWR, 0);
    printf("unlinked: %s\n", strerror(errno));
    printf("and still mapped: %s\n", shared);
    return 0;
}
