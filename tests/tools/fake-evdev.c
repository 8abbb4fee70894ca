/*
 * A library that stands in for libc (RINGSIDE_LIBC) and has an event device: opening the path
 * RINGSIDE_FAKE_EVDEV connects to the unix socket PATH.sock, whose other end sends the events and gets
 * what is written to the device.
 *
 * PATH.answers holds the answers to evdev's ioctl requests, one per line: the number of the request
 * and the bytes, in hexadecimal. It is read for each request; one without a line fails with EINVAL.
 * Each EVIOCGRAB adds a byte to PATH.grabs. At its end the device reads as end of file, or as ENODEV when
 * there is a file PATH.unplugged.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FD = 1024, EVIOCGRAB_NUMBER = 0x90 };

static char fake[MAX_FD];

static int is_fake(int fd)
{
  return fd >= 0 && fd < MAX_FD && fake[fd];
}

static const char *companion(const char *suffix)
{
  static char path[4096];
  snprintf(path, sizeof path, "%s%s", getenv("RINGSIDE_FAKE_EVDEV"), suffix);
  return path;
}

static int plug_in(int flags)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const char *path = companion(".sock");
  memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1));
  if (fd >= MAX_FD || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    syscall(SYS_close, fd);
    errno = ENOENT;
    return -1;
  }
  if (flags & O_NONBLOCK) fcntl(fd, F_SETFL, O_NONBLOCK);
  fake[fd] = 1;
  return fd;
}

int open(const char *path, int flags, ...)
{
  const char *device = getenv("RINGSIDE_FAKE_EVDEV");
  va_list rest;
  va_start(rest, flags);
  mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  if (device != NULL && strcmp(path, device) == 0) return plug_in(flags);
  return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int close(int fd)
{
  if (is_fake(fd)) fake[fd] = 0;
  return syscall(SYS_close, fd);
}

ssize_t read(int fd, void *data, size_t count)
{
  ssize_t got = syscall(SYS_read, fd, data, count);
  if (got == 0 && is_fake(fd) && access(companion(".unplugged"), F_OK) == 0) {
    errno = ENODEV;
    return -1;
  }
  return got;
}

static int grab(void)
{
  int log = syscall(SYS_openat, AT_FDCWD, companion(".grabs"), O_WRONLY | O_CREAT | O_APPEND, 0600);
  int result = syscall(SYS_write, log, "g", 1) == 1 ? 0 : -1;
  syscall(SYS_close, log);
  return result;
}

/* Contacts are asked for by a code in the buffer: their requests have the code in the bits above. */
static int answer(unsigned number, unsigned char *to, size_t room)
{
  char line[8192];
  FILE *answers = fopen(companion(".answers"), "r");
  if (answers == NULL) return -1;
  unsigned wanted = number == 0x0a ? number | to[0] << 8 : number;
  while (fgets(line, sizeof line, answers) != NULL) {
    int at;
    unsigned found, byte;
    if (sscanf(line, "%x%n", &found, &at) != 1 || found != wanted) continue;
    size_t first = number == 0x0a ? 4 : 0;
    memset(to + first, 0, room - first);
    for (size_t i = first; i < room && sscanf(line + at, "%2x", &byte) == 1; i++) {
      to[i] = byte;
      at += line[at] == ' ' ? 3 : 2;
    }
    fclose(answers);
    return 0;
  }
  fclose(answers);
  errno = EINVAL;
  return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (!is_fake(fd) || _IOC_TYPE(request) != 'E') return syscall(SYS_ioctl, fd, request, argument);
  if (_IOC_NR(request) == EVIOCGRAB_NUMBER) return grab();
  return answer(_IOC_NR(request), argument, _IOC_SIZE(request));
}
