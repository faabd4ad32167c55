/*
 * Loaded before libc by shim.ts: stands between a process and the calls by which it changes a ledger's files. It can end the process
 * with SIGKILL at the start of the Nth of them, let calls fail, write down what each of them did, and fork the process, so that a kill
 * does not cost a new one. Only files whose path begins with PURSER_WATCHED count.
 *
 * The program speaks to it by unlinking names that no file has (shim.ts):
 *   purser:fork N        forks; the child is killed at its Nth call. ENOENT: it was killed. EPERM: it ended otherwise
 *   purser:exit          ends the process at once, without waiting for threads that a forked child does not have
 *   purser:die           ends it by SIGKILL
 *   purser:fail E K N C  from the Nth call of the kinds K on, C calls fail with errno E. Kinds: w(rite), s(ync), r(ead)
 *   purser:failed        ENOENT: a call failed since. EPERM: none did. No call fails from here on
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *watched;
static int record_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long kill_at;
static struct {
  int error;
  char kinds[4];
  long from;
  long count;
  long failed;
} failing;

__attribute__((constructor)) static void begin(void) {
  watched = getenv("PURSER_WATCHED");
  const char *record = getenv("PURSER_RECORD");
  if (record != NULL) record_fd = open(record, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
  const char *at = getenv("PURSER_KILL_AT");
  if (at != NULL) kill_at = atol(at);
}

static int is_watched(const char *path) { return watched != NULL && strncmp(path, watched, strlen(watched)) == 0; }

/* The path of a descriptor, or an empty one. */
static void path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  path[length < 0 ? 0 : length] = 0;
}

/* One change, as recording.ts reads it: a line of its kind, place, length and file, then its bytes. */
static void record(const char *kind, const char *path, long at, const void *bytes, size_t length) {
  if (record_fd < 0) return;
  char head[4200];
  int size = snprintf(head, sizeof head, "%s %ld %zu %s\n", kind, at, bytes == NULL ? 0 : length, path);
  if (write(record_fd, head, size) != size) abort();
  if (bytes != NULL && write(record_fd, bytes, length) != (ssize_t)length) abort();
}

/* Counts a call. Returns false if it is to fail, with errno set. */
static int may_pass(char kind) {
  if (kind != 'r' && kill_at > 0 && --kill_at == 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  if (failing.error == 0 || strchr(failing.kinds, kind) == NULL) return 1;
  if (--failing.from > 0) return 1;
  if (failing.count-- <= 0) return 1;
  failing.failed += 1;
  errno = failing.error;
  return 0;
}

#define REAL(type, name, parameters)     \
  static type(*real) parameters;         \
  if (real == NULL) real = (type(*) parameters)dlsym(RTLD_NEXT, #name)

/* A call on a descriptor: counted, recorded and carried out in one piece, so that the record has the order of the changes. */
#define STANDING_BETWEEN(type, name, parameters, arguments, kind, word, at, bytes, length) \
  type name parameters {                                                                   \
    REAL(type, name, parameters);                                                          \
    char path[4096];                                                                       \
    path_of(fd, path, sizeof path);                                                        \
    if (!is_watched(path)) return real arguments;                                          \
    pthread_mutex_lock(&lock);                                                             \
    type result = -1;                                                                      \
    if (may_pass(kind)) {                                                                  \
      if (word != NULL) record(word, path, at, bytes, length);                             \
      result = real arguments;                                                             \
    }                                                                                      \
    int error = errno;                                                                     \
    pthread_mutex_unlock(&lock);                                                           \
    errno = error;                                                                         \
    return result;                                                                         \
  }

#define NOTHING ((const char *)NULL)
STANDING_BETWEEN(ssize_t, pwrite64, (int fd, const void *bytes, size_t length, off64_t at), (fd, bytes, length, at), 'w', "write", at, bytes, length)
STANDING_BETWEEN(ssize_t, pwrite, (int fd, const void *bytes, size_t length, off_t at), (fd, bytes, length, at), 'w', "write", at, bytes, length)
STANDING_BETWEEN(int, ftruncate64, (int fd, off64_t size), (fd, size), 'w', "truncate", size, NOTHING, 0)
STANDING_BETWEEN(int, ftruncate, (int fd, off_t size), (fd, size), 'w', "truncate", size, NOTHING, 0)
STANDING_BETWEEN(int, fsync, (int fd), (fd), 's', "sync", 0L, NOTHING, 0)
STANDING_BETWEEN(int, fdatasync, (int fd), (fd), 's', "sync", 0L, NOTHING, 0)
STANDING_BETWEEN(ssize_t, pread64, (int fd, void *bytes, size_t length, off64_t at), (fd, bytes, length, at), 'r', NOTHING, 0L, NOTHING, 0)

/* What a program says on its standard output is recorded between its changes. */
ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(ssize_t, write, (int, const void *, size_t));
  if (fd != 1 || record_fd < 0) return real(fd, bytes, length);
  pthread_mutex_lock(&lock);
  record("said", "-", 0, bytes, length);
  ssize_t result = real(fd, bytes, length);
  pthread_mutex_unlock(&lock);
  return result;
}

/* Waits for the child. ENOENT: it was killed. EPERM: it ended otherwise. */
static int fork_to_die(long at) {
  pid_t child = fork();
  if (child == 0) {
    kill_at = at;
    return 0;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  errno = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? ENOENT : EPERM;
  return -1;
}

static int command(const char *text) {
  if (strncmp(text, "fork ", 5) == 0) return fork_to_die(atol(text + 5));
  if (strcmp(text, "exit") == 0) _exit(0);
  if (strcmp(text, "die") == 0) kill(getpid(), SIGKILL);
  if (strncmp(text, "fail ", 5) == 0) {
    memset(&failing, 0, sizeof failing);
    sscanf(text, "fail %d %3s %ld %ld", &failing.error, failing.kinds, &failing.from, &failing.count);
    return 0;
  }
  errno = failing.failed > 0 ? ENOENT : EPERM;
  failing.error = 0;
  return -1;
}

int unlink(const char *path) {
  REAL(int, unlink, (const char *));
  if (strncmp(path, "purser:", 7) == 0) return command(path + 7);
  if (!is_watched(path)) return real(path);
  pthread_mutex_lock(&lock);
  int result = -1;
  if (may_pass('w')) {
    record("unlink", path, 0, NULL, 0);
    result = real(path);
  }
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

/* V8 keeps its memory from children, which only ever exec; the children here go on. */
int madvise(void *address, size_t length, int advice) {
  return advice == MADV_DONTFORK ? 0 : (int)syscall(SYS_madvise, address, length, advice);
}
