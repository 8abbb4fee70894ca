/*
 * An input device of the guest, made by the kernel's uinput.
 *   uinput keyboard|panel COMMANDS REPLIES
 * Prints the device's path. Sends the events of COMMANDS, a FIFO with lines "type code value", and
 * writes those that come back to the file REPLIES. The device goes when the FIFO has no writer left.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/uinput.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int device;

static void check(int result, const char *what)
{
  if (result >= 0) return;
  perror(what);
  exit(1);
}

static void axis(int code, int minimum, int maximum, int fuzz, int flat, int resolution)
{
  struct uinput_abs_setup setup = {
    .code = code,
    .absinfo = {.value = minimum, .minimum = minimum, .maximum = maximum, .fuzz = fuzz,
                .flat = flat, .resolution = resolution},
  };
  check(ioctl(device, UI_ABS_SETUP, &setup), "UI_ABS_SETUP");
}

static void enable(unsigned long request, int first, int last)
{
  for (int i = first; i <= last; i++) check(ioctl(device, request, i), "UI_SET");
}

static void make_keyboard(void)
{
  enable(UI_SET_EVBIT, EV_KEY, EV_KEY);
  enable(UI_SET_EVBIT, EV_MSC, EV_MSC);
  enable(UI_SET_EVBIT, EV_LED, EV_LED);
  enable(UI_SET_EVBIT, EV_REP, EV_REP);
  enable(UI_SET_KEYBIT, 1, 120);
  enable(UI_SET_MSCBIT, MSC_SCAN, MSC_SCAN);
  enable(UI_SET_LEDBIT, LED_NUML, LED_SCROLLL);
}

static void make_panel(void)
{
  enable(UI_SET_EVBIT, EV_KEY, EV_KEY);
  enable(UI_SET_EVBIT, EV_ABS, EV_ABS);
  enable(UI_SET_KEYBIT, BTN_TOUCH, BTN_TOUCH);
  enable(UI_SET_PROPBIT, INPUT_PROP_DIRECT, INPUT_PROP_DIRECT);
  axis(ABS_X, -5, 4095, 1, 2, 31);
  axis(ABS_Y, 0, 2047, 3, 4, 30);
  axis(ABS_MT_SLOT, 0, 3, 0, 0, 0);
  axis(ABS_MT_POSITION_X, -5, 4095, 0, 0, 31);
  axis(ABS_MT_POSITION_Y, 0, 2047, 0, 0, 30);
  axis(ABS_MT_TRACKING_ID, 0, 65535, 0, 0, 0);
}

/* Its event device is the child "eventN" of the input device that uinput names. */
static void print_path(void)
{
  char name[64], folder[128];
  struct dirent **entries;
  check(ioctl(device, UI_GET_SYSNAME(sizeof name), name), "UI_GET_SYSNAME");
  snprintf(folder, sizeof folder, "/sys/devices/virtual/input/%s", name);
  int count = scandir(folder, &entries, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    if (strncmp(entries[i]->d_name, "event", 5) == 0) printf("/dev/input/%s\n", entries[i]->d_name);
  }
  fflush(stdout);
}

static void send_event(const char *line)
{
  struct input_event event = {0};
  int type, code, value;
  if (sscanf(line, "%d %d %d", &type, &code, &value) != 3) return;
  event.type = type;
  event.code = code;
  event.value = value;
  check(write(device, &event, sizeof event), "write");
}

int main(int argc, char **argv)
{
  struct uinput_setup setup = {.id = {.bustype = 3, .vendor = 0x46d, .product = 0xc31c, .version = 7}};
  struct input_event event;
  char line[64];
  if (argc != 4) return 2;
  device = open("/dev/uinput", O_RDWR | O_NONBLOCK);
  check(device, "/dev/uinput");
  if (strcmp(argv[1], "panel") == 0) make_panel();
  else make_keyboard();
  snprintf(setup.name, sizeof setup.name, "A %s of uinput", argv[1]);
  check(ioctl(device, UI_DEV_SETUP, &setup), "UI_DEV_SETUP");
  check(ioctl(device, UI_DEV_CREATE), "UI_DEV_CREATE");
  print_path();
  FILE *replies = fopen(argv[3], "w");
  FILE *commands = fopen(argv[2], "r");
  if (replies == NULL || commands == NULL) return 1;
  setvbuf(commands, NULL, _IONBF, 0);
  struct pollfd ready[2] = {{device, POLLIN, 0}, {fileno(commands), POLLIN, 0}};
  for (;;) {
    check(poll(ready, 2, -1), "poll");
    while (read(device, &event, sizeof event) == sizeof event) {
      fprintf(replies, "%u %u %d\n", event.type, event.code, event.value);
      fflush(replies);
    }
    if (ready[1].revents == 0) continue;
    if (fgets(line, sizeof line, commands) == NULL) return 0;
    send_event(line);
  }
}
