/*
 * What a guest knows of its input devices, and what they send.
 *   events list               path, name, serial, ids, properties and axes, one line per device
 *   events record PATH FILE   writes "type code value" lines to FILE until it is killed
 *   events send PATH TYPE CODE VALUE
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int fail(const char *what)
{
  perror(what);
  return 1;
}

static void describe(const char *path)
{
  char name[256] = "", serial[256] = "";
  unsigned long axes = 0, properties = 0;
  struct input_id id;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || ioctl(fd, EVIOCGID, &id) < 0) return;
  ioctl(fd, EVIOCGNAME(sizeof name), name);
  ioctl(fd, EVIOCGUNIQ(sizeof serial), serial);
  ioctl(fd, EVIOCGPROP(sizeof properties), &properties);
  ioctl(fd, EVIOCGBIT(EV_ABS, sizeof axes), &axes);
  printf("%s|%s|%s|%x:%x:%x:%x|%lx|", path, name, serial, id.bustype, id.vendor, id.product,
         id.version, properties);
  for (int axis = 0; axis < ABS_CNT; axis++) {
    struct input_absinfo info;
    if ((axes >> axis & 1) == 0 || ioctl(fd, EVIOCGABS(axis), &info) < 0) continue;
    printf(" %x=%d..%d", axis, info.minimum, info.maximum);
  }
  printf("\n");
  close(fd);
}

static int list(void)
{
  char path[300];
  struct dirent **entries;
  int count = scandir("/dev/input", &entries, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    if (strncmp(entries[i]->d_name, "event", 5) != 0) continue;
    snprintf(path, sizeof path, "/dev/input/%s", entries[i]->d_name);
    describe(path);
  }
  return count < 0 ? fail("/dev/input") : 0;
}

static int record(const char *path, const char *file)
{
  struct input_event events[64];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return fail(path);
  FILE *out = fopen(file, "w");
  if (out == NULL) return fail(file);
  for (;;) {
    ssize_t got = read(fd, events, sizeof events);
    if (got <= 0) return fail("read");
    for (size_t i = 0; i < got / sizeof *events; i++) {
      fprintf(out, "%u %u %d\n", events[i].type, events[i].code, events[i].value);
    }
    fflush(out);
  }
}

static int send_event(const char *path, char **numbers)
{
  struct input_event events[2] = {0};
  int fd = open(path, O_WRONLY);
  if (fd < 0) return fail(path);
  events[0].type = atoi(numbers[0]);
  events[0].code = atoi(numbers[1]);
  events[0].value = atoi(numbers[2]);
  return write(fd, events, sizeof events) == sizeof events ? 0 : fail("write");
}

int main(int argc, char **argv)
{
  if (argc == 2 && strcmp(argv[1], "list") == 0) return list();
  if (argc == 4 && strcmp(argv[1], "record") == 0) return record(argv[2], argv[3]);
  if (argc == 6 && strcmp(argv[1], "send") == 0) return send_event(argv[2], argv + 3);
  return 2;
}
