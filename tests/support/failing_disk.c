/* A disk that fails when it is told to: loaded before the C library (LD_PRELOAD), it lets calls about files *.wal fail while the
 * file that FAILING_DISK names has a line for them:
 *
 *     fdatasync 5          fails with that errno (5: EIO), and nothing is done
 *     pwritev 28           likewise (28: ENOSPC)
 *     pwritev short        writes half of the bytes, and says so
 *     pwritev torn         writes half of the bytes, and fails with EIO
 *     openat 30            files can't be created (30: EROFS)
 *     fallocate 28
 *     fsync 5              of anything: the log syncs its directory with it
 *
 * The descriptor's path is asked of /proc. Slow, which is no matter here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { GOOD = 0, SHORT = -1, TORN = -2 };

/* What the control file says about a call: GOOD, SHORT, TORN or an errno. */
static int told(const char *call) {
  const char *path = getenv("FAILING_DISK");
  const int control = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (control < 0) return GOOD;
  char text[512] = "";
  const ssize_t bytes = read(control, text, sizeof text - 1);
  close(control);
  char *rest = text;
  for (char *line; bytes > 0 && (line = strsep(&rest, "\n")) != NULL;) {
    const size_t length = strlen(call);
    if (strncmp(line, call, length) != 0 || line[length] != ' ') continue;
    const char *what = line + length + 1;
    return strcmp(what, "short") == 0 ? SHORT : strcmp(what, "torn") == 0 ? TORN : atoi(what);
  }
  return GOOD;
}

static int is_segment(const char *path) {
  const size_t length = strlen(path);
  return length > 4 && strcmp(path + length - 4, ".wal") == 0;
}

static int told_about(const char *call, int descriptor) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t bytes = readlink(link, path, sizeof path - 1);
  if (bytes <= 0) return GOOD;
  path[bytes] = '\0';
  return is_segment(path) ? told(call) : GOOD;
}

static int fails(int told) {
  if (told > 0) errno = told;
  return told > 0;
}

int fdatasync(int descriptor) {
  if (fails(told_about("fdatasync", descriptor))) return -1;
  return (int)syscall(SYS_fdatasync, descriptor);
}

int fsync(int descriptor) {
  if (fails(told("fsync"))) return -1;
  return (int)syscall(SYS_fsync, descriptor);
}

int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
  static int (*next)(int, int, off_t, off_t);
  if (fails(told_about("fallocate", descriptor))) return -1;
  if (next == NULL) next = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate");
  return next(descriptor, mode, offset, bytes);
}

int openat(int directory, const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(more, int) : 0;
  va_end(more);
  if ((flags & O_CREAT) != 0 && is_segment(path) && fails(told("openat"))) return -1;
  return (int)syscall(SYS_openat, directory, path, flags, mode);
}

static ssize_t write_half(int descriptor, const struct iovec *pieces, int count, off_t offset) {
  size_t half = 0;
  for (int i = 0; i < count; ++i) half += pieces[i].iov_len;
  half /= 2;
  size_t done = 0;
  for (int i = 0; i < count && done < half; ++i) {
    const size_t bytes = pieces[i].iov_len < half - done ? pieces[i].iov_len : half - done;
    const ssize_t written = pwrite(descriptor, pieces[i].iov_base, bytes, offset + (off_t)done);
    if (written < 0) return -1;
    done += (size_t)written;
  }
  return (ssize_t)done;
}

ssize_t pwritev(int descriptor, const struct iovec *pieces, int count, off_t offset) {
  static ssize_t (*next)(int, const struct iovec *, int, off_t);
  const int what = told_about("pwritev", descriptor);
  if (fails(what)) return -1;
  if (what == SHORT || what == TORN) {
    const ssize_t written = write_half(descriptor, pieces, count, offset);
    if (what == SHORT) return written;
    errno = EIO;
    return -1;
  }
  if (next == NULL) next = (ssize_t (*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev");
  return next(descriptor, pieces, count, offset);
}
