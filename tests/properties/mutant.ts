/** Wrong copies of a queue's source: each must be told from the right one by a property. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { PackedQueue } from "../../core/packed.ts";
import type { SplitQueue } from "../../core/split.ts";
import { runtime } from "../../ffi/mod.ts";

export type PropertyName = "model" | "hostile";

export interface Mutation {
  readonly name: string;
  /** The property that must fail. */
  readonly breaks: PropertyName;
  /** What to replace by what. Each text stands exactly once in the source. */
  readonly edits: readonly (readonly [from: string, to: string])[];
}

/** The classes to be mutated, and the files of core/ that have them. */
interface Queues {
  SplitQueue: typeof SplitQueue;
  PackedQueue: typeof PackedQueue;
}
const files = { SplitQueue: "split.ts", PackedQueue: "packed.ts" } as const;
const folder = new URL(`../../.cache/mutants/${runtime.name}-${process.pid}/`, import.meta.url);

/** The class as it is after the edits. Throws when the source does not have what is to be edited. */
export async function mutate<Q extends keyof Queues>(
  queue: Q,
  { name, edits }: Mutation,
): Promise<Queues[Q]> {
  const source = new URL(`../../core/${files[queue]}`, import.meta.url);
  let text = readFileSync(source, "utf8");
  for (const [from, to] of edits) {
    if (text.split(from).length !== 2) {
      throw new Error(
        `Cannot apply "${name}": core/${files[queue]} does not have this once: ${from}`,
      );
    }
    text = text.replace(from, () => to);
  }
  // The copy lies elsewhere, but uses the same modules.
  text = text.replace(/from "(\.[^"]+)"/g, (_, path) => `from "${new URL(path, source).href}"`);
  mkdirSync(folder, { recursive: true });
  const file = new URL(`${queue}-${name.replace(/[^a-z0-9]+/gi, "-")}.ts`, folder);
  writeFileSync(file, text);
  const path =
    runtime.name === "bun" ? fileURLToPath(file) : pathToFileURL(fileURLToPath(file)).href;
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
      ["    Atomics.store(this.#used16, INDEX, next);\n", ""],
      [
        "if (this.#wantsCall(old, next)) this.#call();",
        "const wanted = this.#wantsCall(old, next);\n" +
          "    Atomics.store(this.#used16, INDEX, next);\n    if (wanted) this.#call();",
      ],
    ],
  },
  {
    name: "NO_INTERRUPT is ignored",
    breaks: "model",
    edits: [["(Atomics.load(this.#available, FLAGS) & NO_INTERRUPT) === 0", "true"]],
  },
  {
    name: "no re-check after enabling kicks",
    breaks: "model",
    edits: [["return Atomics.load(this.#available, INDEX) !== at;", "return false;"]],
  },
  {
    name: "the re-check comes before enabling kicks",
    breaks: "model",
    edits: [
      [
        "    // The store must be visible before",
        "    const more = Atomics.load(this.#available, INDEX) !== at;\n    // ",
      ],
      ["return Atomics.load(this.#available, INDEX) !== at;", "return more;"],
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
    edits: [["else Atomics.store(this.#used16, FLAGS, 0);", ""]],
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
    edits: [["this.#taken[this.chain.head] = 0;", ""]],
  },
  {
    name: "the used element goes into the next slot",
    breaks: "model",
    edits: [["const at = 1 + ((this.#nextUsed &", "const at = 1 + (((this.#nextUsed + 1) &"]],
  },
  {
    name: "the used element is not masked",
    breaks: "model",
    edits: [["((this.#nextUsed & this.#mask) << 1)", "(this.#nextUsed << 1)"]],
  },
  {
    name: "the used length and id are swapped",
    breaks: "model",
    edits: [
      ["this.#used32[at] = head;", "this.#used32[at] = written;"],
      ["this.#used32[at + 1] = written;", "this.#used32[at + 1] = head;"],
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
        "    this.#used32[at] = head;\n    this.#used32[at + 1] = written;\n",
        "    late.push(at, head, written);\n",
      ],
      [
        "    this.#publishedUsed = next;\n",
        "    this.#publishedUsed = next;\n    while (late.length > 0) {\n" +
          "      const [at, head, written] = late.splice(0, 3);\n" +
          "      this.#used32[at!] = head!;\n      this.#used32[at! + 1] = written!;\n    }\n",
      ],
      ["export class SplitQueue", "const late: number[] = [];\n\nexport class SplitQueue"],
    ],
  },
  {
    name: "completions are shown one by one",
    breaks: "model",
    edits: [["if (!this.draining) this.#requestPublish();", "this.publish();"]],
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
    edits: [
      [
        "this.#available[RING + (at & this.#mask)]!;",
        "this.#available[RING + ((at + 1) & this.#mask)]!;",
      ],
    ],
  },
  {
    name: "a jump of the available index is believed",
    breaks: "hostile",
    edits: [["if (((seen - at) & 0xffff) > this.size) {", "if (seen === -1) {"]],
  },
  {
    name: "a head in flight is taken again",
    breaks: "hostile",
    edits: [["if (this.#taken[head] !== 0) {", "if (this.#taken[head] === undefined) {"]],
  },
  {
    name: "a head beyond the table is believed",
    breaks: "hostile",
    edits: [
      ["if (head >= this.size) throw", "if (head < 0) throw"],
      ["if (this.#taken[head] !== 0) {", "if (this.#taken[head] === 1) {"],
    ],
  },
  {
    name: "a next field beyond the table is believed",
    breaks: "hostile",
    edits: [["if (index >= size) {", "if (index > size) {"]],
  },
  {
    name: "loops are followed",
    breaks: "hostile",
    edits: [["if (steps === size) throw looped(first, size);", ""]],
  },
  {
    name: "an indirect descriptor may have a next one",
    breaks: "hostile",
    edits: [["if ((flags & NEXT) !== 0) {", "if (flags === -1) {"]],
  },
  {
    name: "tables may be nested",
    breaks: "hostile",
    edits: [["if (!direct) throw", "if (length === -1) throw"]],
  },
  {
    name: "tables may have half a descriptor",
    breaks: "hostile",
    edits: [["length <= 0 || length % DESCRIPTOR_SIZE !== 0", "length <= 0"]],
  },
  {
    name: "tables are taken without the feature",
    breaks: "hostile",
    edits: [["if (!this.#indirect) throw", "if (length === -1) throw"]],
  },
  {
    name: "tables of any length are taken",
    breaks: "hostile",
    edits: [["if (count > Math.max(this.size, MIN_TABLE_LIMIT)) {", "if (count < 0) {"]],
  },
  {
    name: "a table across two regions is read past the first",
    breaks: "hostile",
    edits: [["memory.locate(high, low, length)", "memory.locate(high, low, 16)"]],
  },
  {
    name: "addresses lose their upper bits",
    breaks: "hostile",
    edits: [
      ["if (high >>> 0 >= 0x200000) throw badAddress(index, low, high);", ""],
      ["chain.append(memory, high, low,", "chain.append(memory, high & 0xffff, low,"],
    ],
  },
  {
    name: "WRITE is mixed up with NEXT",
    breaks: "hostile",
    edits: [["(flags & WRITE) !== 0);", "(flags & NEXT) !== 0);"]],
  },
];
