/* The upstream of a measurement: it answers as the path says, and costs as little as it can.
 *
 * POST /CHUNKS_EVERY_MODEL/v1/chat/completions: CHUNKS is 0 for one JSON answer, else the number of
 * events of a stream, `[DONE]` not counted (the role, the content events, the finish reason, the
 * usage); EVERY is milliseconds between two of them, 0: as fast as the connection takes them. A
 * small request that does not ask for a stream gets JSON on any path.
 * Shapes are those of OpenAI's chat completions, a content event has about 310 bytes.
 *
 * It prints its port, and ends when its standard input does, so that nothing is left over. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common.h"

enum { HEAD_MAX = 8192, EVENT_MAX = 1024, SLAB = 16384, TURN = 256, OTHER_EVENTS = 3 };

#define ID "\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\""
#define USAGE "{\"prompt_tokens\":200,\"completion_tokens\":120,\"total_tokens\":320}"
#define WORDS "The quick gateway counts every token that passes, and it loses none of them.\\n"
#define JSON_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n"
#define STREAM_HEAD                                                                                \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"                        \
    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
#define NOT_FOUND "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

/* One path's answer: `opening`, then `events` times the content event, then `closing`. */
struct script {
    struct script *next;
    char path[256];
    bool is_plain; /* JSON, whatever the path says */
    uint64_t every_ns;
    uint32_t events;
    size_t opening_len, event_len, closing_len, mark_at;
    char opening[4 * EVENT_MAX], event[EVENT_MAX], closing[4 * EVENT_MAX];
};

struct conn {
    int fd;
    bool wants_out;
    bool is_chunked, is_plain; /* the request's body; it asks for no stream */
    size_t head_len, body_left;
    char head[HEAD_MAX]; /* of a request; of a chunked body, its last bytes */
    struct script *script; /* that is being answered; none: waiting for a request */
    uint64_t sent;         /* bytes of the answer */
    uint64_t stamp_us;     /* of the content event that is being sent */
    uint32_t events_due;   /* content events that may be sent, when paced */
    uint64_t due_ns;       /* when the next may */
    struct conn *before, *after; /* in the list of paced streams, in the order of due_ns */
};

static struct script *scripts;
static struct conn *first_due, *last_due;
static int poller, timer;

static size_t event_text(char *to, const char *model, const char *choices, const char *usage) {
    char data[EVENT_MAX];
    int len = snprintf(data, sizeof data,
                       "data: {" ID ",\"object\":\"chat.completion.chunk\",\"created\":1795420800,"
                       "\"model\":\"%s\",\"system_fingerprint\":\"fp_b705f0c291\","
                       "\"choices\":%s,\"usage\":%s,\"obfuscation\":\"x0Zr\"}\n\n",
                       model, choices, usage);
    return (size_t)snprintf(to, EVENT_MAX, "%x\r\n%s\r\n", (unsigned)len, data);
}

static void write_stream(struct script *s, const char *model) {
    const char *rest = "\"logprobs\":null,\"finish_reason\"";
    char choices[256], mark[MARK_CHARS + 1];
    s->opening_len = (size_t)sprintf(s->opening, "%s", STREAM_HEAD);
    snprintf(choices, sizeof choices,
             "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},%s:null}]", rest);
    s->opening_len += event_text(s->opening + s->opening_len, model, choices, "null");

    snprintf(mark, sizeof mark, MARK_FORMAT, 0u, 0ull);
    snprintf(choices, sizeof choices, "[{\"index\":0,\"delta\":{\"content\":\" %s\"},%s:null}]",
             mark, rest);
    s->event_len = event_text(s->event, model, choices, "null");
    s->mark_at = (size_t)(strstr(s->event, mark) - s->event);

    snprintf(choices, sizeof choices, "[{\"index\":0,\"delta\":{},%s:\"stop\"}]", rest);
    s->closing_len = event_text(s->closing, model, choices, "null");
    s->closing_len += event_text(s->closing + s->closing_len, model, "[]", USAGE);
    s->closing_len += (size_t)sprintf(s->closing + s->closing_len, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

static void write_plain(struct script *s, const char *model) {
    char body[3 * EVENT_MAX];
    int len = snprintf(body, sizeof body,
                       "{" ID ",\"object\":\"chat.completion\",\"created\":1795420800,"
                       "\"model\":\"%s\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                       "\"assistant\",\"content\":\"" WORDS WORDS WORDS WORDS WORDS WORDS WORDS WORDS
                       "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,"
                       "\"finish_reason\":\"stop\"}],\"usage\":" USAGE
                       ",\"service_tier\":\"default\"}", model);
    s->opening_len = (size_t)sprintf(s->opening, JSON_HEAD, (size_t)len);
    s->opening_len += (size_t)sprintf(s->opening + s->opening_len, "%s", body);
}

static struct script *script_of(const char *path, bool is_plain) {
    for (struct script *s = scripts; s; s = s->next)
        if (s->is_plain == is_plain && !strcmp(s->path, path)) return s;
    unsigned chunks, every_ms;
    char model[64];
    struct script *s = calloc(1, sizeof *s);
    must(s != NULL, "calloc");
    snprintf(s->path, sizeof s->path, "%s", path);
    s->is_plain = is_plain;
    if (sscanf(path, "/%u_%u_%63[^/]/v1/chat/completions", &chunks, &every_ms, model) != 3)
        s->opening_len = (size_t)sprintf(s->opening, NOT_FOUND);
    else if (chunks == 0 || is_plain)
        write_plain(s, model);
    else
        write_stream(s, model);
    if (s->event_len) {
        s->events = chunks > OTHER_EVENTS ? chunks - OTHER_EVENTS : 0;
        s->every_ns = every_ms * 1000000ull;
    }
    s->next = scripts;
    return scripts = s;
}

static void set_timer(void) {
    static uint64_t set_to_ns;
    struct itimerspec at = {0};
    if (set_to_ns == (first_due ? first_due->due_ns : 0)) return;
    set_to_ns = first_due ? first_due->due_ns : 0;
    if (first_due) {
        at.it_value.tv_sec = (time_t)(first_due->due_ns / 1000000000u);
        at.it_value.tv_nsec = (long)(first_due->due_ns % 1000000000u);
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static bool is_due_listed(const struct conn *c) { return c->before || c->after || first_due == c; }

static void unlist(struct conn *c) {
    if (!is_due_listed(c)) return;
    if (c->before) c->before->after = c->after; else first_due = c->after;
    if (c->after) c->after->before = c->before; else last_due = c->before;
    c->before = c->after = NULL;
}

/* Streams mostly have one pace, so the place is at the end or close to it. */
static void list_due(struct conn *c) {
    struct conn *before = last_due;
    while (before && before->due_ns > c->due_ns) before = before->before;
    c->before = before;
    c->after = before ? before->after : first_due;
    if (c->before) c->before->after = c; else first_due = c;
    if (c->after) c->after->before = c; else last_due = c;
}

static void hang_up(struct conn *c) {
    unlist(c);
    close(c->fd);
    free(c);
}

static void watch(struct conn *c, bool wants_out) {
    if (c->wants_out == wants_out) return;
    struct epoll_event e = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
    must(epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e) == 0, "epoll_ctl");
    c->wants_out = wants_out;
}

/* As MARK_FORMAT says: snprintf itself would be most of what an event costs here. */
static void put_digits(char *to, int count, uint64_t value) {
    for (; count-- > 0; value /= 10) to[count] = (char)('0' + value % 10);
}

/* The bytes of the answer from `sent` on, but not beyond `end`: how many there are in `slab`. */
static size_t fill(struct conn *c, uint64_t end, char *slab) {
    const struct script *s = c->script;
    const uint64_t content_end = s->opening_len + (uint64_t)s->events * s->event_len;
    const uint64_t made_us = now_ns() / 1000;
    uint64_t at = c->sent;
    size_t len = 0;
    while (at < end && len < SLAB) {
        char event[EVENT_MAX];
        const char *from;
        size_t part;
        if (at < s->opening_len) {
            from = s->opening + at, part = s->opening_len - at;
        } else if (at >= content_end) {
            from = s->closing + (at - content_end), part = content_end + s->closing_len - at;
        } else {
            uint32_t number = (uint32_t)((at - s->opening_len) / s->event_len);
            size_t within = (size_t)((at - s->opening_len) % s->event_len);
            /* The rest of an event that was sent in part is what it was. */
            if (within == 0) c->stamp_us = made_us;
            memcpy(event, s->event, s->event_len);
            put_digits(event + s->mark_at + 1, 8, number);
            put_digits(event + s->mark_at + MARK_AT_TIME, 16, c->stamp_us);
            from = event + within, part = s->event_len - within;
        }
        if (part > SLAB - len) part = SLAB - len;
        memcpy(slab + len, from, part);
        len += part, at += part;
    }
    return len;
}

/* Send what may be sent. Returns false when the connection is gone. */
static bool pump(struct conn *c) {
    struct script *s = c->script;
    uint64_t total = s->opening_len + (uint64_t)s->events * s->event_len + s->closing_len;
    uint64_t end = total;
    if (s->every_ns && c->events_due <= s->events)
        end = s->opening_len + (uint64_t)c->events_due * s->event_len;
    while (c->sent < end) {
        char slab[SLAB];
        size_t len = fill(c, end, slab);
        ssize_t sent = send(c->fd, slab, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return hang_up(c), false;
        if (sent > 0) c->sent += (uint64_t)sent;
        if (sent < (ssize_t)len) return watch(c, true), true;
    }
    watch(c, false);
    if (c->sent == total) {
        c->script = NULL;
        c->head_len = 0;
    }
    return true;
}

static void answer(struct conn *c) {
    char path[256] = "";
    sscanf(c->head, "%*s %255s", path);
    c->script = script_of(path, c->is_plain);
    c->sent = 0, c->events_due = 0;
    uint64_t every_ns = c->script->every_ns;
    if (!pump(c)) return;
    if (every_ns) {
        c->due_ns = now_ns() + every_ns;
        list_due(c);
    }
}

static void send_due(void) {
    uint64_t now = now_ns();
    while (first_due && first_due->due_ns <= now) {
        struct conn *c = first_due;
        uint64_t every_ns = c->script->every_ns;
        unlist(c);
        c->events_due++;
        bool is_last = c->events_due > c->script->events;
        c->due_ns += every_ns;
        if (pump(c) && !is_last) list_due(c);
    }
    set_timer();
}

/* The value of a header of the request, or NULL. The head ends with a zero byte. */
static const char *header(const struct conn *c, const char *name) {
    const char *found = strcasestr(c->head, name);
    return found ? found + strlen(name) : NULL;
}

/* Whether the request is complete with these bytes. */
static bool is_complete(struct conn *c, const char *data, size_t len) {
    if (c->is_chunked) {
        static const char end[] = "0\r\n\r\n";
        return len >= 5 && !memcmp(data + len - 5, end, 5);
    }
    c->body_left -= len < c->body_left ? len : c->body_left;
    return c->body_left == 0;
}

static void take(struct conn *c) {
    static char data[1 << 18];
    ssize_t got = recv(c->fd, data, sizeof data, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return hang_up(c);
    if (c->script) return; /* nobody sends two requests at once */
    const char *body = data;
    size_t len = (size_t)got;
    if (!c->head_len || c->head[c->head_len - 1]) {
        size_t part = len < HEAD_MAX - 1 - c->head_len ? len : HEAD_MAX - 1 - c->head_len;
        memcpy(c->head + c->head_len, data, part);
        char *end = memmem(c->head, c->head_len + part, "\r\n\r\n", 4);
        if (!end) {
            c->head_len += part;
            if (c->head_len == HEAD_MAX - 1) hang_up(c);
            return;
        }
        size_t head_len = (size_t)(end - c->head) + 4;
        body += head_len - c->head_len, len -= head_len - c->head_len;
        c->head[head_len] = 0;
        c->head_len = head_len + 1; /* it ends with a zero: it is complete */
        const char *length = header(c, "\r\ncontent-length:");
        c->body_left = length ? strtoul(length, NULL, 10) : 0;
        c->is_chunked = header(c, "\r\ntransfer-encoding: chunked") != NULL;
        c->is_plain = true;
    }
    /* Who sends much is not searched: that would cost more than the answer. */
    if (len > HEAD_MAX || memmem(body, len, "\"stream\":true", 13) ||
        memmem(body, len, "\"stream\": true", 14))
        c->is_plain = false;
    if (is_complete(c, body, len)) answer(c);
}

static int listen_on_any_port(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *)&at, len) == 0, "bind");
    must(listen(listener, 4096) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&at, &len) == 0, "getsockname");
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return listener;
}

static void welcome(int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        must(c != NULL, "calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        must(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
    }
}

int main(void) {
    static int listener_mark, timer_mark, stdin_mark; /* their addresses name what is ready */
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    must(poller >= 0 && timer >= 0, "epoll_create1, timerfd_create");
    int listener = listen_on_any_port();
    int fds[] = {listener, timer, STDIN_FILENO};
    int *marks[] = {&listener_mark, &timer_mark, &stdin_mark};
    for (int i = 0; i < 3; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = marks[i]};
        must(epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &e) == 0, "epoll_ctl");
    }
    for (;;) {
        struct epoll_event ready[TURN];
        int count = epoll_wait(poller, ready, TURN, -1);
        for (int i = 0; i < count; i++) {
            void *what = ready[i].data.ptr;
            char ignored[8];
            if (what == &listener_mark) welcome(listener);
            else if (what == &stdin_mark) {
                if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) return 0;
            } else if (what == &timer_mark) {
                if (read(timer, ignored, sizeof ignored) < 0) continue;
            } else if (ready[i].events & EPOLLOUT) {
                pump(what); /* what was read meanwhile is seen in the next turn */
            } else {
                take(what);
            }
        }
        send_due();
    }
}
