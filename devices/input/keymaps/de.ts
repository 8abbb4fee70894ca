/** The layout of Germany. Its circumflex and accents are dead keys. */
import type { Keymap } from "./mod.ts";

export const de: Keymap = {
  plain: [" 1234567890ß ", "qwertzuiopü+", "asdfghjklöä#", "<yxcvbnm,.-"],
  shift: ['°!"§$%&/()=? ', "QWERTZUIOPÜ*", "ASDFGHJKLÖÄ'", ">YXCVBNM;:_"],
  altgr: ["  ²³   {[]}\\", "@ €        ~", "", "|      µ"],
};
