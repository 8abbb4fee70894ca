/* A library that stands in for libc (RINGSIDE_LIBC): fdatasync fails, everything else is libc's. */
#include <errno.h>

int fdatasync(int fd)
{
  (void)fd;
  errno = EIO;
  return -1;
}
