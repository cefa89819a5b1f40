/* The load generator: makes one measurement against one server, and tells of it on standard output.
 *
 *   load PORT WARM_MS MEASURE_MS AFTER_MS DRAIN_MS GROUP…
 *
 * A group is a set of connections that send one request again and again:
 *   file=F        the whole HTTP request
 *   conns=N       connections
 *   events=N      content events of a stream; 0: plain answers
 *   last=W        a stream's last word
 *   rate=R        calls a second of the group, on whichever connection is idle; 0: as soon as a
 *                 connection has its answer
 *   once=1        each connection makes one call
 *   spread_ms=N   first calls begin over so long
 *   after=1       begins when the measured window is over, and goes on for AFTER_MS
 *
 * Lines of JSON: {"at": "begin"} and {"at": "end"} of the window with the counts of that moment,
 * {"at": "done"} with everything. Delays are counted within the window. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "answer.h"
#include "common.h"
#include "histogram.h"

enum { GROUPS_MAX = 16, TURN = 256, ERRORS_MAX = 1000 };
#define MS 1000000ull
#define BEGUN_LIMIT_NS (60000 * MS)

struct group {
    struct expected expected;
    size_t conns, request_len;
    char *request;
    double rate;
    int is_once, is_after;
    uint64_t spread_ns;
    struct conn *members;
    struct conn **idle; /* a stack; with a rate */
    size_t idle_count, started;
    uint64_t next_ns; /* when a call is to begin by the clock; 0: none is */
    uint64_t calls, events, errors, late, reconnects, begun, waiting;
    char failure[512];
    struct histogram first, delay, gap;
};

struct conn {
    struct group *group;
    int fd;
    bool is_waiting, wants_out;
    size_t sent; /* of the request */
    uint64_t calls, sent_ns, event_ns;
    struct answer answer;
};

static struct group groups[GROUPS_MAX];
static int group_count, port, poller, timer;
static bool is_measuring, is_over;
static uint64_t read_ns; /* when the bytes that are looked at were read */

static void start_call(struct conn *c);

static void on_event(void *whose, uint64_t made_us) {
    struct conn *c = whose;
    struct group *g = c->group;
    g->events++;
    if (is_measuring) {
        histogram_add(&g->delay, read_ns / 1000 > made_us ? read_ns / 1000 - made_us : 0);
        if (c->event_ns) histogram_add(&g->gap, (read_ns - c->event_ns) / 1000);
    }
    c->event_ns = read_ns;
}

static void open_connection(struct conn *c) {
    int yes = 1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(c->fd >= 0, "socket");
    must(connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    must(epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e) == 0, "epoll_ctl");
    c->wants_out = false;
}

static void reopen(struct conn *c) {
    close(c->fd);
    c->group->reconnects++;
    open_connection(c);
}

/* What comes after an answer, good or bad. */
static void go_on(struct conn *c) {
    struct group *g = c->group;
    c->is_waiting = false;
    g->waiting--;
    if (g->rate > 0) g->idle[g->idle_count++] = c;
    else if (!g->is_once && !is_over) start_call(c);
}

static void failed(struct conn *c, const char *why, bool had_begun) {
    struct group *g = c->group;
    if (!g->errors++) snprintf(g->failure, sizeof g->failure, "%s", why);
    if (!had_begun) g->begun++;
    if (g->errors > ERRORS_MAX) {
        fprintf(stderr, "more than %d errors; the first: %s\n", ERRORS_MAX, g->failure);
        exit(3);
    }
    reopen(c);
    go_on(c);
}

static void send_request(struct conn *c) {
    struct group *g = c->group;
    while (c->sent < g->request_len) {
        ssize_t sent = send(c->fd, g->request + c->sent, g->request_len - c->sent,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) return; /* reading will tell */
        if (sent < 0) break;
        c->sent += (size_t)sent;
    }
    bool wants_out = c->sent < g->request_len;
    if (wants_out == c->wants_out) return;
    struct epoll_event e = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
    must(epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e) == 0, "epoll_ctl");
    c->wants_out = wants_out;
}

static void start_call(struct conn *c) {
    answer_reset(&c->answer);
    c->is_waiting = true;
    c->group->waiting++;
    c->sent = 0, c->event_ns = 0;
    c->sent_ns = now_ns();
    send_request(c);
}

static void take(struct conn *c) {
    static char data[1 << 18];
    struct group *g = c->group;
    ssize_t got = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (!c->is_waiting) return reopen(c); /* a server may close what is idle */
    bool had_begun = c->answer.has_begun;
    if (got <= 0) return failed(c, "the connection was lost in an answer", had_begun);
    read_ns = now_ns();
    if (!answer_take(&c->answer, &g->expected, data, (size_t)got))
        return failed(c, c->answer.failure, had_begun);
    if (!had_begun && c->answer.has_begun) {
        g->begun++;
        /* The first call of a connection is another story. */
        if (g->is_after ? c->calls > 0 : is_measuring)
            histogram_add(&g->first, (read_ns - c->sent_ns) / 1000);
    }
    if (c->answer.stage != COMPLETE) return;
    c->calls++;
    g->calls++;
    if (c->answer.will_close) reopen(c);
    go_on(c);
}

/* Begin the calls that the clock asks for. */
static void begin_due(struct group *g) {
    uint64_t now = now_ns();
    while (g->next_ns && g->next_ns <= now) {
        if (g->rate > 0) {
            if (is_over) {
                g->next_ns = 0;
            } else {
                if (g->idle_count) start_call(g->idle[--g->idle_count]);
                else g->late++;
                g->next_ns += (uint64_t)(1e9 / g->rate);
            }
        } else {
            start_call(&g->members[g->started++]);
            g->next_ns = g->started < g->conns ? g->next_ns + g->spread_ns / g->conns : 0;
        }
    }
}

static void begin(struct group *g) {
    g->members = calloc(g->conns, sizeof *g->members);
    g->idle = calloc(g->conns, sizeof *g->idle);
    must(g->members && g->idle, "calloc");
    for (size_t i = 0; i < g->conns; i++) {
        struct conn *c = &g->members[i];
        c->group = g;
        c->answer.on_event = on_event;
        c->answer.whose = c;
        open_connection(c);
        if (g->rate > 0) g->idle[g->idle_count++] = c;
    }
    g->next_ns = now_ns();
}

/* Handle what comes, until the time or until the condition holds. Returns whether it does. */
static bool run_until(uint64_t end_ns, bool (*holds)(void)) {
    static uint64_t set_to_ns;
    while (!holds || !holds()) {
        uint64_t wake_ns = end_ns, now = now_ns();
        if (now >= end_ns) return false;
        for (int i = 0; i < group_count; i++) {
            begin_due(&groups[i]);
            if (groups[i].next_ns && groups[i].next_ns < wake_ns) wake_ns = groups[i].next_ns;
        }
        if (wake_ns != set_to_ns) {
            struct itimerspec at = {.it_value = {.tv_sec = (time_t)(wake_ns / 1000000000u),
                                                 .tv_nsec = (long)(wake_ns % 1000000000u)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            set_to_ns = wake_ns;
        }
        struct epoll_event ready[TURN];
        int count = epoll_wait(poller, ready, TURN, -1);
        for (int i = 0; i < count; i++) {
            uint64_t ignored;
            struct conn *c = ready[i].data.ptr;
            if (!c && read(timer, &ignored, sizeof ignored) < 0) continue;
            if (c && ready[i].events & EPOLLOUT) send_request(c);
            if (c && ready[i].events & ~(uint32_t)EPOLLOUT) take(c);
        }
    }
    return true;
}

static bool have_begun(void) {
    for (int i = 0; i < group_count; i++)
        if (!groups[i].is_after && groups[i].rate <= 0 && groups[i].begun < groups[i].conns)
            return false;
    return true;
}

static bool are_idle(void) {
    for (int i = 0; i < group_count; i++)
        if (groups[i].waiting || (groups[i].next_ns && groups[i].rate <= 0)) return false;
    return true;
}

static void tell_histogram(const char *name, const struct histogram *h) {
    printf(",\"%s\":{\"count\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}", name,
           (unsigned long long)h->count, histogram_ms(h, 0.5), histogram_ms(h, 0.99),
           (double)h->max_us / 1000.0);
}

static void tell(const char *at) {
    printf("{\"at\":\"%s\",\"at_s\":%.6f,\"groups\":[", at, (double)now_ns() / 1e9);
    for (int i = 0; i < group_count; i++) {
        struct group *g = &groups[i];
        for (char *p = g->failure; *p; p++) /* plain enough for a JSON string */
            if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\') *p = ' ';
        printf("%s{\"calls\":%llu,\"events\":%llu,\"errors\":%llu,\"failure\":\"%s\",\"late\":%llu,"
               "\"reconnects\":%llu", i ? "," : "", (unsigned long long)g->calls,
               (unsigned long long)g->events, (unsigned long long)g->errors, g->failure,
               (unsigned long long)g->late, (unsigned long long)g->reconnects);
        tell_histogram("first", &g->first);
        tell_histogram("delay", &g->delay);
        tell_histogram("gap", &g->gap);
        printf("}");
    }
    printf("]}\n");
    fflush(stdout);
}

static void read_request(struct group *g, const char *path) {
    FILE *file = fopen(path, "rb");
    must(file != NULL, path);
    fseek(file, 0, SEEK_END);
    g->request_len = (size_t)ftell(file);
    rewind(file);
    g->request = malloc(g->request_len);
    must(g->request && fread(g->request, 1, g->request_len, file) == g->request_len, path);
    fclose(file);
}

static void read_group(struct group *g, char *text) {
    enum { FILE_, CONNS, EVENTS, LAST, RATE, ONCE, SPREAD_MS, AFTER };
    static char *const names[] = {"file", "conns", "events", "last", "rate", "once", "spread_ms",
                                  "after", NULL};
    g->expected.last_word = "";
    for (char *value = NULL; *text;) {
        int name = getsubopt(&text, names, &value);
        errno = EINVAL;
        must(name >= 0 && value, "a group's part");
        if (name == FILE_) read_request(g, value);
        if (name == CONNS) g->conns = strtoul(value, NULL, 10);
        if (name == EVENTS) g->expected.events = (uint32_t)strtoul(value, NULL, 10);
        if (name == LAST) g->expected.last_word = value;
        if (name == RATE) g->rate = strtod(value, NULL);
        if (name == ONCE) g->is_once = atoi(value);
        if (name == SPREAD_MS) g->spread_ns = strtoul(value, NULL, 10) * MS;
        if (name == AFTER) g->is_after = atoi(value);
    }
    must(g->request && g->conns, "a group needs file and conns");
}

int main(int argc, char **argv) {
    if (argc < 7 || argc > 6 + GROUPS_MAX) {
        fprintf(stderr, "load PORT WARM_MS MEASURE_MS AFTER_MS DRAIN_MS GROUP…\n");
        return 2;
    }
    uint64_t phases_ns[4];
    port = atoi(argv[1]);
    for (int i = 0; i < 4; i++) phases_ns[i] = strtoul(argv[2 + i], NULL, 10) * MS;
    for (int i = 6; i < argc; i++) read_group(&groups[group_count++], argv[i]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    must(epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e) == 0, "epoll_ctl");

    for (int i = 0; i < group_count; i++)
        if (!groups[i].is_after) begin(&groups[i]);
    run_until(now_ns() + BEGUN_LIMIT_NS, have_begun);
    run_until(now_ns() + phases_ns[0], NULL);
    tell("begin");
    is_measuring = true;
    run_until(now_ns() + phases_ns[1], NULL);
    is_measuring = false;
    tell("end");
    for (int i = 0; i < group_count; i++)
        if (groups[i].is_after) begin(&groups[i]);
    if (phases_ns[2]) run_until(now_ns() + phases_ns[2], NULL);
    is_over = true;
    bool is_complete = run_until(now_ns() + phases_ns[3], are_idle);
    tell("done");
    if (is_complete) return 0;
    fprintf(stderr, "%llu calls were not answered in time\n", (unsigned long long)groups[0].waiting);
    return 4;
}
