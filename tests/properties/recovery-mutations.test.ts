/** The property of recovery is worth something: it tells the queues from copies with one mistake each. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { TestGuest } from "../core/guest.ts";
import { crashable } from "./crash-points.ts";
import { type Edits, removeMutants } from "./mutant.ts";
import { kinds, recovers } from "./recovery.ts";
import type { Kind } from "./recovery-world.ts";

/** One seed for all, so that a mutation is found today and tomorrow. */
const parameters = { seed: 20261122, numRuns: 5000, endOnFailure: true };

const splitMutations: readonly Edits[] = [
  {
    name: "a request is numbered after it is recorded",
    edits: [
      ["    this.#bytes[FIRST_BYTE + head * RECORD_BYTES] = 1;\n", ""],
      [
        "    const counter = (head << 2) + COUNTER;\n",
        "    const counter = (head << 2) + COUNTER;\n" +
          "    this.#bytes[FIRST_BYTE + head * RECORD_BYTES] = 1;\n",
      ],
    ],
  },
  {
    name: "requests are replayed by their heads",
    edits: [["a.counter < b.counter ? -1 : a.counter > b.counter ? 1 : 0", "a.head - b.head"]],
  },
  {
    name: "what is replayed is taken anew",
    edits: [
      [
        "    this.#replay.submitted();\n",
        "    this.#inflight!.take(this.#replay.waiting[0]!);\n    this.#replay.submitted();\n",
      ],
    ],
  },
  {
    name: "numbers begin at 0 whatever is recorded",
    edits: [["this.#counterLow = this.replay.length;", "this.#counterLow = 0;"]],
  },
  {
    name: "the used index is recorded before the batch is cleared",
    edits: [
      [
        "    // Last: until then, a successor clears the batch itself.\n    this.#u16[USED_INDEX] = used;\n",
        "",
      ],
      [
        "    for (let i = 0; i < this.#stagedCount; i++) {",
        "    this.#u16[USED_INDEX] = used;\n    for (let i = 0; i < this.#stagedCount; i++) {",
      ],
    ],
  },
  {
    name: "a batch that was shown is not finished",
    edits: [["else this.#finishBatch(used);", ""]],
  },
  {
    name: "a batch that was shown is finished but for its first request",
    edits: [["i < missing &&", "i < missing - 1 &&"]],
  },
  {
    name: "a batch is cleared before it is shown",
    edits: [
      ["    if (this.#inflight !== null) this.#inflight.published(next);\n", ""],
      [
        "    // Orders the used elements before the index",
        "    if (this.#inflight !== null) this.#inflight.published(next);\n    // Orders the used elements before the index",
      ],
    ],
  },
  {
    name: "the batch is not linked",
    edits: [["= this.#u16[LAST_BATCH_HEAD]!;\n    this", "= head;\n    this"]],
  },
  {
    name: "the front-end is believed where to go on",
    edits: [["if (this.#inflight.resumed) {", "if (options.size < 0) {"]],
  },
  {
    name: "what is put back stays recorded",
    edits: [["this.#inflight?.putBack(head);", ""]],
  },
];

const packedMutations: readonly Edits[] = [
  {
    name: "a request is numbered after it is recorded",
    edits: [
      ["    this.#bytes[(head + 1) * BYTES] = 1;\n", ""],
      [
        "    u32[entry + COUNTER] = this.#counterLow;\n",
        "    this.#free = free;\n    this.#showFree();\n    this.#bytes[(head + 1) * BYTES] = 1;\n" +
          "    u32[entry + COUNTER] = this.#counterLow;\n",
      ],
    ],
  },
  {
    name: "requests are replayed by their entries",
    edits: [["a.counter < b.counter ? -1 : a.counter > b.counter ? 1 : 0", "a.head - b.head"]],
  },
  {
    name: "a completion is taken for shown as soon as it is announced",
    edits: [["if (this.#wasShown(ring, slot, wrap)) {", "if (this.#u16[USED_INDEX] !== slot) {"]],
  },
  {
    name: "a completion is never taken for shown",
    edits: [["if (this.#wasShown(ring, slot, wrap)) {", "if (this.#size < 0) {"]],
  },
  {
    name: "a slot that is available again is taken for not shown",
    edits: [["!== (wrap === 1 ? AVAIL : USED);", "=== (wrap === 1 ? AVAIL | USED : 0);"]],
  },
  {
    name: "the index is announced before the wrap counter",
    edits: [
      [
        "    this.#bytes[USED_WRAP] = wrap;\n    this.#u16[USED_INDEX] = slot;",
        "    this.#u16[USED_INDEX] = slot;\n    this.#bytes[USED_WRAP] = wrap;",
      ],
    ],
  },
  {
    name: "the index is taken back after the wrap counter",
    edits: [
      [
        "    this.#u16[USED_INDEX] = slot;\n    this.#bytes[USED_WRAP] = wrap;\n  }\n\n  /** Tells",
        "    this.#bytes[USED_WRAP] = wrap;\n    this.#u16[USED_INDEX] = slot;\n  }\n\n  /** Tells",
      ],
    ],
  },
  {
    name: "the part is announced before it is complete",
    edits: [
      ["      clearPart(part, size);\n", "      clearPart(part, size);\n      announce(part);\n"],
    ],
  },
  {
    name: "what was used and not shown stays in the ring",
    edits: [["    if (this.base !== null) this.#hideUnshown(ring, this.base >>> 16);\n", ""]],
  },
  {
    name: "slots of what is replayed are not counted",
    edits: [
      ["const ahead = used + slotsOf(this.replay);", "const ahead = used + this.replay.length;"],
    ],
  },
  {
    name: "the wrap counter of a base does not change at the end of the ring",
    edits: [["((wrap ^ lapped) === 1 ? WRAP : 0)", "(wrap === 1 ? WRAP : 0)"]],
  },
  {
    name: "entries come back before the completion is shown for good",
    edits: [
      [
        "    this.#u16[FREE_HEAD] = this.#free;\n    // Before",
        "    this.#showFree();\n    // Before",
      ],
    ],
  },
  {
    name: "records are cleared before the completion is shown",
    edits: [
      [
        "    // A successor that finds the ring as it was takes",
        "    for (let i = 0; i < this.#stagedCount; i++) this.#bytes[(this.#staged[i]! + 1) * BYTES] = 0;\n" +
          "    // A successor that finds the ring as it was takes",
      ],
    ],
  },
  {
    name: "the front-end is believed where to go on",
    edits: [["base = this.#inflight.base ?? base;", ""]],
  },
  {
    name: "what is put back stays recorded",
    edits: [["this.#inflight?.putBack(id);", ""]],
  },
];

describe("A mutated queue with an in-flight region", () => {
  const guest = new TestGuest([{ guestAddress: 0, size: 0x10000, at: 0 }]);
  after(() => {
    removeMutants();
    guest[Symbol.dispose]();
  });

  for (const [kind, mutations] of [
    ["split", splitMutations],
    ["packed", packedMutations],
  ] as const satisfies readonly (readonly [Kind, readonly Edits[]])[]) {
    for (const mutation of mutations) {
      test(`fails when ${mutation.name}: ${kind}`, async () => {
        const Queue = await crashable(kinds[kind], mutation);
        const { failed, numRuns } = fc.check(recovers(guest, kind, Queue), parameters);
        assert.ok(failed, `the mutation survived ${numRuns} runs`);
      });
    }
  }
});
