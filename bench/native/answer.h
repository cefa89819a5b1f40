/* Reads an answer as its bytes come: HTTP/1.1 with a length or in chunks, plain or a stream of
 * server-sent events whose content events are marked as common.h says. It takes an answer for good
 * only when every event came once, in order, and the stream's last word and HTTP's end came too. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct expected {
    uint32_t events;       /* content events of a stream; 0: a plain answer */
    const char *last_word; /* in the data of the stream's last event */
};

enum stage { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER, COMPLETE };

struct answer {
    enum stage stage;
    bool has_begun;       /* the first event, or the first byte of a plain answer, has come */
    bool had_last_word, will_close, had_size;
    uint64_t left;        /* bytes of the body, or of the chunk */
    uint32_t events;      /* content events so far */
    size_t held_len, held_room;
    char *held;           /* the head, or a line, that is not complete yet */
    char failure[512];    /* empty: none */
    /* Told of each content event, with the microsecond in which it was made. */
    void (*on_event)(void *whose, uint64_t made_us);
    void *whose;
};

/* Ready for the next answer on the same connection. */
void answer_reset(struct answer *a);

/* Take bytes. Returns false when they are wrong: then `failure` says what. */
bool answer_take(struct answer *a, const struct expected *expected, const char *data, size_t len);

#endif
