/*
 * Waiting for several files: what epoll reports, once or again, and counters. Each line that is
 * printed is what Linux prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int list;

/* Prints what has come by now, or within a time. */
static void come(const char *what, int timeout)
{
    struct epoll_event events[4];
    int count = epoll_wait(list, events, 4, timeout);

    printf("%s:", what);
    for (int k = 0; k < count; k++)
        printf(" %x of %c", events[k].events, (char)events[k].data.u64);
    printf("%s\n", count > 0 ? "" : count ? strerror(errno) : " nothing");
}

static int control(int operation, int file, uint32_t events, char name)
{
    struct epoll_event event = {.events = events, .data.u64 = name};

    return epoll_ctl(list, operation, file, &event) ? errno : 0;
}

static void alarmed(int signal)
{
    (void)signal;
    printf("alarm\n");
}

int main(int argc, char **argv)
{
    int ends[2], count, regular;
    struct pollfd polled;
    uint64_t number = 2;
    sigset_t all_but_alarm, alarm_alone;
    char bytes[8];

    list = epoll_create1(EPOLL_CLOEXEC);
    if (list < 0 || pipe2(ends, O_NONBLOCK))
        return 1;
    count = eventfd(1, EFD_NONBLOCK | EFD_SEMAPHORE);
    regular = open(argc > 1 ? argv[1] : "/tmp/file", O_RDWR | O_CREAT, 0600);
    printf("a file: %s\n", strerror(control(EPOLL_CTL_ADD, regular, EPOLLIN, 'f')));
    printf("itself: %s\n", strerror(control(EPOLL_CTL_ADD, list, EPOLLIN, 'l')));
    printf("nothing: %s\n", strerror(control(EPOLL_CTL_DEL, count, 0, 'n')));
    control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 'p');
    printf("again: %s\n", strerror(control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 'p')));

    come("empty", 0);
    if (write(ends[1], "xy", 2) != 2)
        return 1;
    come("level", 0);
    come("level again", 0);
    control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLET, 'e');
    come("edge", 0);
    come("edge again", 0);
    if (write(ends[1], "z", 1) != 1)
        return 1;
    come("another edge", 0);
    control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 'o');
    come("once", 0);
    come("twice", 0);
    polled = (struct pollfd){.fd = list, .events = POLLIN};
    printf("the list: %d\n", poll(&polled, 1, 0));

    control(EPOLL_CTL_ADD, count, EPOLLIN, 'c');
    come("counter", 0);
    printf("the list: %d\n", poll(&polled, 1, 0));
    if (read(count, &number, 8) != 8)
        return 1;
    printf("one taken: %d, ", (int)number);
    printf("%s\n", read(count, &number, 8) < 0 ? strerror(errno) : "another");
    number = UINT64_MAX;
    printf("too many: %s\n", write(count, &number, 8) < 0 ? strerror(errno) : "added");

    control(EPOLL_CTL_DEL, count, 0, 'c');
    control(EPOLL_CTL_MOD, ends[0], EPOLLIN, 'p');
    if (read(ends[0], bytes, 8) != 3)
        return 1;
    if (!fork()) {
        usleep(20000);
        _exit(write(ends[1], "w", 1) != 1);
    }
    come("from a child", -1);
    wait(0);
    if (read(ends[0], bytes, 8) != 1)
        return 1;

    signal(SIGALRM, alarmed);
    sigfillset(&all_but_alarm);
    sigdelset(&all_but_alarm, SIGALRM);
    sigemptyset(&alarm_alone);
    sigaddset(&alarm_alone, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm_alone, 0);
    raise(SIGALRM);
    come("with the alarm blocked", 1);
    printf("%d, ", epoll_pwait(list, &(struct epoll_event){0}, 1, -1, &all_but_alarm));
    printf("%s\n", strerror(errno));
    raise(SIGALRM);
    printf("%d, ", sigsuspend(&all_but_alarm));
    printf("%s\n", strerror(errno));

    close(ends[1]);
    come("hung up", 0);
    close(ends[0]);
    come("closed", 0);
    return 0;
}
