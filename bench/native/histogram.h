/* Counts of microseconds, in buckets that are at most 1.6 % wide. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { STEPS = 64, BUCKETS = STEPS * 40 };

struct histogram {
    uint64_t count, max_us;
    uint64_t buckets[BUCKETS];
};

static inline void histogram_add(struct histogram *h, uint64_t us) {
    uint64_t shifted = us;
    int power = 0;
    for (; shifted >= 2 * STEPS; shifted >>= 1) power++;
    uint64_t at = (uint64_t)power * STEPS + shifted; /* 0 … 127, then 64 to each power of two */
    h->buckets[at < BUCKETS ? at : BUCKETS - 1]++;
    h->count++;
    if (us > h->max_us) h->max_us = us;
}

/* In milliseconds: the middle of the bucket in which this share of all is reached. */
static inline double histogram_ms(const struct histogram *h, double share) {
    uint64_t below = (uint64_t)(share * (double)h->count), seen = 0;
    for (uint64_t i = 0; i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (!h->buckets[i] || seen <= below) continue;
        uint64_t power = i < 2 * STEPS ? 0 : i / STEPS - 1;
        return ((double)(i - power * STEPS) + 0.5) * (double)(1ull << power) / 1000.0;
    }
    return (double)h->max_us / 1000.0;
}

#endif
