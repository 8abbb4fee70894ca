/** What to press for a character: keyboard layouts as data. */
import { de } from "./de.ts";
import { gb } from "./gb.ts";
import { us } from "./us.ts";

/**
 * Characters by place, four rows each: from the key left of the 1, from Q, from A up to the key at
 * Enter, and from the key between Shift and Z. A space stands for a key that gives nothing, or a dead
 * one.
 */
export interface Keymap {
  readonly plain: readonly string[];
  readonly shift: readonly string[];
  readonly altgr?: readonly string[];
}

export const keymaps: Readonly<Record<"de" | "gb" | "us", Keymap>> = { de, gb, us };
export type KeymapName = keyof typeof keymaps;

const LEFT_SHIFT = 42;
const RIGHT_ALT = 100;

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);

const places = [
  [41, ...range(2, 13)],
  range(16, 27),
  [...range(30, 40), 43],
  [86, ...range(44, 53)],
];

/** The same on every keyboard. */
const controls: ReadonlyMap<string, readonly number[]> = new Map([
  [" ", [57]],
  ["\n", [28]],
  ["\r", [28]],
  ["\t", [15]],
  ["\b", [14]],
  ["\u001b", [1]],
]);

/** The keys of each character, modifiers first. */
export function strokesOf({ plain, shift, altgr = [] }: Keymap): Map<string, readonly number[]> {
  const strokes = new Map(controls);
  const add = (rows: readonly string[], modifiers: readonly number[]): void => {
    rows.forEach((row, i) => {
      [...row].forEach((character, at) => {
        const code = places[i]?.[at];
        if (code === undefined) throw new RangeError(`Row ${i} of a keymap is too long: ${row}`);
        if (!strokes.has(character)) strokes.set(character, [...modifiers, code]);
      });
    });
  };
  add(plain, []);
  add(shift, [LEFT_SHIFT]);
  add(altgr, [RIGHT_ALT]);
  return strokes;
}
