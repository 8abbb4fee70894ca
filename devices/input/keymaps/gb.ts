/** The layout of the United Kingdom. */
import type { Keymap } from "./mod.ts";

export const gb: Keymap = {
  plain: ["`1234567890-=", "qwertyuiop[]", "asdfghjkl;'#", "\\zxcvbnm,./"],
  shift: ['¬!"£$%^&*()_+', "QWERTYUIOP{}", "ASDFGHJKL:@~", "|ZXCVBNM<>?"],
  altgr: ["¦   €", "  é   úíó ", "á", ""],
};
