/** Random use of a packed virtqueue against the reference model. */
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { PackedQueue } from "../../core/packed.ts";
import { Arena } from "./arena.ts";
import { survivesHostilePackedRing } from "./packed-hostile.ts";
import { behavesAsPackedModel } from "./packed-world.ts";
import { full } from "./property.ts";

describe("PackedQueue", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());

  test("behaves as the model of virtio 1.3 does in random scenarios", () => {
    fc.assert(behavesAsPackedModel(arena, PackedQueue), { numRuns: full ? 20_000 : 1500 });
  });

  test("takes what is right and refuses what is wrong, whatever the ring holds", () => {
    fc.assert(survivesHostilePackedRing(arena, PackedQueue), { numRuns: full ? 50_000 : 3000 });
  });
});
