/* See answer.h. */
#define _GNU_SOURCE
#include "answer.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "common.h"

enum { HELD_MAX = 4 << 20 };

static bool fail(struct answer *a, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(a->failure, sizeof a->failure, format, rest);
    va_end(rest);
    return false;
}

void answer_reset(struct answer *a) {
    a->stage = IN_HEAD;
    a->has_begun = a->had_last_word = a->will_close = a->had_size = false;
    a->left = a->events = 0;
    a->held_len = 0;
    a->failure[0] = 0;
}

static bool hold(struct answer *a, const char *data, size_t len) {
    if (a->held_len + len + 1 > HELD_MAX) return fail(a, "a line is too long");
    if (a->held_len + len + 1 > a->held_room) {
        a->held_room = 2 * (a->held_len + len + 1);
        a->held = realloc(a->held, a->held_room);
        must(a->held != NULL, "realloc");
    }
    memcpy(a->held + a->held_len, data, len);
    a->held_len += len;
    a->held[a->held_len] = 0;
    return true;
}

static bool read_digits(const char *from, int count, uint64_t *value) {
    *value = 0;
    for (int i = 0; i < count; i++) {
        if (from[i] < '0' || from[i] > '9') return false;
        *value = *value * 10 + (uint64_t)(from[i] - '0');
    }
    return true;
}

static bool take_line(struct answer *a, const struct expected *expected, const char *line,
                      size_t len) {
    static const char data[] = "data:";
    if (len < 5 || memcmp(line, data, 5) != 0) return true;
    a->has_begun = true;
    uint64_t number, made_us;
    const char *mark = memchr(line, '#', len);
    /* An event that repeats the whole text has more of it behind the first mark, not a quote. */
    if (mark && mark + MARK_CHARS < line + len && mark[MARK_CHARS] == '"' &&
        read_digits(mark + 1, 8, &number) &&
        read_digits(mark + MARK_AT_TIME, 16, &made_us)) {
        if (number != a->events)
            return fail(a, "event %llu of a stream came where %u was due",
                        (unsigned long long)number, a->events);
        a->events++;
        a->on_event(a->whose, made_us);
    } else if (memmem(line, len, expected->last_word, strlen(expected->last_word))) {
        a->had_last_word = true;
    }
    return true;
}

static bool take_lines(struct answer *a, const struct expected *expected, const char *data,
                       size_t len) {
    while (len) {
        const char *end = memchr(data, '\n', len);
        if (!end) return hold(a, data, len);
        size_t part = (size_t)(end - data) + 1;
        bool is_good;
        if (a->held_len) {
            if (!hold(a, data, part)) return false;
            is_good = take_line(a, expected, a->held, a->held_len);
            a->held_len = 0;
        } else {
            is_good = take_line(a, expected, data, part);
        }
        if (!is_good) return false;
        data += part, len -= part;
    }
    return true;
}

static bool take_content(struct answer *a, const struct expected *expected, const char *data,
                         size_t len) {
    if (expected->events) return take_lines(a, expected, data, len);
    a->has_begun = a->has_begun || len > 0;
    return true;
}

static bool complete(struct answer *a, const struct expected *expected) {
    a->stage = COMPLETE;
    if (!expected->events) return a->has_begun || fail(a, "an answer was empty");
    if (a->events == expected->events && a->had_last_word) return true;
    return fail(a, "a stream ended after %u of %u events, %s its last word: %.200s", a->events,
                expected->events, a->had_last_word ? "with" : "without",
                a->held_len ? a->held : "");
}

/* Bytes of the head that `data` holds; 0: it was wrong, or all of them and it is not complete. */
static size_t take_head(struct answer *a, const char *data, size_t len) {
    size_t held_before = a->held_len;
    if (!hold(a, data, len)) return 0;
    const char *end = memmem(a->held, a->held_len, "\r\n\r\n", 4);
    if (!end) return 0;
    if (strncmp(a->held, "HTTP/1.1 200", 12) != 0) {
        fail(a, "an answer was not 200: %.400s", a->held);
        return 0;
    }
    size_t head_len = (size_t)(end - a->held) + 4;
    a->held[head_len - 2] = 0;
    const char *length = strcasestr(a->held, "\r\ncontent-length:");
    a->will_close = strcasestr(a->held, "\r\nconnection: close") != NULL;
    if (strcasestr(a->held, "\r\ntransfer-encoding: chunked")) {
        a->stage = IN_CHUNK_SIZE;
    } else if (length) {
        a->stage = IN_BODY;
        a->left = strtoull(length + 17, NULL, 10);
    } else {
        fail(a, "an answer has neither a length nor chunks: %.400s", a->held);
        return 0;
    }
    a->held_len = 0;
    return head_len - held_before;
}

/* One byte of what frames chunks. */
static bool take_framing(struct answer *a, const struct expected *expected, char byte) {
    if (a->stage == IN_CHUNK_SIZE) {
        int digit = byte >= '0' && byte <= '9'   ? byte - '0'
                    : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                    : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                                 : -1;
        if (digit >= 0) {
            a->left = a->left * 16 + (uint64_t)digit;
            a->had_size = true;
        } else if (byte == '\n') {
            if (!a->had_size) return fail(a, "a chunk has no size");
            a->had_size = false;
            a->stage = a->left ? IN_CHUNK : IN_TRAILER;
        } else if (byte != '\r') {
            return fail(a, "a chunk's size has the byte %d", byte);
        }
        return true;
    }
    if (byte != '\r' && byte != '\n') return fail(a, "after a chunk came the byte %d", byte);
    if (byte == '\n') {
        if (a->stage == IN_TRAILER) return complete(a, expected);
        a->stage = IN_CHUNK_SIZE;
    }
    return true;
}

bool answer_take(struct answer *a, const struct expected *expected, const char *data, size_t len) {
    while (len) {
        size_t part = 1;
        if (a->stage == COMPLETE) return fail(a, "more than an answer came: %.100s", data);
        if (a->stage == IN_HEAD) {
            part = take_head(a, data, len);
            if (!part) return a->failure[0] == 0;
        } else if (a->stage == IN_BODY || a->stage == IN_CHUNK) {
            part = len < a->left ? len : (size_t)a->left;
            if (!take_content(a, expected, data, part)) return false;
            a->left -= part;
            if (!a->left && a->stage == IN_CHUNK) a->stage = AFTER_CHUNK;
            else if (!a->left && !complete(a, expected)) return false;
        } else if (!take_framing(a, expected, *data)) {
            return false;
        }
        data += part, len -= part;
    }
    return true;
}
