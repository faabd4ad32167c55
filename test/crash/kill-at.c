/*
 * Loaded before libc by kill-points.ts: ends the process with SIGKILL at the start of its Nth call that changes a file, as kill -9 at
 * that place would. N is PURSER_KILL_AT. Only files whose descriptor may be written count; sockets and pipes use other calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static long left = -1;

__attribute__((constructor)) static void begin(void) {
  const char *at = getenv("PURSER_KILL_AT");
  if (at != NULL) left = atol(at);
}

static void count(void) {
  if (left < 0) return;
  if (__atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) == 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
}

#define COUNTED(type, name, parameters, arguments)                      \
  type name parameters {                                                \
    static type(*real) parameters;                                      \
    if (real == NULL) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    count();                                                            \
    return real arguments;                                              \
  }

COUNTED(ssize_t, pwrite64, (int fd, const void *bytes, size_t length, off64_t at), (fd, bytes, length, at))
COUNTED(ssize_t, pwrite, (int fd, const void *bytes, size_t length, off_t at), (fd, bytes, length, at))
COUNTED(int, fsync, (int fd), (fd))
COUNTED(int, fdatasync, (int fd), (fd))
COUNTED(int, ftruncate, (int fd, off_t length), (fd, length))
COUNTED(int, ftruncate64, (int fd, off64_t length), (fd, length))
COUNTED(int, unlink, (const char *path), (path))
