/** Names of keys, buttons and LEDs: those of linux/input-event-codes.h in lower case, and shorter ones. */
import { Button } from "./wire.ts";

/** Keys from code 1 on; a dash stands for a code without a key. */
const keys = `
esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p leftbrace rightbrace enter
leftctrl a s d f g h j k l semicolon apostrophe grave leftshift backslash z x c v b n m comma dot
slash rightshift kpasterisk leftalt space capslock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 numlock scrolllock
kp7 kp8 kp9 kpminus kp4 kp5 kp6 kpplus kp1 kp2 kp3 kp0 kpdot - zenkakuhankaku 102nd f11 f12 ro
katakana hiragana henkan katakanahiragana muhenkan kpjpcomma kpenter rightctrl kpslash sysrq rightalt
linefeed home up pageup left right end down pagedown insert delete macro mute volumedown volumeup
power kpequal kpplusminus pause scale kpcomma hangeul hanja yen leftmeta rightmeta compose stop again
props undo front copy open paste find cut help menu calc setup sleep wakeup file sendfile deletefile
xfer prog1 prog2 www msdos coffee rotate_display cyclewindows mail bookmarks computer back forward
closecd ejectcd ejectclosecd nextsong playpause previoussong stopcd record rewind phone iso config
homepage refresh exit move edit scrollup scrolldown kpleftparen kprightparen new redo f13 f14 f15 f16
f17 f18 f19 f20 f21 f22 f23 f24
`;

const aliases = {
  escape: "esc",
  return: "enter",
  ctrl: "leftctrl",
  control: "leftctrl",
  shift: "leftshift",
  alt: "leftalt",
  altgr: "rightalt",
  meta: "leftmeta",
  super: "leftmeta",
  del: "delete",
  ins: "insert",
  pgup: "pageup",
  pgdn: "pagedown",
  printscreen: "sysrq",
} as const;

/** Codes of keys by name. */
export const keyCodes: ReadonlyMap<string, number> = (() => {
  const codes = new Map<string, number>();
  keys
    .trim()
    .split(/\s+/)
    .forEach((name, i) => {
      if (name !== "-") codes.set(name, i + 1);
    });
  for (const [alias, name] of Object.entries(aliases)) codes.set(alias, codes.get(name)!);
  return codes;
})();

/** Codes of buttons by name. */
export const buttonCodes: ReadonlyMap<string, number> = new Map([
  ["left", Button.LEFT],
  ["right", Button.RIGHT],
  ["middle", Button.MIDDLE],
  ["side", Button.SIDE],
  ["extra", Button.EXTRA],
]);

/** LEDs by code. */
export const ledNames = ["numlock", "capslock", "scrolllock", "compose", "kana"] as const;
