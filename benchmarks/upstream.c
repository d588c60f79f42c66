/* A model server that answers at once: what is left of the time is the gateway's.
 *
 *   cc -O2 -o upstream upstream.c && ./upstream PORT
 *
 * A request whose body says "stream": true gets server-sent events, as many and as far apart (ms) as its model
 * name says: "mock-COUNT-DELAY", else 20 without delay. Any other gets one completion of about 1 KB.
 * One thread, epoll, HTTP/1.1 keep-alive, Content-Length bodies only. Simulated: no model is behind it. */
#define _GNU_SOURCE
#include <errno.h>
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

enum { MAX_FD = 8192, IN_BYTES = 1 << 20 };

struct conn {
    char *in;
    size_t in_len;
    int streaming, left, delay_ms;
    long long due_us; /* 0: not waiting */
};

static struct conn conns[MAX_FD];
static char whole[4096], head[256], event[512], tail[1024];
static size_t whole_len, head_len, event_len, tail_len;
static int poller, waiting;

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int say(int fd, const char *bytes, size_t n) {
    while (n) {
        ssize_t w = send(fd, bytes, n, MSG_NOSIGNAL);
        if (w < 0 && errno == EAGAIN) {
            usleep(50);
            continue;
        }
        if (w <= 0) return -1;
        bytes += w, n -= (size_t)w;
    }
    return 0;
}

static void hang_up(int fd) {
    if (conns[fd].due_us) waiting--;
    free(conns[fd].in);
    memset(&conns[fd], 0, sizeof conns[fd]);
    close(fd);
}

/* Send what is due of a stream; -1 when the client is gone. */
static int go_on(int fd) {
    struct conn *c = &conns[fd];
    while (c->streaming && c->left) {
        if (say(fd, event, event_len)) return -1;
        if (--c->left && c->delay_ms) {
            c->due_us = now_us() + c->delay_ms * 1000LL, waiting++;
            return 0;
        }
    }
    c->streaming = 0;
    return say(fd, tail, tail_len);
}

static int answer(int fd, const char *body, size_t n) {
    struct conn *c = &conns[fd];
    const char *s = memmem(body, n, "\"stream\"", 8), *m;
    int count = 20, delay = 0;
    if (!s || !memmem(s, (size_t)(body + n - s) > 16 ? 16 : (size_t)(body + n - s), "true", 4))
        return say(fd, whole, whole_len);
    m = memmem(body, n, "mock-", 5);
    if (m) sscanf(m, "mock-%d-%d", &count, &delay);
    c->streaming = 1, c->left = count, c->delay_ms = delay;
    return say(fd, head, head_len) ? -1 : go_on(fd);
}

static int take(int fd) {
    struct conn *c = &conns[fd];
    for (;;) {
        char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4), *length;
        size_t body_len, total;
        if (!end || c->streaming) return 0;
        *end = 0;
        length = strcasestr(c->in, "content-length:");
        *end = '\r';
        body_len = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
        total = (size_t)(end + 4 - c->in) + body_len;
        if (c->in_len < total) return 0;
        if (answer(fd, end + 4, body_len)) return -1;
        memmove(c->in, c->in + total, c->in_len - total), c->in_len -= total;
    }
}

static void prepare(void) {
    char text[701], body[2048];
    int n;
    for (int i = 0; i < 700; i++) text[i] = "the law keeps it at home and "[i % 29];
    text[700] = 0;
    n = snprintf(body, sizeof body,
                 "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":"
                 "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":"
                 "\"stop\"}],\"usage\":{\"prompt_tokens\":190,\"completion_tokens\":150,\"total_tokens\":340}}", text);
    whole_len = (size_t)snprintf(whole, sizeof whole,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, body);
    head_len = (size_t)snprintf(head, sizeof head,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    n = snprintf(body, sizeof body,
                 "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\","
                 "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    event_len = (size_t)snprintf(event, sizeof event, "%x\r\n%s\r\n", n, body);
    n = snprintf(body, sizeof body,
                 "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\","
                 "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":190,"
                 "\"completion_tokens\":200,\"total_tokens\":390}}\n\ndata: [DONE]\n\n");
    tail_len = (size_t)snprintf(tail, sizeof tail, "%x\r\n%s\r\n0\r\n\r\n", n, body);
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event e = {.events = EPOLLIN}, ready[256];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    signal(SIGPIPE, SIG_IGN);
    at.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 9400));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) return perror("listen"), 1;
    prepare();
    poller = epoll_create1(0), e.data.fd = listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(poller, ready, 256, waiting ? 1 : -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            struct conn *c = &conns[fd];
            ssize_t got;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (client < 0) continue;
                if (client >= MAX_FD) { close(client); continue; }
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                conns[client].in = malloc(IN_BYTES), e.data.fd = client;
                epoll_ctl(poller, EPOLL_CTL_ADD, client, &e);
                continue;
            }
            got = recv(fd, c->in + c->in_len, IN_BYTES - c->in_len - 1, 0);
            if (got <= 0) { hang_up(fd); continue; }
            c->in_len += (size_t)got;
            if (take(fd)) hang_up(fd);
        }
        if (waiting) {
            long long now = now_us();
            for (int fd = 0; fd < MAX_FD; fd++)
                if (conns[fd].due_us && conns[fd].due_us <= now) {
                    conns[fd].due_us = 0, waiting--;
                    if (go_on(fd) || take(fd)) hang_up(fd);
                }
        }
    }
}
