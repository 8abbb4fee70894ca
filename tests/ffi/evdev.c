/* The numbers of evdev as the C library's headers have them, one "name value" per line. */
#include <linux/input.h>
#include <stddef.h>
#include <stdio.h>

#define SHOW(name, value) printf("%s %lu\n", name, (unsigned long)(value))

int main(void)
{
  SHOW("EVIOCGID", EVIOCGID);
  SHOW("EVIOCGNAME", EVIOCGNAME(256));
  SHOW("EVIOCGUNIQ", EVIOCGUNIQ(256));
  SHOW("EVIOCGPROP", EVIOCGPROP(4));
  SHOW("EVIOCGMTSLOTS", EVIOCGMTSLOTS(44));
  SHOW("EVIOCGKEY", EVIOCGKEY(96));
  SHOW("EVIOCGSW", EVIOCGSW(3));
  SHOW("EVIOCGBIT", EVIOCGBIT(EV_ABS, 8));
  SHOW("EVIOCGABS", EVIOCGABS(ABS_MT_TRACKING_ID));
  SHOW("EVIOCGRAB", EVIOCGRAB);
  SHOW("event", sizeof(struct input_event));
  SHOW("event.type", offsetof(struct input_event, type));
  SHOW("event.code", offsetof(struct input_event, code));
  SHOW("event.value", offsetof(struct input_event, value));
  SHOW("absinfo", sizeof(struct input_absinfo));
  SHOW("absinfo.maximum", offsetof(struct input_absinfo, maximum));
  SHOW("absinfo.resolution", offsetof(struct input_absinfo, resolution));
  SHOW("codes.key", KEY_CNT);
  SHOW("codes.abs", ABS_CNT);
  SHOW("codes.sw", SW_CNT);
  SHOW("key.f24", KEY_F24);
  SHOW("key.compose", KEY_COMPOSE);
  SHOW("key.volumeup", KEY_VOLUMEUP);
  SHOW("key.kpdot", KEY_KPDOT);
  SHOW("button.left", BTN_LEFT);
  SHOW("button.touch", BTN_TOUCH);
  SHOW("abs.mt-last", ABS_MT_TOOL_Y);
  SHOW("rel.wheel", REL_WHEEL);
  SHOW("type.rep", EV_REP);
  SHOW("syn.dropped", SYN_DROPPED);
  return 0;
}
