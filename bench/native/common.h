/* What the mock upstream and the load generator share: time, sockets, and how an event is marked. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Each content event of a stream carries `#NNNNNNNN@MMMMMMMMMMMMMMMM`: its place in the stream,
 * and when it was made, in microseconds of CLOCK_MONOTONIC, which both programs read. */
#define MARK_FORMAT "#%08u@%016llu"
#define MARK_CHARS 26
#define MARK_AT_TIME 10

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The message, and what the system says of it: these programs cannot go on without it. */
static inline void must(int is_good, const char *what) {
    if (!is_good) {
        perror(what);
        exit(2);
    }
}

#endif
