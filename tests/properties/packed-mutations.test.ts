import { PackedQueue } from "../../core/packed.ts";
import type { Mutation } from "./mutant.ts";
import { testMutations } from "./mutation-suite.ts";
import { survivesHostilePackedRing } from "./packed-hostile.ts";
import { behavesAsPackedModel } from "./packed-world.ts";

const publishStore = "    Atomics.store(this.#halves, (this.#gate << 3) + 7, this.#gateFlags);\n";

const mutations: readonly Mutation[] = [
  {
    name: "the available wrap counter does not change at the end of the ring",
    breaks: "model",
    edits: [
      [
        "      next -= this.size;\n      this.#availableFlags ^= OWNER;\n",
        "      next -= this.size;\n",
      ],
    ],
  },
  {
    name: "the used wrap counter does not change at the end of the ring",
    breaks: "model",
    edits: [["      this.#usedFlags ^= OWNER;\n", ""]],
  },
  {
    name: "putBack does not turn the wrap counter back",
    breaks: "model",
    edits: [
      [
        "      next += this.size;\n      this.#availableFlags ^= OWNER;\n",
        "      next += this.size;\n",
      ],
    ],
  },
  {
    name: "both wrap counters are taken for the available one",
    breaks: "model",
    edits: [["(used & WRAP) !== 0 ? OWNER : 0;", "(available & WRAP) !== 0 ? 0 : OWNER;"]],
  },
  {
    name: "the wrap counter changes one slot late",
    breaks: "model",
    edits: [
      [
        "    if (next >= this.size) {\n      next -= this.size;\n      this.#usedFlags",
        "    if (next > this.size) {\n      next -= this.size;\n      this.#usedFlags",
      ],
    ],
  },
  {
    name: "a list does not change its flags at the end of the ring",
    breaks: "model",
    edits: [["        owner ^= OWNER_BITS;\n", ""]],
  },
  {
    name: "the flags are shown before id and length",
    breaks: "model",
    edits: [
      [
        "    this.#words[(slot << 2) + 2] = written;\n    this.#halves[(slot << 3) + 6] = id;\n",
        "    late.push(slot, id, written);\n",
      ],
      [
        publishStore,
        `${publishStore}    while (late.length > 0) {\n` +
          "      const [slot, id, written] = late.splice(0, 3);\n" +
          "      this.#words[slot! * 4 + 2] = written!;\n      this.#halves[slot! * 8 + 6] = id!;\n    }\n",
      ],
      ["export class PackedQueue", "const late: number[] = [];\n\nexport class PackedQueue"],
    ],
  },
  {
    name: "a batch is shown from its first descriptor on",
    breaks: "model",
    edits: [
      [
        "      this.#gateFlags = flags;\n    } else this.#halves",
        "      this.#gateFlags = flags;\n    }\n    this.#halves",
      ],
    ],
  },
  {
    name: "of a batch only the first descriptor is shown",
    breaks: "model",
    edits: [["} else this.#halves[(slot << 3) + 7] = flags;", "}"]],
  },
  {
    name: "a used descriptor takes one slot, whatever its chain had",
    breaks: "model",
    edits: [["let next = slot + slots;", "let next = slot + 1;"]],
  },
  {
    name: "the id is the one of the first descriptor",
    breaks: "model",
    edits: [
      [
        "this.#enter(first, slots, this.#lastLink & 0xffff);",
        "this.#enter(first, slots, link & 0xffff);",
      ],
    ],
  },
  {
    name: "WRITE is not set in used descriptors",
    breaks: "model",
    edits: [["written > 0 ? this.#usedFlags | WRITE : this.#usedFlags", "this.#usedFlags"]],
  },
  {
    name: "the event is missed by one at its start",
    breaks: "model",
    edits: [["slot >= this.#nextUsed - staged", "slot > this.#nextUsed - staged"]],
  },
  {
    name: "the event is met one too early",
    breaks: "model",
    edits: [["slot < this.#nextUsed &&", "slot <= this.#nextUsed &&"]],
  },
  {
    name: "the event's wrap counter is ignored",
    breaks: "model",
    edits: [
      ["lap === this.#usedFlags ? event & SLOT : (event & SLOT) - this.size", "event & SLOT"],
    ],
  },
  {
    name: "the event of the lap before is out by one",
    breaks: "model",
    edits: [["(event & SLOT) - this.size;", "(event & SLOT) - this.size + 1;"]],
  },
  {
    name: "DISABLE is ignored",
    breaks: "model",
    edits: [["return wish !== DISABLE;", "return true;"]],
  },
  {
    name: "DESC is believed without EVENT_IDX",
    breaks: "model",
    edits: [["if (wish !== DESC || !this.#eventIdx)", "if (wish !== DESC)"]],
  },
  {
    name: "the driver's wish is read before the batch is shown",
    breaks: "model",
    edits: [
      [publishStore, ""],
      [
        "    if (this.#wantsCall(staged)) this.call();",
        `    const wanted = this.#wantsCall(staged);\n${publishStore}    if (wanted) this.call();`,
      ],
    ],
  },
  {
    name: "no re-check after enabling kicks",
    breaks: "model",
    edits: [
      ["return (flags & OWNER) === this.#availableFlags;", "return slot < 0 && flags === 0;"],
    ],
  },
  {
    name: "the re-check comes before enabling kicks",
    breaks: "model",
    edits: [
      [
        "    Atomics.store(this.#deviceEvent, 0, this.#eventIdx ? DESC | wrap | slot : ENABLE);\n",
        "",
      ],
      [
        "    return (flags & OWNER) === this.#availableFlags;\n",
        "    Atomics.store(this.#deviceEvent, 0, this.#eventIdx ? DESC | wrap | slot : ENABLE);\n" +
          "    return (flags & OWNER) === this.#availableFlags;\n",
      ],
    ],
  },
  {
    name: "a kick is asked for with the wrong wrap counter",
    breaks: "model",
    edits: [
      [
        "const wrap = this.#availableFlags === AVAIL",
        "const wrap = this.#availableFlags !== AVAIL",
      ],
    ],
  },
  {
    name: "kicks are never suppressed",
    breaks: "model",
    edits: [["this.#deviceEvent[0] = DISABLE;", ""]],
  },
  {
    name: "in order is any order",
    breaks: "model",
    edits: [["options.inOrder ? new", "options.inOrder && options.size < 0 ? new"]],
  },
  {
    name: "in order forgets what waits",
    breaks: "model",
    edits: [
      [
        "for (let id = order.next(); id >= 0; id = order.next()) this",
        "const id = order.next();\n      if (id >= 0) this",
      ],
    ],
  },
  {
    name: "what waits for its predecessors may be completed again",
    breaks: "model",
    edits: [["|| this.#order?.waits(head)", ""]],
  },
  {
    name: "an id may be in flight twice",
    breaks: "hostile",
    edits: [["if (this.#slots[id] !== 0) throw twice(id, first);", ""]],
  },
  {
    name: "a list runs over slots in use",
    breaks: "hostile",
    edits: [["if ((link & OWNER_BITS) !== owner) throw cut(first >> 2, at >> 2);", ""]],
  },
  {
    name: "a list may have indirect descriptors",
    breaks: "hostile",
    edits: [["if ((link & INDIRECT_BIT) !== 0) throw mixed(at >> 2);", ""]],
  },
  {
    name: "an indirect descriptor may have a next one",
    breaks: "hostile",
    edits: [["const odd = (flags & NEXT) |", "const odd ="]],
  },
  {
    name: "tables are taken without the feature",
    breaks: "hostile",
    edits: [
      ["    this.#tableLimit = options.indirect\n", "    this.#tableLimit = options.size > 0\n"],
    ],
  },
  {
    name: "tables may have half a descriptor",
    breaks: "hostile",
    edits: [["(length & (DESCRIPTOR_SIZE - 1)) | (high", "(high"]],
  },
  {
    name: "NEXT counts in tables",
    breaks: "hostile",
    edits: [["steps === limit) {", "steps === limit || (link & NEXT_BIT) === 0) {"]],
  },
  {
    name: "a buffer may reach beyond the window found last",
    breaks: "hostile",
    edits: [["(length - 1) >>> 0 >= (end - offset) >>> 0", "length === 0"]],
  },
  {
    name: "a buffer may lie before the window found last",
    breaks: "hostile",
    edits: [["        offset >>> 0 >= end >>> 0 ||\n", ""]],
  },
  {
    name: "readable buffers may follow writable ones",
    breaks: "hostile",
    edits: [
      [
        "if (++readableCount !== count) throw readableAfterWritable(high, low, chain.head);",
        "++readableCount;",
      ],
    ],
  },
  {
    name: "a ring is taken for fresh by its first slot",
    breaks: "hostile",
    edits: [["at < ring.length; at", "at < 8; at"]],
  },
  {
    name: "a base is half of what it should be",
    breaks: "model",
    edits: [["const used = this.#nextUsed |", "const used = 0 & this.#nextUsed |"]],
  },
  {
    name: "a fresh ring with base 0 is not recognised",
    breaks: "hostile",
    edits: [["return FRESH;", "return base;"]],
  },
];

testMutations({
  queue: "PackedQueue",
  original: PackedQueue,
  mutations,
  properties: { model: behavesAsPackedModel, hostile: survivesHostilePackedRing },
});
