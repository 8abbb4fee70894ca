/** The script language: from a line of text to events for one kind of device (docs/input.md). */
import { buttonCodes, keyCodes } from "../key-names.ts";
import { type Keymap, strokesOf } from "../keymaps/mod.ts";
import type { Kind } from "../kinds.ts";
import { EventType, KeyValue, Rel, Syn } from "../wire.ts";
import { Pointer } from "./pointer.ts";

/** What a line makes happen, one after the other. */
export type Step =
  /** Events, three numbers each. */
  | { readonly events: readonly number[] }
  /** A pause in milliseconds. */
  | { readonly wait: number }
  /** Text to answer once the driver has got everything before it. */
  | { readonly echo: string };

const { SYN, KEY, REL } = EventType;

/** Pauses that make sense, in milliseconds; longer ones are mistakes. */
const MAX_PAUSE = 24 * 60 * 60 * 1000;
const MAX_CLICKS = 100;
/** Values of a device's axes and of `event`. */
const MAX_VALUE = 0x7fff_ffff;

type Words = readonly string[];
type Command = (composer: Composer, words: Words, rest: string) => Step[];

interface CommandRow {
  readonly usage: string;
  readonly run: Command;
  /** The kinds of devices that have it; all when absent. */
  readonly kinds?: readonly Kind[];
}

function pause(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text);
  const unit = { ms: 1, s: 1000, m: 60_000 }[match?.[2] ?? "ms"]!;
  const time = Number(match?.[1]) * unit;
  if (!(time <= MAX_PAUSE)) {
    throw new Error(`Cannot use "${text}" as a time: expected one like 100ms, 1.5s or 2m`);
  }
  return time;
}

function integer(text: string, minimum = -MAX_VALUE, maximum = MAX_VALUE): number {
  const value = /^[-+]?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= minimum && value <= maximum)) {
    throw new Error(`Cannot use "${text}": expected a whole number from ${minimum} to ${maximum}`);
  }
  return value;
}

/** A part of the screen's width or height. */
function fraction(text: string): number {
  const value = /^\d*\.?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 1)) throw new Error(`Cannot use "${text}": expected a number from 0 to 1`);
  return value;
}

function quoted(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "string") return value;
  } catch {}
  throw new Error(`Cannot use ${text || "nothing"}: expected text in double quotes`);
}

const packet = (...events: readonly number[]): Step => ({
  events: [...events, SYN, Syn.REPORT, 0],
});

const pointers = ["mouse", "tablet"] as const;

const commands: Readonly<Record<string, CommandRow>> = {
  key: {
    usage: "key NAME[+NAME...]...",
    kinds: ["keyboard"],
    run: (composer, words) => words.flatMap((chord) => composer.chord(chord)),
  },
  type: {
    usage: 'type "TEXT"',
    kinds: ["keyboard"],
    run: (composer, _, rest) => composer.text(quoted(rest)),
  },
  down: {
    usage: "down NAME...",
    kinds: ["keyboard", ...pointers],
    run: (composer, words) => words.map((name) => packet(KEY, composer.code(name), KeyValue.DOWN)),
  },
  up: {
    usage: "up NAME...",
    kinds: ["keyboard", ...pointers],
    run: (composer, words) => words.map((name) => packet(KEY, composer.code(name), KeyValue.UP)),
  },
  pace: {
    usage: "pace TIME",
    kinds: ["keyboard", ...pointers],
    run: (composer, [time]) => composer.setPace(pause(time!)),
  },
  move: {
    usage: "move X Y",
    kinds: ["mouse"],
    run: (_, [x, y]) => [packet(REL, Rel.X, integer(x!), REL, Rel.Y, integer(y!))],
  },
  wheel: {
    usage: "wheel UP [RIGHT]",
    kinds: pointers,
    run: (_, [up, right = "0"]) => [
      packet(REL, Rel.WHEEL, integer(up!), REL, Rel.HWHEEL, integer(right)),
    ],
  },
  click: {
    usage: "click [BUTTON] [TIMES]",
    kinds: pointers,
    run: (composer, [button = "left", times = "1"]) =>
      Array.from({ length: integer(times, 1, MAX_CLICKS) }, () => composer.chord(button)).flat(),
  },
  abs: {
    usage: "abs X Y",
    kinds: ["tablet"],
    run: ({ pointer }, [x, y]) => [packet(...pointer.moveTo(fraction(x!), fraction(y!)))],
  },
  touch: {
    usage: "touch CONTACT X Y",
    kinds: ["multitouch"],
    run: ({ pointer }, [contact, x, y]) => [
      packet(...pointer.touch(pointer.contact(contact!), fraction(x!), fraction(y!))),
    ],
  },
  lift: {
    usage: "lift CONTACT",
    kinds: ["multitouch"],
    run: ({ pointer }, [contact]) => [packet(...pointer.lift(pointer.contact(contact!)))],
  },
  tap: {
    usage: "tap X Y",
    kinds: ["multitouch"],
    run: ({ pointer }, [x, y]) => [
      packet(...pointer.touch(0, fraction(x!), fraction(y!))),
      packet(...pointer.lift(0)),
    ],
  },
  event: {
    usage: "event TYPE CODE VALUE",
    run: (_, [type, code, value]) => [
      { events: [integer(type!, 0, 0x1f), integer(code!, 0, 0x2ff), integer(value!)] },
    ],
  },
  sync: { usage: "sync", run: () => [packet()] },
  wait: { usage: "wait TIME", run: (_, [time]) => [{ wait: pause(time!) }] },
  echo: { usage: "echo TEXT", run: (_, __, rest) => [{ echo: rest }] },
};

/** How each command is written. */
export const commandUsages: readonly string[] = Object.values(commands).map(({ usage }) => usage);

/** How many words a usage asks for: at least, and at most. */
function wordCounts(usage: string): [number, number] {
  const words = usage.split(" ").slice(1);
  const needed = words.filter((word) => !word.startsWith("["));
  return [needed.length, usage.endsWith("...") ? Infinity : words.length];
}

/** Makes events of lines. What it remembers of contacts and pace, all scripts of a device share. */
export class Composer {
  readonly kind: Kind;
  readonly pointer = new Pointer();
  readonly #strokes: ReadonlyMap<string, readonly number[]>;
  #pace = 0;

  constructor(kind: Kind, keymap: Keymap) {
    this.kind = kind;
    this.#strokes = strokesOf(keymap);
  }

  /** What a line asks for; nothing for an empty one and a comment. Throws `Error` for a wrong one. */
  compose(line: string): Step[] {
    const [, name, rest] = /^\s*(\S*)\s*(.*?)\s*$/s.exec(line)!;
    if (name === "" || name!.startsWith("#")) return [];
    const row = Object.hasOwn(commands, name!) ? commands[name!]! : null;
    if (row === null) throw new Error(`Unknown command "${name}"`);
    if (row.kinds !== undefined && !row.kinds.includes(this.kind)) {
      throw new Error(`Cannot use ${name}: the device is a ${this.kind}`);
    }
    const words = rest === "" ? [] : rest!.split(/\s+/);
    const [least, most] = wordCounts(row.usage);
    const textual = name === "type" || name === "echo";
    if (words.length < least || (words.length > most && !textual)) {
      throw new Error(`Cannot use "${line.trim()}": expected ${row.usage}`);
    }
    return row.run(this, words, rest!);
  }

  setPace(milliseconds: number): Step[] {
    this.#pace = milliseconds;
    return [];
  }

  /** The code of a key, or of a button. */
  code(name: string): number {
    const keyboard = this.kind === "keyboard";
    const code = (keyboard ? keyCodes : buttonCodes).get(name.toLowerCase());
    if (code === undefined) throw new Error(`Unknown ${keyboard ? "key" : "button"} "${name}"`);
    return code;
  }

  /** Presses what `names` has between plus signs, in that order, and releases it in the other. */
  chord(names: string): Step[] {
    return this.#strike(names.split("+").map((name) => this.code(name)));
  }

  text(text: string): Step[] {
    return [...text].flatMap((character) => {
      const codes = this.#strokes.get(character);
      if (codes === undefined) {
        throw new Error(`Cannot type ${JSON.stringify(character)}: no key of this keymap has it`);
      }
      return this.#strike(codes);
    });
  }

  #strike(codes: readonly number[]): Step[] {
    return [
      ...codes.map((code) => packet(KEY, code, KeyValue.DOWN)),
      ...codes.toReversed().map((code) => packet(KEY, code, KeyValue.UP)),
      ...(this.#pace > 0 ? [{ wait: this.#pace }] : []),
    ];
  }
}

/** The steps of a whole script. Throws `Error` that names the line which is wrong. */
export function composeScript(composer: Composer, text: string): Step[] {
  return text.split(/\r?\n/).flatMap((line, i) => composeLine(composer, line, i + 1));
}

/** The steps of a line. Throws `Error` that names it. */
export function composeLine(composer: Composer, line: string, number: number): Step[] {
  try {
    return composer.compose(line);
  } catch (error) {
    throw new Error(`line ${number}: ${(error as Error).message}`, { cause: error });
  }
}
