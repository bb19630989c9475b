/* A few lines instead of a framework: TEST(name) { CHECK(...); }, and TESTS(name, ...) at the end.
 */
#ifndef KVMA_TEST_H
#define KVMA_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Both sides are printed. */
#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long test_a = (long long)(a), test_b = (long long)(b);                                \
        if (test_a != test_b) {                                                                    \
            fprintf(stderr, "%s:%d: %s == %s: %#llx != %#llx\n", __FILE__, __LINE__, #a, #b,       \
                    (unsigned long long)test_a, (unsigned long long)test_b);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(name) static void name(void)

/* With --list prints the names, with names runs those, without arguments runs all. */
static int run_tests(const struct test *tests, size_t count, int argc, char **argv) {
    int ran = 0;
    for (size_t i = 0; i < count; i++) {
        int wanted = argc < 2;
        for (int j = 1; j < argc; j++) {
            if (strcmp(argv[j], "--list") == 0)
                puts(tests[i].name);
            wanted |= strcmp(argv[j], tests[i].name) == 0;
        }
        if (wanted) {
            tests[i].run();
            ran++;
        }
    }
    return ran > 0 || (argc > 1 && strcmp(argv[1], "--list") == 0) ? 0 : 2;
}

#define RUN(name) {#name, name}
#define TESTS(...)                                                                                 \
    int main(int argc, char **argv) {                                                              \
        static const struct test tests[] = {__VA_ARGS__};                                          \
        return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);                         \
    }

#endif
