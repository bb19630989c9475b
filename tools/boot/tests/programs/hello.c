/* The simplest program: memory from malloc, arguments, a status. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments)
{
    char *memory = malloc(1 << 20);

    memset(memory, 1, 1 << 20);
    printf("hello from C with %d arguments, the last one %s\n", count - 1, arguments[count - 1]);
    free(memory);
    return 42;
}
