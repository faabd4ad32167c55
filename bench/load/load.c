/*
 * Load and provider for the comparison of proxies, in C so that one core of them outruns the fastest proxy on another core.
 *
 *   load provider FILE_JSON FILE_STREAM           prints its port; answers every request with one of the two files, as bytes
 *   load closed PORT CONNECTIONS MS FILE BYTES    sends the request in FILE over and over on each connection, the next one when the
 *                                                 last is answered; prints one line of JSON
 *
 * Every answer is checked: its status is 200, and it carries BYTES bytes of payload. The first that does not ends the run with 1.
 * Same framing as message.ts, which does this where there is no compiler.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 16384, TAIL_BYTES = 24, EVENTS = 256, READ_BYTES = 262144 };
enum State { HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

/* One HTTP/1.1 message as it arrives, request or answer: where it ends, how much payload it had, and how that ended. */
struct Message {
  enum State state;
  char head[HEAD_BYTES_MAX + 1];
  int headBytes;
  long left;
  long payloadBytes;
  int lineBytes;
  char tail[TAIL_BYTES];
};

struct Connection {
  int fd;
  struct Message message;
  const char *out;
  long outLeft;
  char *request;
  long long sentNs;
};

static char readBuffer[READ_BYTES];

static void fail(const char *what) {
  fprintf(stderr, "load: %s\n", what);
  exit(1);
}

static long long nowNs(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static char *readFile(const char *path, long *bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) fail(path);
  fseek(file, 0, SEEK_END);
  *bytes = ftell(file);
  rewind(file);
  char *data = malloc(*bytes + 1);
  if (fread(data, 1, *bytes, file) != (size_t)*bytes) fail(path);
  data[*bytes] = 0;
  fclose(file);
  return data;
}

static void begin(struct Message *message) {
  message->state = HEAD;
  message->headBytes = 0;
  message->payloadBytes = 0;
  memset(message->tail, 0, TAIL_BYTES);
}

static void keepTail(struct Message *message, const char *data, long bytes) {
  message->payloadBytes += bytes;
  if (bytes >= TAIL_BYTES) {
    memcpy(message->tail, data + bytes - TAIL_BYTES, TAIL_BYTES);
    return;
  }
  memmove(message->tail, message->tail + bytes, TAIL_BYTES - bytes);
  memcpy(message->tail + TAIL_BYTES - bytes, data, bytes);
}

/* Reads on. Returns 1 when the message is whole; nothing may stand behind it, since nobody pipelines here. */
static int take(struct Message *message, const char *data, long bytes) {
  while (bytes > 0) {
    if (message->state == HEAD) {
      if (message->headBytes + bytes > HEAD_BYTES_MAX && message->headBytes >= HEAD_BYTES_MAX) fail("a head without an end");
      long part = bytes < HEAD_BYTES_MAX - message->headBytes ? bytes : HEAD_BYTES_MAX - message->headBytes;
      int from = message->headBytes < 3 ? 0 : message->headBytes - 3;
      memcpy(message->head + message->headBytes, data, part);
      message->head[message->headBytes + part] = 0;
      char *end = memmem(message->head + from, message->headBytes + part - from, "\r\n\r\n", 4);
      if (end == NULL) {
        message->headBytes += part;
        data += part, bytes -= part;
        continue;
      }
      long used = end + 4 - (message->head + message->headBytes);
      *end = 0;
      data += used, bytes -= used;
      char *length = strcasestr(message->head, "\r\ncontent-length:");
      if (length != NULL) {
        message->left = atol(length + 17);
        message->state = BODY;
        if (message->left == 0) return 1;
      } else if (strcasestr(message->head, "\r\ntransfer-encoding: chunked") != NULL) {
        message->state = CHUNK_SIZE;
        message->left = 0;
        message->lineBytes = 0;
      } else return 1; /* Nothing follows, as after a GET; an answer that should have had a payload is caught by its bytes. */
    } else if (message->state == BODY || message->state == CHUNK_DATA) {
      long part = bytes < message->left ? bytes : message->left;
      keepTail(message, data, part);
      data += part, bytes -= part, message->left -= part;
      if (message->left > 0) continue;
      if (message->state == BODY) return 1;
      message->state = CHUNK_END;
    } else {
      char next = *data;
      data += 1, bytes -= 1;
      if (message->state == CHUNK_END) {
        if (next == '\n') message->state = CHUNK_SIZE, message->left = 0, message->lineBytes = 0;
      } else if (next == '\n') {
        if (message->state == CHUNK_SIZE) {
          message->state = message->left == 0 ? TRAILER : CHUNK_DATA;
          message->lineBytes = 0;
        } else if (message->lineBytes == 0) return 1;
        else message->lineBytes = 0;
      } else if (next != '\r') {
        message->lineBytes += 1;
        if (message->state == CHUNK_SIZE) {
          int digit = next >= '0' && next <= '9' ? next - '0' : (next | 32) >= 'a' && (next | 32) <= 'f' ? (next | 32) - 'a' + 10 : -1;
          if (digit < 0) fail("a chunk without a size");
          message->left = message->left * 16 + digit;
        }
      }
    }
  }
  return 0;
}

static void watch(int epoll, struct Connection *connection, int operation) {
  struct epoll_event event = {.events = EPOLLIN | (connection->outLeft > 0 ? EPOLLOUT : 0), .data.ptr = connection};
  epoll_ctl(epoll, operation, connection->fd, &event);
}

/* Writes what the socket takes. A broken connection is told by its next read. */
static void push(struct Connection *connection) {
  long written = send(connection->fd, connection->out, connection->outLeft, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (written < 0 && errno != EAGAIN) connection->outLeft = 0;
  if (written > 0) connection->out += written, connection->outLeft -= written;
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static void noDelay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void provide(const char *jsonPath, const char *streamPath) {
  long jsonBytes, streamBytes;
  const char *json = readFile(jsonPath, &jsonBytes), *stream = readFile(streamPath, &streamBytes);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 4096) != 0) fail("cannot listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i += 1) {
      struct Connection *connection = events[i].data.ptr;
      if (connection == NULL) {
        int fd;
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          connection = calloc(1, sizeof *connection);
          connection->fd = fd;
          noDelay(fd);
          begin(&connection->message);
          watch(epoll, connection, EPOLL_CTL_ADD);
        }
        continue;
      }
      if (events[i].events & EPOLLOUT) {
        push(connection);
        watch(epoll, connection, EPOLL_CTL_MOD);
      }
      if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      long bytes = recv(connection->fd, readBuffer, READ_BYTES, MSG_DONTWAIT);
      if (bytes < 0 && errno == EAGAIN) continue;
      if (bytes <= 0) {
        close(connection->fd);
        free(connection);
        continue;
      }
      if (!take(&connection->message, readBuffer, bytes)) continue;
      int isStream = memmem(connection->message.tail, TAIL_BYTES, "\"stream\":true", 13) != NULL;
      connection->out = isStream ? stream : json;
      connection->outLeft = isStream ? streamBytes : jsonBytes;
      begin(&connection->message);
      push(connection);
      if (connection->outLeft > 0) watch(epoll, connection, EPOLL_CTL_MOD);
    }
  }
}

static int byValue(const void *a, const void *b) {
  unsigned left = *(const unsigned *)a, right = *(const unsigned *)b;
  return left < right ? -1 : left > right;
}

static int closedLoop(int port, int connections, long ms, const char *path, long payloadBytes) {
  long requestBytes, calls = 0, capacity = 1 << 20;
  const char *request = readFile(path, &requestBytes);
  unsigned *latenciesNs = malloc(capacity * sizeof *latenciesNs);
  int epoll = epoll_create1(0), open = connections;
  struct Connection *all = calloc(connections, sizeof *all);
  struct sockaddr_in address = loopback(port);
  long long startedNs = nowNs(), untilNs = startedNs + ms * 1000000LL;
  for (int i = 0; i < connections; i += 1) {
    struct Connection *connection = &all[i];
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0) fail("cannot connect");
    noDelay(connection->fd);
    begin(&connection->message);
    connection->request = malloc(requestBytes);
    memcpy(connection->request, request, requestBytes);
    char *session = memmem(connection->request, requestBytes, "session-0000", 12), digits[5];
    snprintf(digits, sizeof digits, "%04d", i % 10000);
    if (session != NULL) memcpy(session + 8, digits, 4);
    connection->out = connection->request, connection->outLeft = requestBytes, connection->sentNs = nowNs();
    push(connection);
    watch(epoll, connection, EPOLL_CTL_ADD);
  }
  struct epoll_event events[EVENTS];
  while (open > 0) {
    int count = epoll_wait(epoll, events, EVENTS, 20000);
    if (count == 0) fail("no answer for 20 s");
    for (int i = 0; i < count; i += 1) {
      struct Connection *connection = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) {
        push(connection);
        watch(epoll, connection, EPOLL_CTL_MOD);
      }
      if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      long bytes = recv(connection->fd, readBuffer, READ_BYTES, MSG_DONTWAIT);
      if (bytes < 0 && errno == EAGAIN) continue;
      if (bytes <= 0) fail("a connection was closed before its answer");
      if (!take(&connection->message, readBuffer, bytes)) continue;
      if (strncmp(connection->message.head, "HTTP/1.1 200", 12) != 0) fail(connection->message.head);
      if (connection->message.payloadBytes != payloadBytes) {
        fprintf(stderr, "load: an answer of %ld bytes, %ld were sent\n", connection->message.payloadBytes, payloadBytes);
        return 1;
      }
      long long atNs = nowNs();
      if (calls == capacity) latenciesNs = realloc(latenciesNs, (capacity *= 2) * sizeof *latenciesNs);
      latenciesNs[calls++] = atNs - connection->sentNs;
      begin(&connection->message);
      if (atNs >= untilNs) {
        close(connection->fd);
        open -= 1;
        continue;
      }
      connection->out = connection->request, connection->outLeft = requestBytes, connection->sentNs = atNs;
      push(connection);
      if (connection->outLeft > 0) watch(epoll, connection, EPOLL_CTL_MOD);
    }
  }
  double elapsedMs = (nowNs() - startedNs) / 1e6;
  qsort(latenciesNs, calls, sizeof *latenciesNs, byValue);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double cpuUs = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  printf("{\"calls\":%ld,\"elapsedMs\":%.3f,\"p50Us\":%.1f,\"p99Us\":%.1f,\"cpuUs\":%.0f}\n", calls, elapsedMs,
         latenciesNs[calls / 2] / 1e3, latenciesNs[calls * 99 / 100] / 1e3, cpuUs);
  return 0;
}

int main(int count, char **words) {
  if (count == 4 && strcmp(words[1], "provider") == 0) provide(words[2], words[3]);
  if (count == 7 && strcmp(words[1], "closed") == 0)
    return closedLoop(atoi(words[2]), atoi(words[3]), atol(words[4]), words[5], atol(words[6]));
  fail("load provider FILE_JSON FILE_STREAM | load closed PORT CONNECTIONS MS FILE BYTES");
}
