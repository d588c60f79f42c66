/* A load generator for HTTP/1.1 gateways.
 *
 *   cc -O2 -o load load.c
 *   ./load closed PORT PATH CONNECTIONS SECONDS BODY_FILE [HEADER]...
 *   ./load open   PORT PATH PER_SECOND  SECONDS BODY_FILE [HEADER]...
 *
 * closed: every connection asks again as soon as it was answered. open: requests fall due at a steady rate and
 * latency counts from the due time, so that a stalled gateway cannot hide behind fewer requests.
 * Prints one JSON object: requests, failures, events of event streams, latencies and times to the first event in
 * microseconds. One thread, epoll, loopback only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OPEN_CONNECTIONS = 64, HEAD_BYTES = 16384, SAMPLES = 1 << 21 };
enum state { REST, HEAD, BY_LENGTH, SIZE, DATA, AFTER_DATA, TRAILER };

struct client {
    int fd, status, stream, first_seen, line_at, size_len, trailer_len;
    enum state state;
    char head[HEAD_BYTES], size[24];
    size_t head_len;
    long long left, since_us;
};

static struct client *clients;
static int poller, count;
static struct sockaddr_in target = {.sin_family = AF_INET};
static char *request;
static size_t request_len;
static float *latency, *first;
static long latencies, firsts, good, bad, events;

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void dial(struct client *c) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0), c->state = REST;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (void *)&target, sizeof target)) { perror("connect"); exit(1); }
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static void ask(struct client *c, long long since_us) {
    c->since_us = since_us, c->state = HEAD, c->head_len = 0, c->first_seen = 0, c->line_at = 0;
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) == (ssize_t)request_len) return;
    bad++, close(c->fd), dial(c);
}

static void done(struct client *c) {
    if (c->status == 200) good++; else bad++;
    if (latencies < SAMPLES) latency[latencies++] = (float)(now_us() - c->since_us);
    c->state = REST;
}

/* Count lines of a body that begin with "data: {". */
static void count_events(struct client *c, const char *p, size_t n) {
    static const char mark[] = "data: {";
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') { c->line_at = 0; continue; }
        if (c->line_at < 0) continue;
        if (p[i] != mark[c->line_at]) { c->line_at = -1; continue; }
        if (++c->line_at < 7) continue;
        c->line_at = -1, events++;
        if (!c->first_seen && firsts < SAMPLES) first[firsts++] = (float)(now_us() - c->since_us);
        c->first_seen = 1;
    }
}

static size_t read_head(struct client *c, const char *p, size_t n) {
    size_t room = HEAD_BYTES - 1 - c->head_len, part = n < room ? n : room, before = c->head_len;
    char *end, *line;
    memcpy(c->head + c->head_len, p, part), c->head_len += part, c->head[c->head_len] = 0;
    end = strstr(c->head, "\r\n\r\n");
    if (!end) return part;
    end[2] = 0, c->status = atoi(c->head + 9);
    c->stream = strcasestr(c->head, "text/event-stream") != NULL;
    line = strcasestr(c->head, "\r\ncontent-length:");
    if (line) c->left = atoll(line + 17), c->state = c->left ? BY_LENGTH : REST;
    else c->state = SIZE, c->size_len = 0;
    if (c->state == REST) done(c);
    return (size_t)(end + 4 - c->head) - before;
}

static void feed(struct client *c, const char *p, size_t n) {
    while (n && c->state != REST) {
        size_t part = 1;
        if (c->state == HEAD) part = read_head(c, p, n);
        else if (c->state == BY_LENGTH || c->state == DATA) {
            part = n < (size_t)c->left ? n : (size_t)c->left;
            if (c->stream) count_events(c, p, part);
            c->left -= (long long)part;
            if (!c->left) { if (c->state == BY_LENGTH) done(c); else c->state = AFTER_DATA; }
        } else if (c->state == AFTER_DATA) { if (*p == '\n') c->state = SIZE, c->size_len = 0; }
        else if (c->state == SIZE) {
            if (*p == '\n') {
                c->size[c->size_len] = 0, c->left = strtoll(c->size, NULL, 16), c->trailer_len = 0;
                c->state = c->left ? DATA : TRAILER;
            } else if (c->size_len < 20) c->size[c->size_len++] = *p;
        } else if (*p == '\n') { if (!c->trailer_len) done(c); c->trailer_len = 0; }
        else if (*p != '\r') c->trailer_len++;
        p += part, n -= part;
    }
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double rank(float *a, long n, double p) { return n ? a[(long)(p * (double)(n - 1) + 0.5)] : -1; }

int main(int argc, char **argv) {
    static char buffer[1 << 18], body[1 << 20];
    struct epoll_event ready[256];
    long long start, end, seq = 0;
    int open_loop, turn = 0;
    size_t body_len, at;
    FILE *file;
    if (argc < 7) return fprintf(stderr, "usage: load closed|open PORT PATH N SECONDS BODY_FILE [HEADER]...\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    open_loop = !strcmp(argv[1], "open");
    target.sin_port = htons((unsigned short)atoi(argv[2])), target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    file = fopen(argv[6], "rb");
    if (!file) return perror(argv[6]), 1;
    body_len = fread(body, 1, sizeof body, file), fclose(file);
    request = malloc(body_len + 16384);
    at = (size_t)sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n", argv[3]);
    for (int i = 7; i < argc; i++) at += (size_t)sprintf(request + at, "%s\r\n", argv[i]);
    at += (size_t)sprintf(request + at, "Content-Length: %zu\r\n\r\n", body_len);
    memcpy(request + at, body, body_len), request_len = at + body_len;
    latency = malloc(SAMPLES * sizeof *latency), first = malloc(SAMPLES * sizeof *first);
    count = open_loop ? OPEN_CONNECTIONS : atoi(argv[4]);
    poller = epoll_create1(0), clients = calloc((size_t)count, sizeof *clients);
    for (int i = 0; i < count; i++) dial(&clients[i]);
    start = now_us(), end = start + (long long)(atof(argv[5]) * 1e6);
    for (int i = 0; !open_loop && i < count; i++) ask(&clients[i], now_us());
    for (;;) {
        long long now = now_us(), due;
        struct timespec nap = {0, 20 * 1000000};
        int busy = 0, n;
        for (int i = 0; i < count; i++) busy |= clients[i].state != REST;
        if (now > end + 3000000 || (now > end && (!busy || !open_loop))) break;
        while (open_loop && (due = start + (long long)((double)seq * 1e6 / atof(argv[4]))) <= now && due < end) {
            int tries = 0;
            while (tries < count && clients[turn].state != REST) turn = (turn + 1) % count, tries++;
            if (tries == count) break;
            ask(&clients[turn], due), seq++;
        }
        if (open_loop) {
            long long gap = start + (long long)((double)seq * 1e6 / atof(argv[4])) - now_us();
            if (gap < 20000) nap.tv_nsec = gap > 0 ? gap * 1000 : 0;
        }
        n = epoll_pwait2(poller, ready, 256, &nap, NULL);
        for (int i = 0; i < n; i++) {
            struct client *c = ready[i].data.ptr;
            ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (got > 0) feed(c, buffer, (size_t)got);
            else { if (c->state != REST) bad++; close(c->fd), dial(c); }
            if (!open_loop && c->state == REST && now_us() < end) ask(c, now_us());
        }
    }
    qsort(latency, (size_t)latencies, sizeof *latency, by_value), qsort(first, (size_t)firsts, sizeof *first, by_value);
    printf("{\"seconds\":%.3f,\"good\":%ld,\"bad\":%ld,\"events\":%ld,\"p50_us\":%.0f,\"p99_us\":%.0f,\"first_p50_us\":%.0f}\n",
           (double)(now_us() - start) / 1e6, good, bad, events, rank(latency, latencies, .5), rank(latency, latencies, .99),
           rank(first, firsts, .5));
    return 0;
}
