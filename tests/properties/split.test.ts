/** Random use of a split virtqueue against the reference model. */
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { SplitQueue } from "../../core/split.ts";
import { SplitBigEndianQueue } from "../../core/split-big-endian.ts";
import { Arena } from "./arena.ts";
import { survivesHostileRing } from "./hostile.ts";
import { behavesAsModel, full } from "./property.ts";

describe("SplitQueue", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());

  test("behaves as the model of virtio 1.3 does in random scenarios", () => {
    fc.assert(behavesAsModel(arena, SplitQueue), { numRuns: full ? 20_000 : 1500 });
  });
});

describe("SplitBigEndianQueue", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());

  test("behaves as the model of virtio 1.3 does in random scenarios", () => {
    const property = behavesAsModel(arena, SplitBigEndianQueue, false);
    fc.assert(property, { numRuns: full ? 20_000 : 1000 });
  });

  test("takes the right chains of hostile rings, and no others", () => {
    const property = survivesHostileRing(arena, SplitBigEndianQueue, false);
    fc.assert(property, { numRuns: full ? 50_000 : 2000 });
  });
});
