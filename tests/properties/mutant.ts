/** Wrong copies of a queue: each must be told from the right one by a property. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { PackedQueue } from "../../core/packed.ts";
import type { SplitQueue } from "../../core/split.ts";
import type { SplitBigEndianQueue } from "../../core/split-big-endian.ts";
import { runtime } from "../../ffi/mod.ts";

export type PropertyName = "model" | "hostile";

export interface Edits {
  readonly name: string;
  /** What to replace by what, wherever it stands. */
  readonly edits: readonly (readonly [from: string, to: string])[];
}

export interface Mutation extends Edits {
  /** The property that must fail. */
  readonly breaks: PropertyName;
}

const core = new URL("../../core/", import.meta.url);
/** The classes to be mutated, and the files of core/ that have them. */
export interface Queues {
  SplitQueue: typeof SplitQueue;
  SplitBigEndianQueue: typeof SplitBigEndianQueue;
  PackedQueue: typeof PackedQueue;
}
const files = {
  SplitQueue: ["split.ts"],
  SplitBigEndianQueue: ["split.ts", "split-big-endian.ts"],
  PackedQueue: ["packed-format.ts", "packed.ts"],
} as const;
const folder = new URL(`../../.cache/mutants/${runtime.name}-${process.pid}/`, import.meta.url);

export interface MutateOptions {
  /** Other files of core/ that are copied and edited as well. */
  readonly more?: readonly string[];
  /** Changes the text of each copied file after the edits. */
  readonly rewrite?: (text: string, file: string) => string;
}

/** The class as it is after the edits. Throws when the sources do not have what is to be edited. */
export async function mutate<Q extends keyof Queues>(
  queue: Q,
  { name, edits }: Edits,
  { more = [], rewrite = (text) => text }: MutateOptions = {},
): Promise<Queues[Q]> {
  // A class comes after its base.
  const sources: string[] = [...more, "queue.ts", ...files[queue]];
  const texts = sources.map((source) => readFileSync(new URL(source, core), "utf8"));
  for (const [from, to] of edits) {
    const places = texts.filter((text) => text.includes(from));
    if (places.length === 0) throw new Error(`Cannot apply "${name}": nothing has this: ${from}`);
    texts.forEach((text, i) => {
      texts[i] = text.replaceAll(from, () => to);
    });
  }
  const target = new URL(`${queue}-${name.replace(/[^a-z0-9]+/gi, "-")}/`, folder);
  mkdirSync(target, { recursive: true });
  texts.forEach((text, i) => {
    // The copies lie elsewhere, but use each other and otherwise the same modules.
    const copy = rewrite(text, sources[i]!).replace(/from "(\.[^"]+)"/g, (_, path) =>
      sources.includes(path.slice(2)) ? `from "${path}"` : `from "${new URL(path, core).href}"`,
    );
    writeFileSync(new URL(sources[i]!, target), copy);
  });
  const file = new URL(sources.at(-1)!, target);
  const path = runtime.name === "bun" ? fileURLToPath(file) : file.href;
  return (await import(path))[queue];
}

export function removeMutants(): void {
  rmSync(folder, { recursive: true, force: true });
}

export const mutations: readonly Mutation[] = [
  {
    name: "EVENT_IDX calls one entry late",
    breaks: "model",
    edits: [["((next - event - 1) & 0xffff)", "((next - event - 2) & 0xffff)"]],
  },
  {
    name: "EVENT_IDX calls one entry early",
    breaks: "model",
    edits: [["((next - event - 1) & 0xffff)", "((next - event) & 0xffff)"]],
  },
  {
    name: "EVENT_IDX compares with <=",
    breaks: "model",
    edits: [["((next - event - 1) & 0xffff) <", "((next - event - 1) & 0xffff) <="]],
  },
  {
    name: "EVENT_IDX forgets that indices wrap",
    breaks: "model",
    edits: [
      ["((next - event - 1) & 0xffff) < ((next - old) & 0xffff)", "next - event - 1 < next - old"],
    ],
  },
  {
    name: "the used event is read before the index is shown",
    breaks: "model",
    edits: [
      ["    this.store(INDEX, next);\n", ""],
      [
        "if (this.#wantsCall(old, next)) this.call();",
        "const wanted = this.#wantsCall(old, next);\n" +
          "    this.store(INDEX, next);\n    if (wanted) this.call();",
      ],
    ],
  },
  {
    name: "NO_INTERRUPT is ignored",
    breaks: "model",
    edits: [["(this.look(FLAGS) & NO_INTERRUPT) === 0", "true"]],
  },
  {
    name: "running out of chains is no reason to call",
    breaks: "model",
    edits: [["return empty || first ||", "return first ||"]],
  },
  {
    name: "in order is any order",
    breaks: "model",
    edits: [["options.inOrder ? new", "options.size < 0 ? new"]],
  },
  {
    name: "in order forgets that a chain was put back",
    breaks: "model",
    edits: [["    this.#order?.putBack(head);\n", ""]],
  },
  {
    name: "no re-check after enabling kicks",
    breaks: "model",
    edits: [["return this.look(INDEX) !== at;", "return false;"]],
  },
  {
    name: "the re-check comes before enabling kicks",
    breaks: "model",
    edits: [
      [
        "    // The store must be visible before",
        "    const more = this.look(INDEX) !== at;\n    // ",
      ],
      ["return this.look(INDEX) !== at;", "return more;"],
    ],
  },
  {
    name: "avail_event is one too high",
    breaks: "model",
    edits: [["this.#availEvent, at)", "this.#availEvent, at + 1)"]],
  },
  {
    name: "kicks are suppressed for ever",
    breaks: "model",
    edits: [["else this.store(FLAGS, 0);", ""]],
  },
  {
    name: "the available index does not wrap",
    breaks: "model",
    edits: [["this.#nextAvailable = (at + 1) & 0xffff;", "this.#nextAvailable = at + 1;"]],
  },
  {
    name: "putBack does not wrap",
    breaks: "model",
    edits: [["(this.#nextAvailable - 1) & 0xffff", "this.#nextAvailable - 1"]],
  },
  {
    name: "putBack leaves the chain in flight",
    breaks: "model",
    edits: [
      ["    if (this.closed) return;\n    this.#taken[head] = 0;", "    if (this.closed) return;"],
    ],
  },
  {
    name: "the used element goes into the next slot",
    breaks: "model",
    edits: [["writeElement(this.#nextUsed &", "writeElement((this.#nextUsed + 1) &"]],
  },
  {
    name: "the used element is not masked",
    breaks: "model",
    edits: [["writeElement(this.#nextUsed & this.#mask,", "writeElement(this.#nextUsed,"]],
  },
  {
    name: "the used length and id are swapped",
    breaks: "model",
    edits: [
      ["this.used32[at] = head;", "this.used32[at] = written;"],
      ["this.used32[at + 1] = written;", "this.used32[at + 1] = head;"],
    ],
  },
  {
    name: "the in-flight check is removed from complete",
    breaks: "model",
    edits: [["if (this.#taken[head] !== 1) {", "if (this.#taken[head] === undefined) {"]],
  },
  {
    name: "the index is shown before the elements",
    breaks: "model",
    edits: [
      [
        "    this.used32[at] = head;\n    this.used32[at + 1] = written;\n",
        "    late.push(at, head, written);\n",
      ],
      [
        "    this.#publishedUsed = next;\n",
        "    this.#publishedUsed = next;\n    while (late.length > 0) {\n" +
          "      const [at, head, written] = late.splice(0, 3);\n" +
          "      this.used32[at!] = head!;\n      this.used32[at! + 1] = written!;\n    }\n",
      ],
      ["export class SplitQueue", "const late: number[] = [];\n\nexport class SplitQueue"],
    ],
  },
  {
    name: "completions are shown one by one",
    breaks: "model",
    edits: [["if (!this.draining) this.requestPublish();", "this.publish();"]],
  },
  {
    name: "the same completions are published twice",
    breaks: "model",
    edits: [["    this.#publishedUsed = next;\n", ""]],
  },
  {
    name: "a full ring counts as a broken one",
    breaks: "model",
    edits: [["& 0xffff) > this.size)", "& 0xffff) >= this.size)"]],
  },
  {
    name: "the head is taken from the entry after",
    breaks: "model",
    edits: [["this.entry(at & this.#mask);", "this.entry((at + 1) & this.#mask);"]],
  },
  {
    name: "a jump of the available index is believed",
    breaks: "hostile",
    edits: [["if (((seen - at) & 0xffff) > this.size) throw", "if (seen === -1) throw"]],
  },
  {
    name: "a head in flight is taken again",
    breaks: "hostile",
    edits: [["if (this.#taken[head] !== 0) throw", "if (this.#taken[head] === undefined) throw"]],
  },
  {
    name: "a head beyond the table is believed",
    breaks: "hostile",
    edits: [
      ["if (head >= this.size) throw", "if (head < 0) throw"],
      ["if (this.#taken[head] !== 0) throw", "if (this.#taken[head] === 1) throw"],
    ],
  },
  {
    name: "a next field beyond the table is believed",
    breaks: "hostile",
    edits: [["if (index >= size) throw", "if (index > size) throw"]],
  },
  {
    name: "loops are followed",
    breaks: "hostile",
    edits: [
      ["if (steps === size) throw looped(first, size);", ""],
      ["if (steps === size) throw looped(this.chain.head, size);", ""],
    ],
  },
  {
    name: "an indirect descriptor may have a next one",
    breaks: "hostile",
    edits: [["const odd = (flags & NEXT) |", "const odd ="]],
  },
  {
    name: "tables may be nested",
    breaks: "hostile",
    edits: [
      // Now and then it refuses one, lest a table that names itself be followed for ever.
      [
        "if (table !== this.descriptors) throw",
        "if (table !== this.descriptors && ++nested % 64 === 0) throw",
      ],
      ["export class SplitQueue", "let nested = 0;\n\nexport class SplitQueue"],
    ],
  },
  {
    name: "tables may have half a descriptor",
    breaks: "hostile",
    edits: [["(length & (DESCRIPTOR_SIZE - 1)) | (high", "(high"]],
  },
  {
    name: "tables are taken without the feature",
    breaks: "hostile",
    edits: [
      ["    this.#tableLimit = options.indirect\n", "    this.#tableLimit = options.size > 0\n"],
    ],
  },
  {
    name: "tables of any length are taken",
    breaks: "hostile",
    edits: [["(length - 1) >>> 0 >= this.#tableLimit", "length <= 0 || this.#tableLimit === 0"]],
  },
  {
    name: "a table across two regions is read past the first",
    breaks: "hostile",
    edits: [["memory.locate(high, low, length, READ)", "memory.locate(high, low, 16, READ)"]],
  },
  {
    name: "addresses lose their upper bits",
    breaks: "hostile",
    edits: [["places[place] !== high ||", ""]],
  },
  {
    name: "WRITE is mixed up with NEXT",
    breaks: "hostile",
    edits: [
      ["if ((link & WRITE) !== 0) writableBytes", "if ((link & NEXT) !== 0) writableBytes"],
      ["(link & WRITE) !== 0);", "(link & NEXT) !== 0);"],
    ],
  },
  {
    name: "a buffer may reach beyond the window found last",
    breaks: "hostile",
    edits: [["(length - 1) >>> 0 >= (end - offset) >>> 0 ||", ""]],
  },
  {
    name: "a buffer may lie before the window found last",
    breaks: "hostile",
    edits: [["offset >>> 0 >= end >>> 0 ||", ""]],
  },
  {
    name: "readable buffers may follow writable ones",
    breaks: "hostile",
    edits: [["if (++readableCount !== count) throw", "if (++readableCount === -1) throw"]],
  },
];

/** Of the big-endian queue. */
export const bigEndianMutations: readonly Mutation[] = [
  {
    name: "the halves of an address change places",
    breaks: "hostile",
    edits: [
      ["high = swap32(table[at]!)", "high = swap32(table[at + 1]!)"],
      ["low = swap32(table[at + 1]!)", "low = swap32(table[at]!)"],
    ],
  },
  {
    name: "flags and next change places",
    breaks: "hostile",
    edits: [
      ["flags = link >>> 16", "flags = link & 0xffff"],
      ["index = link & 0xffff", "index = link >>> 16"],
    ],
  },
  {
    name: "nested tables are followed",
    breaks: "hostile",
    edits: [["if (table !== this.descriptors) throw nestedTable(index);", ""]],
  },
  {
    name: "a chain without end is not noticed",
    breaks: "hostile",
    edits: [["if (steps === size) throw looped(first, size);", ""]],
  },
  {
    name: "the number of bytes written is little-endian",
    breaks: "model",
    edits: [["swap32(written)", "written"]],
  },
  {
    name: "the used index is little-endian",
    breaks: "model",
    edits: [
      ["super.store(at, swap16(value))", "super.store(at, at === 1 ? value : swap16(value))"],
    ],
  },
  {
    name: "NO_INTERRUPT is little-endian",
    breaks: "model",
    edits: [["swap16(super.look(at))", "at === 0 ? super.look(at) : swap16(super.look(at))"]],
  },
  {
    name: "NO_NOTIFY is little-endian",
    breaks: "model",
    edits: [
      ["super.store(at, swap16(value))", "super.store(at, at === 0 ? value : swap16(value))"],
    ],
  },
  {
    name: "used_event is little-endian",
    breaks: "model",
    edits: [["swap16(super.look(at))", "at > 1 ? super.look(at) : swap16(super.look(at))"]],
  },
  {
    name: "avail_event is little-endian",
    breaks: "model",
    edits: [["super.store(at, swap16(value))", "super.store(at, at > 1 ? value : swap16(value))"]],
  },
  {
    name: "no re-check after enabling kicks",
    breaks: "model",
    edits: [["return this.look(INDEX) !== at;", "return false;"]],
  },
  {
    name: "putBack does not go back",
    breaks: "model",
    edits: [["this.#nextAvailable = (this.#nextAvailable - 1) & 0xffff;", ""]],
  },
];
