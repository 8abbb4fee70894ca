/** Random use of a split virtqueue against the reference model. */
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { SplitQueue } from "../../core/split.ts";
import { Arena } from "./arena.ts";
import { behavesAsModel, full } from "./property.ts";

describe("SplitQueue", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());

  test("behaves as the model of virtio 1.3 does in random scenarios", () => {
    fc.assert(behavesAsModel(arena, SplitQueue), { numRuns: full ? 20_000 : 1500 });
  });
});
