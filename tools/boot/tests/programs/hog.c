/* Takes all memory that there is, in a child, and goes on when the child is gone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    int status;

    if (!fork()) {
        for (;;) {
            char *memory = malloc(1 << 20);

            if (!memory)
                _exit(3);
            memset(memory, 1, 1 << 20);
        }
    }
    wait(&status);
    printf("the child was ended by signal %d\n", WTERMSIG(status));
    return 0;
}
